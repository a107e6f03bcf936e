"""A mixture of experts searched with its experts tied and apart, beside uniform plans.

    python -m benchmarks.mixtures.train_mixture MODEL
    python -m benchmarks.mixtures.tied_and_apart MODEL [--out FILE] [--max-trials 400]

Two jobs on the same text. For every uniform bit-width: its KL divergence on held-out text, and that of each front at no
more bytes. Token-forwards are all that a job spent.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from space.results.document import FrontDocument
from space.spec import make_spec
from storage.tracking.contract import NullTracker
from tightfit.config import Settings
from tightfit.service import Service

_REQUEST: dict[str, Any] = {
    "budget": "3.25bpw",
    "calibration": "python-stdlib",
    "bits": (2, 3, 4, 6),
    "group_sizes": (64,),
    "sparsities": (0.0,),
    "ranks": (0,),
    "kinds": ("integer",),
    "num_samples": 64,
    "num_search_samples": 16,
    "num_held_out_samples": 32,
}


class PlainService(Service):
    """A service that shows its jobs nowhere."""

    def _tracker(self) -> NullTracker:
        return NullTracker()


def search(model: Path, home: Path, experts: str, max_trials: int) -> FrontDocument:
    """Return the front of one job."""
    service = PlainService(Settings(home, f"sqlite:///{home / 'tightfit.db'}", None))
    job = service.submit(make_spec(model=str(model), experts=experts, max_trials=max_trials, **_REQUEST))
    service.run(job.job_id, inline=True)
    return service.front(job.job_id)


def rows(fronts: dict[str, FrontDocument]) -> list[dict[str, Any]]:
    """Return for each uniform plan its size and KL, and the KL of each front at no more bytes."""
    found = []
    for uniform in fronts["tied"].uniform:
        row: dict[str, Any] = {"level": uniform.level, "size_bytes": uniform.size_bytes}
        for name, front in fronts.items():
            same = next(u for u in front.uniform if u.level == uniform.level)
            fitting = [p for p in front.front if p.size_bytes <= uniform.size_bytes]
            best = min(fitting, key=lambda p: p.kl_divergence)
            row[name] = {
                "uniform_kl": same.kl_divergence,
                "uniform_kl_ci95": same.kl_divergence_ci95,
                "front_kl": best.kl_divergence,
                "front_kl_ci95": best.kl_divergence_ci95,
                "front_bytes": best.size_bytes,
            }
        found.append(row)
    return found


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--max-trials", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        names = ("tied", "apart")
        fronts = {name: search(options.model, Path(home), name, options.max_trials) for name in names}
    costs = {
        name: {
            "token_forwards": front.cost.token_forwards,
            "trials": front.cost.trials,
            "experts": front.experts and front.experts.to_json(),
            "dense_perplexity": front.dense.perplexity,
            "dense_bytes": front.dense.size_bytes,
        }
        for name, front in fronts.items()
    }
    result = {"request": _REQUEST, "max_trials": options.max_trials, "jobs": costs, "rows": rows(fronts)}
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
