"""All steps of the check of a machine with a GPU, each in a process of its own that is stopped in time.

    python -m benchmarks.gpu --device cuda --out build/gpu [--seconds 450] [--only STEP,...]
    python -m benchmarks.gpu --table build/gpu/gpu.json           # puts a run's figures into docs/benchmarks.md

tools/gpu_check.sh runs it where little is installed. In the folder OUT are gpu.json and gpu.md with all that was
measured, also where a step failed, and each step's output. The exit status is 1 where one did.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
STEPS = {"this_machine": 60, "whole_job": 130, "large_model": 115, "packed_speed": 50, "marked_tests": 95}
"""step -> its share of the time, in seconds of 450; what one leaves is the next ones'"""
_GRACE_SECONDS = 5.0
State = Literal["passed", "failed", "stopped", "not begun"]


@dataclass
class Step:
    """What became of a step.

    Attributes:
        name: its module in this package.
        state: "stopped" is at the end of its time.
        seconds: that it took.
        figures: name, value and unit.
        failures: what went wrong.

    """

    name: str
    state: State = "not begun"
    seconds: float = 0.0
    figures: list[tuple[str, float | str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def program(name: str) -> list[str]:
    """Return the command of a step, up to its arguments."""
    return [sys.executable, "-m", f"benchmarks.gpu.{name}"]


def run_step(name: str, device: str, work: Path, out: Path, seconds: float) -> Step:
    """Run a step in a process of its own, with all that it starts, for at most so long."""
    step, found, started = Step(name), out / f"{name}.json", time.monotonic()
    found.unlink(missing_ok=True)
    arguments = ["--device", device, "--work", str(work), "--out", str(found), "--seconds", str(seconds)]
    with (out / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*program(name), *arguments], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        try:
            step.state = "passed" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            step.state = "stopped"
            step.failures.append(f"stopped after {seconds:.0f} s")
        finally:
            _stop(process)
    step.seconds = round(time.monotonic() - started, 1)
    if found.exists():
        answer = json.loads(found.read_text(encoding="utf-8"))
        step.figures, step.failures = answer["figures"], answer["failures"] + step.failures
    if step.state == "failed" and not step.failures:
        step.failures.append(f"ended with {process.returncode}: {_last_line(out / f'{name}.log')}")
    return step


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all others of its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def run_steps(device: str, out: Path, seconds: float, names: Sequence[str]) -> list[Step]:
    """Run steps one after the other; what is known is written after each."""
    steps, end, shares = [Step(name) for name in names], time.monotonic(), sum(STEPS[name] for name in names)
    with TemporaryDirectory(prefix="tightfit-gpu-") as work:
        for index, name in enumerate(names):
            end += seconds * STEPS[name] / shares
            print(f"{name}: until {end - time.monotonic():.0f} s from now", file=sys.stderr, flush=True)
            if (left := end - time.monotonic()) > 1:
                steps[index] = run_step(name, device, Path(work), out, left)
            write(device, steps, out)
            print(f"{name}: {steps[index].state} after {steps[index].seconds} s", file=sys.stderr, flush=True)
    return steps


def write(device: str, steps: Sequence[Step], out: Path) -> None:
    """Write what is known, as JSON and as tables."""
    document = {"device": device, "steps": [asdict(step) for step in steps]}
    (out / "gpu.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text(tables(document) + "\n", encoding="utf-8")


def tables(document: Mapping[str, Any]) -> str:
    """Return a run's figures as Markdown."""
    from benchmarks.search.tables import table  # a step's end needs no numpy

    steps = document["steps"]
    states = [(s["name"], s["state"], f"{s['seconds']:g} s", "; ".join(s["failures"])) for s in steps]
    rows = [(s["name"], name, f"{_told(value)} {unit}".strip()) for s in steps for name, value, unit in s["figures"]]
    parts = [table(("step", "state", "took", "what went wrong"), states), table(("step", "figure", "value"), rows)]
    return "\n\n".join(parts)


def _told(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def main() -> int:
    """Run the steps, or put a run's figures into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="a CPU runs smaller sizes")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--seconds", type=float, default=float(sum(STEPS.values())), help="for all steps together")
    parser.add_argument("--only", default=",".join(STEPS), help="names of steps with commas between them")
    parser.add_argument("--table", type=Path, help="a gpu.json whose figures go into docs/benchmarks.md")
    options = parser.parse_args()
    if options.table is not None:
        from benchmarks.search.tables import between_markers

        inside = tables(json.loads(options.table.read_text(encoding="utf-8")))
        PAGE.write_text(between_markers(PAGE.read_text(encoding="utf-8"), inside, "gpu"), encoding="utf-8")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stops the step and leaves no files behind
    names = options.only.split(",")
    if unknown := [name for name in names if name not in STEPS]:
        parser.error(f"--only: {unknown[0]} is no step; there are {', '.join(STEPS)}")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    steps = run_steps(options.device, out, options.seconds, names)
    print((out / "gpu.md").read_text(encoding="utf-8"))
    return 0 if all(step.state == "passed" for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
