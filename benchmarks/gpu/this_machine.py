"""A step of the check: which machine it is, whether all that jobs need is there, and how fast its GPU is."""

import platform
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

import torch

from benchmarks.gpu.figures import Figures, clock_of, figures_of_arguments
from tightfit.cli.installation.doctor import examine

_PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "safetensors",
    "huggingface-hub",
    "ray",
    "optuna",
    "sqlalchemy",
    "pydantic",
)
_DOORS = (
    "search.controller",
    "storage.sql.sql_store",
    "workers.pool.ray_pool",
    "workers.recover.refit",
    "tightfit.cli.app",
    "compressed_tensors",
)
_SQUARE, _ROUNDS = 8192, 10


def gpu(figures: Figures) -> None:
    """Add the GPU's name and memory, and what it reaches."""
    about = torch.cuda.get_device_properties(0)
    figures.add("GPU", about.name)
    figures.add("its memory", round(about.total_memory / 1e9, 1), "GB")
    one = torch.randn(_SQUARE, _SQUARE, device="cuda", dtype=torch.bfloat16)
    other, clock = torch.empty_like(one), clock_of("cuda")
    works: dict[str, tuple[Callable[[], object], float, str]] = {
        "bfloat16 products": (lambda: torch.mm(one, one, out=other), 2 * _SQUARE**3 / 1e12, "TFLOP/s"),
        "copies, read and write": (lambda: other.copy_(one), 2 * one.nbytes / 1e9, "GB/s"),
    }
    for name, (work, amount, unit) in works.items():
        work()
        started = clock()
        for _ in range(_ROUNDS):
            work()
        figures.add(name, round(_ROUNDS * amount / (clock() - started), 1), unit)


def main() -> int:
    """Look and say."""
    figures = figures_of_arguments()
    figures.add("Python", platform.python_version())
    for name in _PACKAGES:
        with figures.part(name, is_timed=False):
            figures.add(name, version(name))
    for name in _DOORS:
        with figures.part(f"import {name}", is_timed=False):
            import_module(name)
    with figures.part("doctor", is_timed=False):
        for finding in examine(figures.work / "home"):
            print(finding)
            if not finding.ok and not finding.name.startswith("port"):  # of other programs of this machine
                figures.fail(f"doctor: {finding.name}: {finding.seen}")
    if figures.device == "cuda":
        with figures.part("GPU", is_timed=False):
            gpu(figures)
    return figures.end()


if __name__ == "__main__":
    sys.exit(main())
