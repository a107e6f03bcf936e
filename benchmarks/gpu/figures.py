"""What a step of the check measures: in a file as soon as it is known, and no part's failure ends the others."""

import argparse
import json
import resource
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from workers.whole_files import write_text

Clock = Callable[[], float]


@dataclass
class Figures:
    """The figures of one step.

    Attributes:
        device: what is computed on, "cuda" or "cpu".
        work: a folder that the steps share.
        out: the file of the figures.
        deadline: on the monotonic clock; optional parts are not begun after it.
        rows: name, value and unit of each figure.
        failures: what went wrong.

    """

    device: Any
    work: Path
    out: Path
    deadline: float
    rows: list[tuple[str, float | str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def is_small(self) -> bool:
        """Tell whether sizes are those for a CPU."""
        return str(self.device) == "cpu"

    def add(self, name: str, value: float | str, unit: str = "") -> None:
        """Keep and print a figure."""
        self.rows.append((name, value, unit))
        self._keep()
        print(f"{name}: {value} {unit}", flush=True)

    def fail(self, text: str) -> None:
        """Keep what went wrong; the step fails at its end."""
        self.failures.append(text)
        self._keep()
        print(f"FAILED: {text}", flush=True)

    @contextmanager
    def part(self, name: str, *, is_timed: bool = True) -> Iterator[None]:
        """Run a part: its exception becomes a failure, and where it is timed its seconds and peak memory figures."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        clock = clock_of(self.device)
        started = clock()
        try:
            yield
            if is_timed:
                self.add(name, round(clock() - started, 2), "s")
                self.add(f"{name}: peak memory", round(peak_bytes(self.device) / 1e9, 3), "GB")
        except Exception as error:  # noqa: BLE001 (whatever a part raises, the others are measured)
            traceback.print_exc()
            self.fail(f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    def end(self) -> int:
        """Return the exit status of the step."""
        self._keep()
        return 1 if self.failures else 0

    def _keep(self) -> None:
        write_text(self.out, json.dumps({"figures": self.rows, "failures": self.failures}))


def figures_of_arguments() -> Figures:
    """Return the figures that the command line of a step asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder that the steps share")
    parser.add_argument("--out", type=Path, required=True, help="the file of the figures")
    parser.add_argument("--seconds", type=float, required=True, help="when it will be stopped")
    options = parser.parse_args()
    torch.set_num_threads(1)
    return Figures(options.device, options.work, options.out, time.monotonic() + options.seconds)


def clock_of(device: str) -> Clock:
    """Return a clock in seconds that waits for what the device is doing."""

    def after_the_device() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return after_the_device if device == "cuda" else time.perf_counter


def held_bytes(device: str) -> int:
    """Return the memory of a GPU that is taken now; 0 for a CPU."""
    return torch.cuda.memory_allocated() if device == "cuda" else 0


def peak_bytes(device: str) -> int:
    """Return the most memory taken: of the GPU since a part began, or of this process since its start."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
