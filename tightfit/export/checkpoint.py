"""Writing a chosen plan as a Hugging Face folder: whole or absent."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from space.cost import plan_cost
from space.errors import SpecError, VerificationError
from space.inventory import Inventory
from space.level import Level
from space.plan import Plan
from space.targets.target_table import is_legal
from tightfit.export.container import Entry, stored_entry, write_container
from tightfit.export.early import check_free
from tightfit.export.targets.writer_table import WRITERS
from workers.levels.level_store import LevelStore
from workers.models.companions import check_inside, companion_files, licence_files, published, published_bytes
from workers.models.digests import file_digest
from workers.models.headers import read_header
from workers.models.model_files import read_config, read_headers
from workers.runtime.packed_format import WEIGHTS_FIELD
from workers.whole_files import writing

WEIGHTS = "model.safetensors"
_WHAT_NEXT = "Free some disk space, or give another folder with --out."


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: bytes of the tensors, of the whole weight file, what `cost` had said, and name -> sha256."""

    folder: Path
    size_bytes: int
    file_bytes: int
    predicted_bytes: int
    digests: dict[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plan's bytes come from."""

    model_folder: Path
    inventory: Inventory
    levels: LevelStore
    plan: Plan


def check_format(inventory: Inventory, plan: Plan, target: str) -> None:
    """Refuse a plan that a format cannot hold.

    Raises:
        SpecError: names the first module that does not fit.

    """
    for module in inventory.modules:
        level = plan[module.name]
        if not is_legal(module, level, target):
            raise SpecError(
                f"{module.name} is {level}, which {target} cannot hold. Export with --format packed, "
                f"or submit a job with --target {target}."
            )


@contextmanager
def new_folder(out: Path, name: str | None = None) -> Iterator[Path]:
    """Yield a folder beside `out` that becomes `out` when all went well, and leaves nothing when not.

    A `name` is that of who makes it, so that he finds what a killed process of his left, and begins again. What failed
    its verification is kept for a look, as `out` with `.unverified` behind it, never as `out`.

    Raises:
        OutputError: `out` exists and is not empty, or cannot be written: now, or when the disk is full amid the work.

    """
    out = out.absolute()
    with writing(out, _WHAT_NEXT):
        check_free(out)
        temporary = begun_folder(out, name or secrets.token_hex(4))
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _put_in_place(temporary, out)
        except VerificationError as error:
            raise _kept_for_a_look(temporary, out, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def begun_folder(out: Path, name: str) -> Path:
    """Return where `out` is written until it is whole."""
    return out.with_name(f".{out.name}.{name}.tmp")


def _put_in_place(temporary: Path, out: Path) -> None:
    if out.exists():
        out.rmdir()
    temporary.replace(out)


def _kept_for_a_look(temporary: Path, out: Path, error: VerificationError) -> VerificationError:
    """Keep the files of a failed verification under another name, and say where."""
    kept = _unverified(out)
    temporary.replace(kept)
    told = str(error).replace(str(temporary), str(out))
    return VerificationError(f"{told}. The files are kept in {kept} for a look; do not use them.")


def _unverified(out: Path) -> Path:
    """Return a name beside `out` that is not taken and cannot be mistaken for a good export."""
    taken = {path.name for path in out.parent.iterdir()}
    names = (f"{out.name}.unverified{f'-{i}' if i > 1 else ''}" for i in count(1))
    return out.with_name(next(name for name in names if name not in taken))


def check_companions(model_folder: Path) -> list[Path]:
    """Return the files of a model that are copied into its exports.

    Raises:
        ModelError: one of them is a link that leads out of the model's folder.

    """
    found = [*companion_files(model_folder), *licence_files(model_folder)]
    check_inside(model_folder, found)
    return found


def write_checkpoint(folder: Path, source: Source, target: str) -> Written:
    """Write weights, config and tokenizer into a folder that exists and is empty.

    Raises:
        LevelDamagedError: a level has gone or was damaged.
        ModelError: a file beside the model leads out of its folder.

    """
    size = write_container(folder / WEIGHTS, _entries(source, target))
    digests = {WEIGHTS: file_digest(folder / WEIGHTS)}
    config = published(read_config(source.model_folder))
    config.pop(WEIGHTS_FIELD, None)  # they have their usual name here
    config |= WRITERS[target].config(source.inventory, source.plan)
    if WRITERS[target].keeps_digests:
        config["quantization_config"]["digests"] = digests
    _write_json(folder / "config.json", config)
    for path in check_companions(source.model_folder):
        copy = folder / path.relative_to(source.model_folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(published_bytes(path))
    predicted = plan_cost(source.inventory, source.plan, target).weight_bytes
    return Written(folder, size, (folder / WEIGHTS).stat().st_size, predicted, digests)


def write_papers(written: Written, record: dict[str, Any], card: str) -> None:
    """Write what was found out about an export beside it: `compression.json`, and the model card as README.md."""
    _write_json(written.folder / "compression.json", {**record, "sha256": written.digests})
    (written.folder / "README.md").write_text(card, encoding="utf-8")


def is_written(folder: Path, digests: object) -> bool:
    """Tell whether a folder is a whole export, with weight files of these digests in its record."""
    try:
        record = json.loads((folder / "compression.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("sha256") == digests


def _entries(source: Source, target: str) -> list[Entry]:
    stored = read_headers(source.model_folder)
    entries = [stored_entry(tensor.name, stored[tensor.name]) for tensor in source.inventory.others]
    for module in source.inventory.modules:
        level: Level = source.plan[module.name]
        if level.is_dense:
            entries += [stored_entry(name, stored[name]) for name in module.sources]
        else:
            source.levels.tensors(module.name, level)  # raises where the file is damaged
            tensors = {t.info.name: t for t in read_header(source.levels.path(module.name, level))}
            entries += WRITERS[target].entries(module, level, tensors)
    return sorted(entries, key=lambda entry: entry.info.name)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
