"""A plausible finished job: 8 blocks x 7 modules and an embedding, 6 uniform plans, 20 front points."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import exp

from space.cost import plan_bytes
from space.inventory import CacheLayer, Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.measurement import Measurement
from space.plan import Plan
from space.results.document import Comparison, DensePoint, FrontDocument, FrontPoint, SearchCost, UniformPoint
from space.results.price import marginal_price
from space.spec import JobSpec, make_spec
from storage.records import Job, JobState, Trial, TrialState

CREATED = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
HIDDEN, WIDE, VOCABULARY, NUM_BLOCKS, CONTEXT = 256, 688, 4096, 8, 512
BUDGET = "5MiB"
_ATTENTION = {"q_proj": (256, 256), "k_proj": (128, 256), "v_proj": (128, 256), "o_proj": (256, 256)}
_MLP = {"gate_proj": (WIDE, HIDDEN), "up_proj": (WIDE, HIDDEN), "down_proj": (HIDDEN, WIDE)}


@dataclass(frozen=True)
class SampleJob:
    """Everything a finished job leaves behind."""

    job: Job
    inventory: Inventory
    trials: tuple[Trial, ...]
    document: FrontDocument

    @property
    def plans(self) -> dict[str, Plan]:
        """Return point -> plan, as the report wants it."""
        return {p.point: self.trials[p.trial].plan for p in self.document.front}

    @property
    def progress(self) -> list[tuple[int, dict[str, float]]]:
        """Return the step metrics of a search."""
        return [(n, {"hypervolume": 0.5 + 0.004 * n, "trials_done": n}) for n in range(1, len(self.trials), 5)]


def sample_inventory() -> Inventory:
    """Return the model: an embedding tied to the head, and 8 blocks of 7 linear modules, in bfloat16."""
    embedding = TensorInfo("model.embed_tokens.weight", (VOCABULARY, HIDDEN), "BF16")
    modules = [ModuleInfo("model.embed_tokens", "embedding", embedding, tied=("lm_head",))]
    others = [TensorInfo("model.norm.weight", (HIDDEN,), "BF16")]
    for block in range(NUM_BLOCKS):
        for group, shapes in (("self_attn", _ATTENTION), ("mlp", _MLP)):
            for module_type, shape in shapes.items():
                name = f"model.layers.{block}.{group}.{module_type}"
                modules.append(ModuleInfo(name, "linear", TensorInfo(f"{name}.weight", shape, "BF16"), block))
        others.append(TensorInfo(f"model.layers.{block}.input_layernorm.weight", (HIDDEN,), "BF16"))
    return Inventory(tuple(modules), tuple(others), (CacheLayer(2 * 128 * 2),) * NUM_BLOCKS, NUM_BLOCKS)


def sample_job(job_id: str = "calm-otter-7", model: str = "acme/tiny-llama-8m", seed: int = 0) -> SampleJob:
    """Return a finished job; equal arguments give equal jobs."""
    rng = random.Random(seed)
    inventory = sample_inventory()
    spec = make_spec(model=model, budget=BUDGET, context=CONTEXT, max_trials=60, seed=seed)
    budget_bytes = 5 * 2**20
    uniform = [Plan.of({m.name: Level(bits, 64) for m in inventory.modules}) for bits in (2, 3, 4, 5, 6, 8)]
    mixed = [_mixed_plan(inventory, share, rng) for share in sorted(rng.uniform(0.0, 1.0) for _ in range(54))]
    trials = [_trial(job_id, n, plan, inventory, rng) for n, plan in enumerate([*uniform, *mixed])]
    document = _document(job_id, spec, inventory, trials, budget_bytes)
    job = Job(job_id, spec, JobState.DONE, CREATED, CREATED, CREATED.replace(minute=41), document=document)
    return SampleJob(job, inventory, tuple(trials), document)


def sample_losses(sample: SampleJob) -> dict[str, dict[str, float]]:
    """Return made-up losses of a job's model: each bit less costs four times as much."""
    plain = [Level(bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
    used = {level for plan in sample.plans.values() for _, level in plan.levels}
    return {
        m.name: {
            str(v): 4.0 ** -(v.bits or 16) * (1 + (v.group_size or 256) / 256) * (1 + v.sparsity) / (1 + v.rank / 64)
            * (1 + index % 7)
            for v in {*plain, *used}
        }
        for index, m in enumerate(sample.inventory.modules)
    }  # fmt: skip


def _mixed_plan(inventory: Inventory, share: float, rng: random.Random) -> Plan:
    levels = {}
    for module in inventory.modules:
        depth = 0.5 if module.block is None else abs(module.block / (NUM_BLOCKS - 1) - 0.45)
        wish = 1.2 + 6 * share + 1.6 * depth + {"v_proj": 1.2, "down_proj": 0.7}.get(module.module_type, 0)
        bits = min((2, 3, 4, 5, 6, 8), key=lambda b: abs(b - wish - rng.gauss(0, 0.3)))
        plain = module.kind == "embedding" or bits > 4
        sparse = not plain and module.module_type in ("gate_proj", "up_proj") and rng.random() < 0.3
        rank = 16 if not plain and not sparse and rng.random() < 0.35 else 0
        levels[module.name] = Level(bits, rng.choice((32, 64, 128)), 0.5 if sparse else 0.0, rank=rank)
    return Plan.of(levels)


def _trial(job_id: str, number: int, plan: Plan, inventory: Inventory, rng: random.Random) -> Trial:
    is_uniform = number < 6
    size = plan_bytes(inventory, plan, "packed", CONTEXT).size_bytes
    if number % 17 == 16:
        return Trial(job_id, number, plan, "refine", TrialState.FAILED, size, reason="worker died: out of memory")
    kl = exp(2.2 - 1.75 * (size / 2**20 - 3)) * (2.4 if is_uniform else rng.uniform(1.0, 1.5))
    sequence_kl = [kl * rng.uniform(0.8, 1.2) for _ in range(16)]
    measured = Measurement.of_sequences(sequence_kl, [3 + kl] * 16, 255, 8160.0, 1.4)
    origin = "uniform" if is_uniform else rng.choice(("knapsack", "refine"))
    return Trial(job_id, number, plan, origin, TrialState.COMPLETE, size, measured, held_out=measured)


def _document(
    job_id: str, spec: JobSpec, inventory: Inventory, trials: list[Trial], budget_bytes: int
) -> FrontDocument:
    levels = [f"b{bits}-g64" for bits in (2, 3, 4, 5, 6, 8)]
    uniform = tuple(UniformPoint(u, t.size_bytes, *_quality(t)) for u, t in zip(levels, trials, strict=False))
    front: list[FrontPoint] = []
    best_kl, order = float("inf"), sorted(trials[6:], key=lambda t: t.size_bytes)
    for trial in order:
        if trial.measurement is None or trial.measurement.kl_divergence >= best_kl or len(front) == 20:
            continue
        best_kl = trial.measurement.kl_divergence
        bits_per_weight = 8 * trial.size_bytes / inventory.num_parameters
        front.append(
            FrontPoint(f"p{len(front)}", trial.number, trial.size_bytes, bits_per_weight, *_quality(trial), False)
        )
    fitting = max((p for p in front if p.size_bytes <= budget_bytes), key=lambda p: p.size_bytes)
    final = tuple(
        replace(p, recommended=p is fitting, versus_next=_next(front, i), versus_uniform=_versus_uniform(p, uniform))
        for i, p in enumerate(front)
    )
    price = marginal_price([(p.size_bytes, p.kl_divergence) for p in front], budget_bytes)
    cost = SearchCost(1_234_567.0, len(trials), 671.5)
    corner = (float(uniform[-1].size_bytes), uniform[0].kl_divergence)
    dense = DensePoint(inventory.dense_bytes, 20.1)
    return FrontDocument(
        *(job_id, "DONE", spec.model, spec.target, budget_bytes, spec.seed, dense, uniform, final, 0.71, corner, cost),
        marginal_price=price,
    )


def _next(front: list[FrontPoint], index: int) -> Comparison | None:
    return _compare(front[index], front[index + 1], f"p{index + 1}") if index + 1 < len(front) else None


def _versus_uniform(point: FrontPoint, uniform: tuple[UniformPoint, ...]) -> Comparison | None:
    nearest = min(uniform, key=lambda u: (abs(u.size_bytes - point.size_bytes), u.size_bytes), default=None)
    return _compare(point, nearest, nearest.level) if nearest else None


def _compare(point: FrontPoint, other: FrontPoint | UniformPoint, name: str) -> Comparison:
    difference, ratio = point.kl_divergence - other.kl_divergence, point.kl_divergence / other.kl_divergence
    half = 0.05 * other.kl_divergence
    return Comparison(name, ratio, (difference - half, difference + half), measurable=abs(difference) > half)


def _quality(trial: Trial) -> tuple[float, tuple[float, float], float]:
    assert trial.measurement is not None
    kl = trial.measurement.kl_divergence
    return kl, (kl * 0.9, kl * 1.11), trial.measurement.perplexity
