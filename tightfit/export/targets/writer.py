"""What every writer of a target's files has: tensors by copying packed bytes, and what loaders read beside them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from tightfit.export.container import Entry
from workers.models.headers import StoredTensor

LevelTensors = Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class Program:
    """The program that writes an export.

    Attributes:
        source: what pip installs it from.
        remark: on that, to go on a sentence with.
        loader: transformers' class that loads the model.

    """

    source: str
    remark: str
    loader: str

    @property
    def loading(self) -> str:
        """Return what every user of an export types."""
        return f"""from transformers import {self.loader}, AutoTokenizer

model = {self.loader}.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")"""


@dataclass(frozen=True, slots=True)
class Writer:
    """How one target's files are written.

    Attributes:
        entries: (module, level, its tensors in the level store) -> tensors of the export.
        config: (inventory, plan) -> fields of config.json for the whole plan.
        keeps_digests: the `quantization_config` holds the digests of the weight files, for our own loader; others
            refuse fields that they do not know.
        loading: program -> how to load an export, in Markdown.

    """

    entries: Callable[[ModuleInfo, Level, LevelTensors], list[Entry]]
    config: Callable[[Inventory, Plan], dict[str, Any]]
    keeps_digests: bool
    loading: Callable[[Program], str]
