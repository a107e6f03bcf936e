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
LOAD = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")"""
"""What every user of an export types."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program that writes an export: what pip installs it from, and a remark on that, to go on a sentence with."""

    source: str
    remark: str


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
