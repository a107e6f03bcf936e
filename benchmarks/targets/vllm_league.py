"""The league of vLLM checkpoints: our plans against uniform ones of the formats that people serve, at no more bytes.

    python -m benchmarks.targets.vllm_league --home DIR

Uniform W4A16 with groups of 128 columns, and W8A8 (a scale a row, inputs rounded token by token), built as our own
levels of that format are: two-sided GPTQ. Ours is the point that a search with their bytes as its budget recommends. KL
to the dense model on the job's held-out text; both judged on the same sequences.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.targets.input_rounding import ROOT
from space.cost import plan_bytes
from space.inventory import Inventory
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.results.front import paired_interval
from space.spec import make_spec
from space.targets.target_table import is_legal
from storage.sound_records import ground_of
from tightfit.config import Settings
from tightfit.searched_model import front_plans
from tightfit.service import Service
from workers.families.read_inventory import inspect_model
from workers.models.model_files import resolve_model
from workers.tasks import Evaluate, Workspace
from workers.text.tokens import TokenSet
from workers.worker import Worker

RESULT = ROOT / "benchmarks" / "results" / "targets_vllm.json"
FORMATS = {"W4A16 g128": "b4-g128", "W8A8": "b8-gch-a8"}
TARGET = "vllm"


@dataclass(frozen=True, slots=True)
class Row:
    """One format and our plan at its bytes."""

    name: str
    size_bytes: int
    kl_divergence: float
    our_size_bytes: int
    our_kl_divergence: float
    ratio: float
    difference_ci95: tuple[float, float]


def main() -> None:
    """Run the league and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    service = Service(Settings(options.home, f"sqlite:///{options.home / 'tightfit.db'}", None))
    inventory, rows = inspect_model(resolve_model("bundled")), []
    for name, text in FORMATS.items():
        level: Level = parse_level(text)
        uniform = Plan.of({m.name: level if is_legal(m, level, TARGET) else DENSE for m in inventory.modules})
        size = plan_bytes(inventory, uniform, TARGET).size_bytes
        rows.append(_row(service, _searched(service, size, options.workers), name, inventory, uniform))
        print(rows[-1], flush=True)
    RESULT.write_text(json.dumps({"model": "bundled", "rows": [*map(asdict, rows)]}, indent=1) + "\n", encoding="utf-8")


def _row(service: Service, job_id: str, name: str, inventory: Inventory, uniform: Plan) -> Row:
    ground, document = ground_of(service.store.get_job(job_id)), service.front(job_id)
    worker = Worker(Workspace(str(resolve_model("bundled")), ground.cache_folder, ground.model_digest, inventory))
    tokens = TokenSet.from_json(ground.tokens.to_json())
    best = document.recommended
    if best is None:
        raise SystemExit(f"{job_id}: no point fits")
    own = front_plans(document, service.store.list_trials(job_id))[best.point]
    found = []
    for plan in (uniform, own):
        task = Evaluate(tokens, plan, "held_out")
        worker.provide(task)
        found.append(worker.run(task))
    theirs, ours = found
    return Row(
        name=name,
        size_bytes=plan_bytes(inventory, uniform, TARGET).size_bytes,
        kl_divergence=theirs.kl_divergence,
        our_size_bytes=plan_bytes(inventory, own, TARGET).size_bytes,
        our_kl_divergence=ours.kl_divergence,
        ratio=ours.kl_divergence / theirs.kl_divergence,
        difference_ci95=paired_interval(ours.sequence_kl, theirs.sequence_kl),
    )


def _searched(service: Service, size: int, workers: int) -> str:
    kinds = ("integer", "integer-a8")
    own = {"budget": f"{size}B", "target": TARGET, "kinds": kinds, "workers": workers}
    job = service.submit(make_spec(model="bundled", calibration="python-stdlib", **own))
    service.run(job.job_id)
    return job.job_id


if __name__ == "__main__":
    main()
