"""What every writer of a target's files has: tensors by copying packed bytes, and what loaders read beside them."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from space.inventory import Inventory, ModuleInfo
from space.level import DENSE, Level
from space.plan import Plan
from tightfit.export.container import Entry, stored_entry, write_container
from tightfit.export.source import Source
from workers.models.companions import check_inside, companion_files, licence_files, published, published_bytes
from workers.models.digests import file_digest
from workers.models.headers import StoredTensor, read_header
from workers.models.model_files import read_config, read_headers
from workers.runtime.packed_format import WEIGHTS_FIELD

WEIGHTS = "model.safetensors"
LevelTensors = Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class Cache:
    """The key/value cache that a budget counted.

    Attributes:
        context: tokens of a sequence; 0: no cache was counted.
        batch: sequences.
        level: of all keys and values, where the runtime must be told it.
        head_size: values of a head.

    """

    context: int = 0
    batch: int = 1
    level: Level = DENSE
    head_size: int = 0

    @staticmethod
    def of(context: int, batch: int, inventory: Inventory, plan: Plan) -> "Cache":
        """Return what a budget counted for a plan."""
        size = inventory.caches[0].in_features if inventory.caches else 0
        return Cache(context, batch, plan.cache_level, size)


NO_CACHE = Cache()


@dataclass(frozen=True, slots=True)
class Program:
    """The program that writes an export.

    Attributes:
        source: what pip installs it from.
        remark: on that, to go on a sentence with.
        loader: transformers' class that loads the model.
        reader: transformers' class that makes its inputs.
        cache: what the budget counted beside the weights; runtimes are told to take no more.

    """

    source: str
    remark: str
    loader: str
    reader: str
    cache: Cache = NO_CACHE

    @property
    def loading(self) -> str:
        """Return what every user of an export types."""
        name = "tokenizer" if self.reader == "AutoTokenizer" else "processor"
        return f"""from transformers import {self.loader}, {self.reader}

model = {self.loader}.from_pretrained("this folder")
{name} = {self.reader}.from_pretrained("this folder")"""


class TargetWriter(Protocol):
    """How one target's files are written."""

    @property
    def library(self) -> str:
        """Return what the hub calls the library that loads an export."""
        ...

    def write(self, folder: Path, source: Source) -> tuple[int, dict[str, str]]:
        """Write all files into an empty folder; return the bytes of the tensors, and weight file -> sha256.

        Raises:
            LevelDamagedError: a level has gone or was damaged.
            ModelError: a file beside the model leads out of its folder, or the target cannot hold the model.

        """
        ...

    def stored_bytes(self, folder: Path, inventory: Inventory, plan: Plan) -> Mapping[str, int | None]:
        """Return module name -> bytes of its weight in the files."""
        ...

    def commands(self, folder: Path, cache: Cache = NO_CACHE) -> Sequence[str]:
        """Return what a user types to run an export with a cache; nothing where a program is needed (see `loading`)."""
        ...

    @property
    def loading(self) -> Callable[[Program], str]:
        """Return program -> how to load an export, in Markdown."""
        ...


@dataclass(frozen=True, slots=True)
class Writer:
    """How a Hugging Face folder is written: weights in one file, config and tokenizer beside it.

    Attributes:
        entries: (module, level, its tensors in the level store) -> tensors of the export.
        config: (inventory, plan) -> fields of config.json for the whole plan.
        keeps_digests: the `quantization_config` holds the digests of the weight files, for our own loader; others
            refuse fields that they do not know.
        loading: program -> how to load an export, in Markdown.
        weights: the name of the file of the weights.
        library: what the hub calls the library that loads it.
        beside: (inventory, plan) -> name -> content of further JSON files.
        defaults: (searched model's folder) -> fields of config.json that its loader must be told.

    """

    entries: Callable[[ModuleInfo, Level, LevelTensors], list[Entry]]
    config: Callable[[Inventory, Plan], dict[str, Any]]
    keeps_digests: bool
    loading: Callable[[Program], str]
    weights: str = WEIGHTS
    library: str = "transformers"
    beside: Callable[[Inventory, Plan], dict[str, dict[str, Any]]] = lambda *_: {}
    defaults: Callable[[Path], dict[str, Any]] = lambda _: {}

    def write(self, folder: Path, source: Source) -> tuple[int, dict[str, str]]:
        """Write the folder; see `TargetWriter`."""
        size = write_container(folder / self.weights, self._entries(source))
        digests = {self.weights: file_digest(folder / self.weights)}
        config = published(read_config(source.model_folder))
        config.pop(WEIGHTS_FIELD, None)  # they have their usual name here
        config |= self.defaults(source.model_folder) | self.config(source.inventory, source.plan)
        if self.keeps_digests:
            config["quantization_config"]["digests"] = digests
        write_json(folder / "config.json", config)
        for name, content in self.beside(source.inventory, source.plan).items():
            write_json(folder / name, content)
        copy_companions(source.model_folder, folder)
        return size, digests

    def stored_bytes(self, folder: Path, inventory: Inventory, plan: Plan) -> Mapping[str, int | None]:
        """Return module name -> bytes of its weight in the file."""
        sizes = {tensor.info.name: tensor.info.size_bytes for tensor in read_header(folder / self.weights)}
        inside: dict[str, int] = {}
        for name, size in sizes.items():
            owner = name.rpartition(".")[0]
            if not name.endswith(".bias"):
                inside[owner] = inside.get(owner, 0) + size
        shared = Counter(source for module in inventory.modules for source in module.sources)  # by experts apart
        return {
            module.name: sum(sizes[name] // shared[name] for name in module.sources if name in sizes)
            if plan[module.name].is_dense
            else inside.get(module.prefix)
            for module in inventory.modules
        }

    def commands(self, _: Path, __: Cache = NO_CACHE) -> Sequence[str]:
        """Return nothing: a folder is loaded by a program."""
        return ()

    def dense_entries(self, module: ModuleInfo, stored: Mapping[str, StoredTensor]) -> list[Entry]:
        """Return the entries of a module that stays dense."""
        return [stored_entry(name, stored[name]) for name in module.sources]

    def _entries(self, source: Source) -> list[Entry]:
        stored = read_headers(source.model_folder)
        entries = [stored_entry(tensor.name, stored[tensor.name]) for tensor in source.inventory.others]
        for module in source.inventory.modules:
            level: Level = source.plan[module.name]
            if level.is_dense:
                entries += self.dense_entries(module, stored)
            else:
                source.levels.tensors(module.name, level)  # raises where the file is damaged
                tensors = {t.info.name: t for t in read_header(source.levels.path(module.name, level))}
                entries += self.entries(module, level, tensors)
        by_name = {entry.info.name: entry for entry in entries}  # experts apart have some together
        return [by_name[name] for name in sorted(by_name)]


def copy_companions(model_folder: Path, folder: Path) -> None:
    """Copy what lies beside a model and belongs to it, as far as it is fit to be published."""
    for path in check_companions(model_folder):
        copy = folder / path.relative_to(model_folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(published_bytes(path))


def check_companions(model_folder: Path) -> list[Path]:
    """Return the files of a model that are copied into its exports.

    Raises:
        ModelError: one of them is a link that leads out of the model's folder.

    """
    found = [*companion_files(model_folder), *licence_files(model_folder)]
    check_inside(model_folder, found)
    return found


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object as people read it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
