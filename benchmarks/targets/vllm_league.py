"""The league of vLLM checkpoints: our plans against uniform ones of the formats that people serve, at no more bytes.

    python -m benchmarks.targets.vllm_league --home DIR [--before CHECKOUT] [--env ENV]

Uniform W4A16 with groups of 128 columns, and W8A8 (a scale a row, inputs rounded token by token), built as our own
levels of that format are: two-sided GPTQ. With them W4A16 as others round it, on the same text: by GPTQ alone
(`--before`, a checkout of 8727642), and by Intel AutoRound in 200 iterations (`--env`, which `make_env.py autoround
ENV` of benchmarks/search/outside made). Ours is the point that a search with their bytes as its budget recommends. KL
to the dense model on the job's held-out text; both judged on the same sequences.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.levels.autoround import autoround_weights
from benchmarks.levels.two_sided import weights_before
from benchmarks.targets.input_rounding import ROOT
from benchmarks.targets.recommended import LeagueRow, league_row, open_home, searched
from space.cost import plan_bytes
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.spec import make_spec
from space.targets.target_table import is_legal
from tightfit.service import Service
from workers.families.read_inventory import inspect_model
from workers.models.model_files import resolve_model

RESULT = ROOT / "benchmarks" / "results" / "targets_vllm.json"
FORMATS = {"W4A16 g128": "b4-g128", "W8A8": "b8-gch-a8"}
TARGET = "vllm"


def main() -> None:
    """Run the league and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--env", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    service, rows = open_home(options.home), []
    for name, text in FORMATS.items():
        for row in _rows(service, name, parse_level(text), options):
            rows.append(row)
            print(row, flush=True)
    RESULT.write_text(json.dumps({"model": "bundled", "rows": [*map(asdict, rows)]}, indent=1) + "\n", encoding="utf-8")


def _rows(service: Service, name: str, level: Level, options: argparse.Namespace) -> Iterator[LeagueRow]:
    inventory = inspect_model(resolve_model("bundled"))
    uniform = Plan.of({m.name: level if is_legal(m, level, TARGET) else DENSE for m in inventory.modules})
    size = plan_bytes(inventory, uniform, TARGET).size_bytes
    own = {"budget": f"{size}B", "target": TARGET, "kinds": ("integer", "integer-a8"), "workers": options.workers}
    found = searched(service, make_spec(model="bundled", calibration="python-stdlib", **own))
    theirs, ours = (found.held_out(inventory, plan) for plan in (uniform, found.plan))
    our_size = plan_bytes(inventory, found.plan, TARGET).size_bytes
    mine = our_size, ours.sequence_kl
    yield league_row(name, (size, theirs.sequence_kl), mine)
    if level.inputs:
        return
    if options.before is not None:
        weights = weights_before(options.before, found.tokens, [level])[level]
        yield league_row(f"{name}, GPTQ", (size, found.held_out_at(weights)), mine)
    if options.env is not None:
        weights = autoround_weights(options.env, found.tokens, level.bits or 0, level.group_size or 0, 200)
        yield league_row(f"{name}, AutoRound", (size, found.held_out_at(weights)), mine)


if __name__ == "__main__":
    main()
