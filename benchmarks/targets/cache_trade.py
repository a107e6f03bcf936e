"""One budget for weights and key/value cache: what a search chooses for two contexts, and what uniform choices give.

    python -m benchmarks.targets.cache_trade --home DIR

The bundled model under 24 MB, four sequences: of 1,024 tokens the cache takes 16.8 MB in 16
bits, of 4,096 tokens 67 MB.
Uniform choices are one bit-width for all weights (groups of 64) and one for all keys and values; the best that fits is
ours to beat, told after the fact on the text that judges. Cache bytes are those that transformers allocates.
"""

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.targets.input_rounding import ROOT
from benchmarks.targets.recommended import open_home, searched
from space.cost import plan_bytes
from space.inventory import Inventory
from space.level import DENSE, parse_level
from space.plan import Plan
from space.results.front import paired_interval
from space.spec import JobSpec, make_spec
from space.targets.cache_sites import with_cache_sites
from space.targets.target_table import is_legal
from tightfit.service import Service
from workers.families.read_inventory import inspect_model
from workers.kernels.key_values.packed_layer import PackedLayer
from workers.models.model_files import resolve_model

RESULT = ROOT / "benchmarks" / "results" / "targets_cache.json"
BUDGET, BATCH, CONTEXTS = 24_000_000, 4, (1024, 4096)
WEIGHTS = ("b2-g64", "b3-g64", "b4-g64", "b5-g64", "b6-g64", "b8-g64", "dense")
CACHES = ("kv2", "kv4", "kv8", "dense")


@dataclass(frozen=True, slots=True)
class Row:
    """What one context leads to.

    Attributes:
        weight_bytes, cache_bytes: of our plan.
        weight_bits, cache_bits: bits -> how many weights, or keys and values, have them in our plan.
        allocated: bytes of the cache that transformers fills with so many tokens.
        uniform: the best uniform choice that fits: of weights, and of the cache.

    """

    context: int
    weight_bytes: int
    cache_bytes: int
    weight_bits: dict[str, int]
    cache_bits: dict[str, int]
    allocated: int
    kl_divergence: float
    uniform: tuple[str, str]
    uniform_bytes: int
    uniform_kl: float
    ratio: float
    difference_ci95: tuple[float, float]


def main() -> None:
    """Search, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    service = open_home(options.home)
    rows = []
    for context in CONTEXTS:
        rows.append(_row(service, context, options))
        print(rows[-1], flush=True)
    RESULT.write_text(json.dumps({"budget": BUDGET, "batch": BATCH, "rows": [*map(asdict, rows)]}, indent=1) + "\n")


def _row(service: Service, context: int, options: argparse.Namespace) -> Row:
    spec = make_spec(
        model="bundled",
        budget=f"{BUDGET}B",
        context=context,
        batch=BATCH,
        cache_bits=(16, 8, 4, 2),
        calibration="python-stdlib",
        workers=options.workers,
    )
    done = searched(service, spec)
    own, inventory = done.plan, with_cache_sites(inspect_model(resolve_model("bundled")), context, BATCH, spec.target)
    uniform, found = _fitting(inventory, spec), {}
    for names, plan in uniform.items():
        found[names] = done.held_out(inventory, plan)
        print(context, names, found[names].kl_divergence, flush=True)
    names = min(found, key=lambda name: found[name].kl_divergence)
    ours, theirs = done.held_out(inventory, own), found[names]
    out = options.home / f"export-{context}"
    if not out.exists():
        service.export(done.job_id, out, point=done.point, refit=False)
    size = plan_bytes(inventory, own, spec.target, context, BATCH)
    levels = own.mapping
    return Row(
        context,
        size.weight_bytes,
        size.key_value,
        dict(Counter(str(levels[m.name].bits or 16) for m in inventory.modules)),
        dict(Counter(str(levels[c.name].bits or 16) for c in inventory.caches)),
        _allocated(out, context),
        ours.kl_divergence,
        names,
        plan_bytes(inventory, uniform[names], spec.target, context, BATCH).size_bytes,
        theirs.kl_divergence,
        ours.kl_divergence / theirs.kl_divergence,
        paired_interval(ours.sequence_kl, theirs.sequence_kl),
    )


def _fitting(inventory: Inventory, spec: JobSpec) -> dict[tuple[str, str], Plan]:
    """Return uniform plans within the budget that no other one is larger than in both parts."""
    plans = {}
    for weights in WEIGHTS:
        for caches in CACHES:
            one, other = parse_level(weights), parse_level(caches)
            levels = {m.name: one if is_legal(m, one, spec.target) else DENSE for m in inventory.modules}
            plan = Plan.of({**levels, **{c.name: other for c in inventory.caches}})
            if plan_bytes(inventory, plan, spec.target, spec.context, spec.batch).size_bytes <= BUDGET:
                plans[weights, caches] = plan
    largest = {caches: max(WEIGHTS.index(w) for w, c in plans if c == caches) for _, caches in plans}
    return {names: plan for names, plan in plans.items() if WEIGHTS.index(names[0]) == largest[names[1]]}


def _allocated(folder: Path, context: int) -> int:
    """Return the bytes of an exported model's cache after BATCH sequences of so many tokens."""
    import transformers

    import tightfit.hf  # noqa: F401 (registers the format)

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.config.max_position_embeddings = max(context, model.config.max_position_embeddings)
    tokens, cache = torch.ones(BATCH, context, dtype=torch.long), None
    with torch.no_grad():
        for part in tokens.split(512, 1):
            cache = model(part, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
    assert cache is not None  # noqa: S101 (there are tokens)
    return sum(c.nbytes if isinstance(c, PackedLayer) else c.keys.nbytes + c.values.nbytes for c in cache.layers)


if __name__ == "__main__":
    main()
