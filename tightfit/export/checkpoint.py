"""Writing a chosen plan as a Hugging Face folder: whole or absent."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from space.cost import plan_bytes
from space.errors import SpecError, VerificationError
from space.inventory import Inventory
from space.plan import Plan
from space.targets.target_table import TARGETS, is_legal, items_of_model
from tightfit.export.early import check_free
from tightfit.export.source import Source, Written
from tightfit.export.targets.writer import write_json
from tightfit.export.targets.writer_table import WRITERS
from workers.whole_files import writing

_WHAT_NEXT = "Free some disk space, or give another folder with --out."


def check_format(inventory: Inventory, plan: Plan, target: str) -> None:
    """Refuse a plan that a format cannot hold.

    Raises:
        SpecError: names the first module that does not fit, or two that the format ties to one level and differ.

    """
    if (why := _why_not_held(inventory, plan, target)) is None:
        return
    able = [name for name in TARGETS if _why_not_held(inventory, plan, name) is None]
    export = f"Export with --format {' or '.join(able)}, or submit" if able else "Submit"
    raise SpecError(f"{why}. {export} a job with --target {target}.")


def _why_not_held(inventory: Inventory, plan: Plan, target: str) -> str | None:
    """Return why a format cannot hold a plan; None where it can."""
    for module in inventory.sites:
        if not is_legal(module, level := plan[module.name], target):
            return f"{module.name} is {level}, which {target} cannot hold"
    for names in items_of_model(inventory, target).values():
        first = plan[names[0]]
        for name in names:
            if plan[name] != first:
                told = f"{names[0]} is {first} and {name} is {plan[name]}"
                return f"{told}, but {target} has them at one level"
    return None


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


def write_checkpoint(folder: Path, source: Source, target: str) -> Written:
    """Write what a target's loader needs into a folder that exists and is empty.

    Raises:
        LevelDamagedError: a level has gone or was damaged.
        ModelError: a file beside the model leads out of its folder, or the target cannot hold the model.

    """
    writer = WRITERS[target]
    size, digests = writer.write(folder, source)
    predicted = plan_bytes(source.inventory, source.plan, target).weight_bytes
    file_bytes = sum((folder / name).stat().st_size for name in digests)
    return Written(folder, size, file_bytes, predicted, digests)


def write_papers(written: Written, record: dict[str, Any], card: str) -> None:
    """Write what was found out about an export beside it: `compression.json`, and the model card as README.md."""
    write_json(written.folder / "compression.json", {**record, "sha256": written.digests})
    (written.folder / "README.md").write_text(card, encoding="utf-8")


def is_written(folder: Path, digests: object) -> bool:
    """Tell whether a folder is a whole export, with weight files of these digests in its record."""
    try:
        record = json.loads((folder / "compression.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("sha256") == digests
