"""The league of vLLM checkpoints: our plans against uniform ones of the formats that people serve, at no more bytes.

    python -m benchmarks.targets.vllm_league --home DIR [--before CHECKOUT] [--env ENV] [--formats NVFP4A16,NVFP4]

Uniform W4A16 with groups of 128 columns, and W8A8 (a scale a row, inputs rounded token by token), built as our own
levels of that format are: two-sided GPTQ. With them W4A16 as others round it, on the same text: by GPTQ alone
(`--before`, a checkout of 8727642), and by Intel AutoRound in 200 iterations (`--env`, which `make_env.py autoround
ENV` of benchmarks/search/outside made). Floats of 4 bits with inputs as they are (NVFP4A16, MXFP4A16) and with inputs
rounded alike (NVFP4), as our levels are built and as llm-compressor's presets round them. Ours is the point that a
search with their bytes as its budget recommends. KL to the dense model on the job's held-out text; both judged on the
same sequences.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.levels.autoround import autoround_weights
from benchmarks.levels.two_sided import weights_before
from benchmarks.targets.input_rounding import ROOT
from benchmarks.targets.nearest_floats import nearest_floats
from benchmarks.targets.recommended import LeagueRow, Searched, league_row, open_home, searched
from space.codings.float4_coding import FLOAT4_GROUPS, MXFP4
from space.cost import plan_bytes
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.spec import make_spec
from space.targets.target_table import is_legal
from tightfit.service import Service
from workers.families.read_inventory import inspect_model
from workers.models.model_files import resolve_model

RESULT = ROOT / "benchmarks" / "results" / "targets_vllm.json"
FORMATS = {
    "W4A16 g128": ("b4-g128", ("integer", "integer-a8")),
    "W8A8": ("b8-gch-a8", ("integer", "integer-a8")),
    "NVFP4A16": ("nvfp4", ("integer", "nvfp4")),
    "MXFP4A16": ("mxfp4", ("integer", "nvfp4", "mxfp4")),
    "NVFP4": ("nvfp4-a4", ("integer-a8", "nvfp4-a4", "float8-af8")),
}
"""format -> its level, and the kinds of the search that has its bytes"""
TARGET = "vllm"


def main() -> None:
    """Run the league and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--env", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--formats", default="", help="some of them, with commas; the others' rows stay")
    options = parser.parse_args()
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
    service, asked = open_home(options.home), options.formats.split(",") if options.formats else list(FORMATS)
    rows = [row for row in kept if row["name"].partition(",")[0] not in asked]
    for name in asked:
        for row in _rows(service, name, options):
            rows.append(asdict(row))
            print(row, flush=True)
    RESULT.write_text(json.dumps({"model": "bundled", "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _rows(service: Service, name: str, options: argparse.Namespace) -> Iterator[LeagueRow]:
    text, kinds = FORMATS[name]
    level, inventory = parse_level(text), inspect_model(resolve_model("bundled"))
    uniform = Plan.of({m.name: level if is_legal(m, level, TARGET) else DENSE for m in inventory.modules})
    size = plan_bytes(inventory, uniform, TARGET).size_bytes
    own = {"budget": f"{size}B", "target": TARGET, "kinds": kinds, "workers": options.workers}
    found = searched(service, make_spec(model="bundled", calibration="python-stdlib", **own))
    theirs, ours = (found.held_out(inventory, plan) for plan in (uniform, found.plan))
    our_size = plan_bytes(inventory, found.plan, TARGET).size_bytes
    mine = our_size, ours.sequence_kl
    yield league_row(name, (size, theirs.sequence_kl), mine)
    for other, kl in _others(found, uniform, level, options):
        yield league_row(f"{name}, {other}", (size, kl), mine)


def _others(
    found: Searched, uniform: Plan, level: Level, options: argparse.Namespace
) -> Iterator[tuple[str, list[float]]]:
    """Yield who else rounds to a format -> the KL of each sequence."""
    if level.coding in FLOAT4_GROUPS:
        stored = load_file(resolve_model("bundled") / "model.safetensors")
        preset = "MXFP4A16" if level.coding == MXFP4.name else "NVFP4A16"
        names = [name for name, of_module in uniform.levels if not of_module.is_dense]
        weights = {name: nearest_floats(stored[f"{name}.weight"].float(), preset) for name in names}
        yield "llm-compressor", found.held_out_at(weights, level)
    if level.inputs or level.coding != "integer":
        return
    if options.before is not None:
        yield "GPTQ", found.held_out_at(weights_before(options.before, found.tokens, [level])[level])
    if options.env is not None:
        weights = autoround_weights(options.env, found.tokens, level.bits or 0, level.group_size or 0, 200)
        yield "AutoRound", found.held_out_at(weights)


if __name__ == "__main__":
    main()
