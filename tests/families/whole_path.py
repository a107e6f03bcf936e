"""A family's path from its config to a verified export: of a job of a few trials, or without a search.

    python -m tests.families.whole_path [--families NAME,...] [--whole] [--write]

`--whole` runs a job on each; `--write` writes the table of `docs/families.md`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from space.errors import TightfitError
from space.inventory import Inventory
from space.question import QUESTIONS
from tests.end_to_end.jobs import open_service, run_job, small_spec
from tests.families.sample_sources import source_of
from tests.families.short_path import walk
from tests.families.zoo import make_family
from tests.families.zoo_configs import CAUSAL, OTHERS
from tests.families.zoo_processors import SEES_IMAGES
from workers.families.read_inventory import inspect_model

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "families.md"
BEGIN, END = "<!-- zoo: begin -->", "<!-- zoo: end -->"
ENOUGH = 0.95
LESS = (
    *("deepseek_v4", "llama4", "minimax", "mistral3", "qwen2_audio", "siglip-vision", "smolvlm", "voxtral", "wav2vec2"),
    "zamba2",
)
"""families of which less is searched: sound beside text, processors that need packages that are not here, torch's own
attention, convolutions over sound, tables, stored constants, layers that several blocks share"""
_MENU = {"budget": "60%", "bits": (4, 8), "group_sizes": (32,), "sparsities": (0.0,), "ranks": (0,), "max_trials": 8}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a family.

    Attributes:
        family: its name in the zoo.
        kind: the entry of `FAMILIES` that its model is of; None where it is refused.
        sites: where levels may go.
        share: part of its bytes that is searched.
        told: "verified", or why not.
        left: the largest part that is not searched and why, where less than 95 % are.

    """

    family: str
    kind: str | None
    sites: int
    share: float
    told: str
    left: str = ""

    @property
    def row(self) -> str:
        """Return its line in the document's table."""
        told = f"{self.told}; {self.left}" if self.left else self.told
        return f"| {self.family} | {self.kind or ''} | {self.sites or ''} | {self.share:.1%} | {told} |"


def judge(family: str, folder: Path, *, whole: bool = True) -> Verdict:
    """Take a family from its config to a verified export, in a folder that is empty."""
    model = make_family(family, folder / "model")
    try:
        inventory = inspect_model(model, images=family in SEES_IMAGES)
    except TightfitError as error:
        told = str(error).removeprefix(f"{model}: ").replace("|", "/")
        return Verdict(family, None, 0, 0.0, f"refused: {told}")
    share = sum(m.weight.size_bytes for m in inventory.modules) / inventory.dense_bytes
    try:
        difference = _job(model, folder, inventory.family) if whole else walk(model, folder, inventory)
        told = "verified" if difference == 0 else f"verified to {difference:.1g}"
    except Exception as error:  # noqa: BLE001 (a fault is a verdict, too)
        reason = (str(error).splitlines() or ["it measures otherwise from a kept block on"])[0]
        told = f"fails: {reason}" if isinstance(error, TightfitError | AssertionError) else f"fails: {error!r}"
    left = _largest_left(inventory) if share < ENOUGH else ""
    return Verdict(family, inventory.family, len(inventory.modules), share, told, left)


def _largest_left(inventory: Inventory) -> str:
    """Return the largest part that is not searched, its share, and why."""
    carried = max(inventory.carried, key=lambda part: part.size_bytes, default=None)
    tensor = max(inventory.others, key=lambda part: part.size_bytes)
    if carried is not None and carried.size_bytes > tensor.size_bytes:
        return f"{carried.name} ({carried.size_bytes / inventory.dense_bytes:.1%}): {carried.reason}"
    shape = " x ".join(map(str, tensor.shape))
    why = "values of no linear layer, embedding, stack of experts or patches"
    return f"{tensor.name} ({shape}, {tensor.size_bytes / inventory.dense_bytes:.1%}): {why}"


def _job(model: Path, folder: Path, kind: str) -> float:
    spec = small_spec(model, source_of(QUESTIONS[kind].samples, folder), **_MENU)
    service = open_service(folder / "home")
    job_id, _ = run_job(service, spec)
    return service.export(job_id, folder / "out", refit=False).logit_difference


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the document's table, and how many of each verdict there are."""
    verified = sum(verdict.told.startswith("verified") for verdict in verdicts)
    head = "| family | kind | sites | bytes searched | verdict |\n| --- | --- | --- | --- | --- |"
    rows = "\n".join(verdict.row for verdict in verdicts)
    return f"{verified} of {len(verdicts)} verified.\n\n{head}\n{rows}"


def write_table(text: str) -> None:
    """Put a table between the document's marks."""
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    """Judge families, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", help="names, between commas")
    parser.add_argument("--write", action="store_true", help="write the document's table")
    parser.add_argument("--whole", action="store_true", help="run a job on each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.families.split(",") if options.families else [*CAUSAL, *OTHERS]
    verdicts = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="tightfit-zoo-") as folder:
            verdicts.append(judge(name, Path(folder), whole=options.whole))
        print(verdicts[-1].row, flush=True)
    if options.write:
        write_table(table(verdicts))
    sys.exit(any(verdict.told.startswith("fails") for verdict in verdicts))


if __name__ == "__main__":
    main()
