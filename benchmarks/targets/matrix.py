"""Every target at three budgets, as a user types it: submit, export, proof; the table of docs/targets.md.

    python -m benchmarks.targets.matrix --home DIR [--targets vllm,onnx]
    python -m benchmarks.targets.matrix --table

The first runs what the result does not have yet and writes it after every row; the second only writes the table. Text
is the standard library's, searches are short (`--max-trials`), exports are not refit. Each target takes its extra; with
`tightfit[llama-cpp]` beside, llama.cpp judges the GGUF files too.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULT = ROOT / "benchmarks" / "results" / "targets_matrix.json"
DOCUMENT = ROOT / "docs" / "targets.md"
BEGIN, END = "<!-- matrix: begin -->\n", "<!-- matrix: end -->"
_SMALL = ("3bpw", "4.5bpw", "6bpw")
_WITH_DENSE_EMBEDDING = ("5bpw", "6bpw", "7.5bpw")
BUDGETS: Mapping[str, Sequence[str]] = {
    "packed": _SMALL,
    "compressed-tensors": ("5.5bpw", *_WITH_DENSE_EMBEDDING[1:]),
    "gguf": _SMALL,
    "exl3": _WITH_DENSE_EMBEDDING,
    "onnx": _SMALL,
    "mlx": _SMALL,
    "vllm": ("4.5bpw", *_WITH_DENSE_EMBEDDING[1:]),
}
"""target -> what is asked for, within what its files can reach on the bundled model"""
OWN_LOADERS: Mapping[str, str] = {
    "packed": "transformers, with our reader",
    "compressed-tensors": "transformers, with compressed-tensors",
    "gguf": "transformers, with our reader (llama.cpp not installed)",
    "exl3": "transformers, with our reader (exllamav3 needs a GPU)",
    "onnx": "transformers, with our reader",
    "mlx": "transformers, with our reader",
    "vllm": "transformers, with compressed-tensors",
}
"""target -> what loads an export where no runtime of the target told a KL of its own"""
_INTEGERS = ("--bits", "3,4,8,16", "--group-size", "64")
_MENUS: Mapping[str, Sequence[str]] = {
    "packed": ("--bits", "2,3,4,8,16", "--kind", "rotated-trellis", "--sparsity", "0", "--rank", "0"),
    "compressed-tensors": _INTEGERS,
    "gguf": ("--kind", "q2_K,q3_K,q4_K,q6_K,q4_0,q5_0,q8_0"),
    "exl3": ("--bits", "3,4,16"),
    "onnx": ("--bits", "2,4,8,16", "--group-size", "64"),
    "mlx": ("--bits", "2,3,4,6,8,16", "--kind", "affine-g64,affine-g32"),
    "vllm": (*_INTEGERS, "--kind", "integer,integer-a8,float8-af8"),
}
"""target -> a part of what it holds: a table of targets need not wait for all of it"""
_TEXT = ("--calibration", "python-stdlib", "--num-sequences", "32", "--workers", "1")
FLOOR, PART = 5e-5, 0.03  # nats, and part of the recorded KL, by which a runtime's may differ


@dataclass(frozen=True, slots=True)
class Row:
    """One job and its export.

    Attributes:
        target, budget: as asked for.
        commands: what was typed, homes and folders left out.
        budget_bytes, predicted_bytes, size_bytes: allowed, told before, and those of the files' tensors.
        verified: whether the check of the export passed.
        loader: what loaded the files.
        recorded_kl, loaded_kl: on held-out text, nats per token: of the search, and of that loader.

    """

    target: str
    budget: str
    commands: tuple[str, ...]
    budget_bytes: int
    predicted_bytes: int
    size_bytes: int
    verified: bool
    loader: str
    recorded_kl: float
    loaded_kl: float

    @property
    def is_within(self) -> bool:
        """Tell whether the bytes are those that were predicted, and no more than allowed."""
        return self.size_bytes == self.predicted_bytes <= self.budget_bytes

    @property
    def is_near(self) -> bool:
        """Tell whether the loader's KL is the recorded one, within the rule."""
        return abs(self.loaded_kl - self.recorded_kl) <= max(FLOOR, PART * self.recorded_kl)


def run_row(home: Path, target: str, budget: str, max_trials: int) -> Row:
    """Submit and export as a user does; what either refuses ends the program."""
    asked = ("submit", "bundled", "--target", target, "--budget", budget, *_TEXT, *_MENUS.get(target, ()))
    asked = (*asked, "--max-trials", str(max_trials))
    front = _tightfit(home, asked)
    wish = ("export", "--no-refit")
    told = _tightfit(home, (*wish, str(front["job"]), "--out", str(home / "matrix" / f"{target}-{budget}")))
    foreign = told["runtime"]
    return Row(
        target=target,
        budget=budget,
        commands=(" ".join(asked), " ".join(wish)),
        budget_bytes=told["budget_bytes"],
        predicted_bytes=told["predicted_bytes"],
        size_bytes=told["size_bytes"],
        verified=told["verified"],
        loader=foreign or OWN_LOADERS[target],
        recorded_kl=told["recorded_kl_divergence"],
        loaded_kl=told["runtime_kl_divergence"] if foreign else told["kl_divergence"],
    )


def _tightfit(home: Path, arguments: Sequence[str]) -> Any:
    command = [sys.executable, "-m", "tightfit", *arguments, "--home", str(home), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| target | budget | bytes predicted = exported | allowed | loaded by | recorded KL | loaded KL | all hold |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        size = f"{row.size_bytes:,}" if row.size_bytes == row.predicted_bytes else f"{row.size_bytes:,} (not so)"
        holds = "yes" if row.verified and row.is_within and row.is_near else "no"
        kl = f"{row.recorded_kl:.6f} | {row.loaded_kl:.6f}"
        cells = f"`{row.target}` | {row.budget} | {size} | {row.budget_bytes:,} | {row.loader} | {kl} | {holds}"
        lines.append(f"| {cells} |")
    return "\n".join(lines) + "\n"


def read_rows(path: Path = RESULT) -> list[Row]:
    """Return what was run, in the order of targets and budgets; nothing where the file is not there."""
    if not path.exists():
        return []
    rows = [Row(**{**row, "commands": tuple(row["commands"])}) for row in json.loads(path.read_text())["rows"]]
    order = [(target, budget) for target, budgets in BUDGETS.items() for budget in budgets]
    return sorted(rows, key=lambda row: order.index((row.target, row.budget)))


def _write(rows: Sequence[Row], path: Path) -> None:
    document = {"model": "bundled", "rows": list(map(asdict, rows))}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def with_table(document: str, rows: Sequence[Row]) -> str:
    """Return a document with the table between its marks."""
    head, _, rest = document.partition(BEGIN)
    return f"{head}{BEGIN}{table(rows)}{END}{rest.partition(END)[2]}"


def main() -> None:
    """Run what is missing, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a folder for jobs and exports")
    parser.add_argument("--targets", default=",".join(BUDGETS), help="with commas between them")
    parser.add_argument("--max-trials", type=int, default=16)
    parser.add_argument("--table", action="store_true", help="only write the table of docs/targets.md")
    options = parser.parse_args()
    if not options.table and options.home is None:
        parser.error("give --home, or --table")
    for target in () if options.table else options.targets.split(","):
        for budget in BUDGETS[target]:
            known = [row for row in read_rows() if (row.target, row.budget) != (target, budget)]
            if len(known) == len(read_rows()):
                found = run_row(options.home, target, budget, options.max_trials)
                print(found, flush=True)
                _write([*known, found], RESULT)
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8"), read_rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
