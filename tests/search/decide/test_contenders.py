"""Which plans are judged, and the promise that the front is never measurably worse than plans made by hand."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from search.decide.contenders import MAX_TIES, choose_contenders
from search.decide.handmade_plans import HEURISTIC, heuristic_plans
from search.job.front_document import build_document
from search.request.prepare import Prepared
from space.measurement import Measurement
from space.plan import Plan
from space.results.document import FrontDocument
from space.results.front import non_dominated, paired_interval
from storage.records import Trial, TrialState
from storage.sampler_state import SamplerState
from tests.search import scripted
from tests.search.house import House
from tests.search.scripted import ScriptedExecutor, loss, prepared, spec
from tests.storage.sample_job import sample_job
from workers.tasks import Evaluate

READY = prepared(spec(bits=(2, 3, 4, 5, 6, 8)))
UNIFORM = {plan.digest for _, plan in READY.space.uniform_plans()}
NUM_SEQUENCES = {"search": 32, "held_out": 48, "fresh": 48}


def noisy(plan: Plan, split: str, noise: float) -> Measurement:
    """Return a measurement whose sequences differ in how hard they are, and scatter for each plan."""
    hard, own = random.Random(split), random.Random(f"{split} {plan.digest}")
    factors = [hard.lognormvariate(0, 0.6) for _ in range(NUM_SEQUENCES[split])]
    kl = [loss(plan) * factor * own.lognormvariate(0, noise) for factor in factors]
    return Measurement.of_sequences(kl, [2.0] * len(kl), 31, 32.0 * len(kl), 0.0)


def _trials(noise: float, seed: int, ready: Prepared = READY) -> list[Trial]:
    """Return measured trials: the guards, and random plans, most of them near a uniform one."""
    rng = random.Random(seed)
    space = ready.space
    plans = [("uniform", plan) for _, plan in space.uniform_plans()]
    plans += [(HEURISTIC, plan) for _, plan in heuristic_plans(space)]
    for _ in range(80):
        base = rng.choice(plans)[1]
        changed = rng.sample(list(space.levels), rng.randint(1, 5))
        plans.append(("refine", base.replace({name: rng.choice(space.levels[name]) for name in changed})))
    return [
        Trial("one", n, plan, origin, TrialState.COMPLETE, space.weight_bytes(plan), noisy(plan, "search", noise))
        for n, (origin, plan) in enumerate(plans)
    ]


def _judge(trials: Sequence[Trial], noise: float, budget_bytes: int) -> tuple[list[Trial], FrontDocument]:
    chosen = {t.number for t in choose_contenders(trials, UNIFORM, budget_bytes)}
    judged = [replace(t, held_out=noisy(t.plan, "held_out", noise)) if t.number in chosen else t for t in trials]
    ready = replace(READY, budget_bytes=budget_bytes)
    return judged, build_document(sample_job().job, ready, judged, 7.0, 1.0)


def _budget(share: float) -> int:
    low, high = READY.space.smallest_bytes, READY.space.largest_bytes
    return int(low + share * (high - low))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_never_measurably_worse_than_a_guard(noise: float, seed: int) -> None:
    """At the size of every guard: on the judging text exactly, however noisy the search text was."""
    trials = _trials(noise, seed)
    judged, document = _judge(trials, noise, _budget(0.1 * (seed + 1)))
    by_number = {t.number: t for t in judged}
    for guard in (t for t in trials if t.origin in ("uniform", HEURISTIC)):
        point = min((p for p in document.front if p.size_bytes <= guard.size_bytes), key=lambda p: p.kl_divergence)
        best = by_number[point.trial].held_out
        assert best is not None
        low, _ = paired_interval(best.sequence_kl, noisy(guard.plan, "held_out", noise).sequence_kl)
        assert low <= 0
        if guard.origin == "uniform":
            assert best.kl_divergence <= noisy(guard.plan, "held_out", noise).kl_divergence


@pytest.mark.parametrize("noise", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_guard_within_the_budget_is_judged(noise: float, seed: int) -> None:
    """So that the recommended point is never worse than it on the same text."""
    budget = _budget(0.15 * (seed + 1))
    judged, document = _judge(_trials(noise, seed), noise, budget)
    fitting = [t for t in judged if t.origin == HEURISTIC and t.size_bytes <= budget]
    best = min(fitting, key=lambda t: t.measurement.kl_divergence if t.measurement else 9.0)
    assert best.held_out is not None
    assert document.recommended is not None
    assert document.recommended.kl_divergence <= best.held_out.kl_divergence


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
def test_what_is_chosen(noise: float) -> None:
    """The whole front and all uniform plans; the best at the budget first, then the uniform plans."""
    budget = _budget(0.3)
    trials = _trials(noise, 1)
    chosen = choose_contenders(trials, UNIFORM, budget)
    numbers = {t.number for t in chosen}
    points = [(float(t.size_bytes), t.measurement.kl_divergence) for t in trials if t.measurement]
    front = [trials[i] for i in non_dominated(points)]
    assert {t.number for t in trials if t.plan.digest in UNIFORM} <= numbers
    for limit in [budget, *(t.size_bytes for t in trials if t.plan.digest in UNIFORM)]:
        assert [t.number for t in front if t.size_bytes <= limit][-1] in numbers
    assert {t.number for t in front} <= numbers
    assert len(numbers) == len(chosen)
    assert chosen[0].number == [t.number for t in front if t.size_bytes <= budget][-1]
    assert {t.plan.digest for t in chosen[1 : 1 + len(UNIFORM)]} | {chosen[0].plan.digest} >= UNIFORM
    nearest = chosen[1] if chosen[0].plan.digest not in UNIFORM else chosen[0]
    uniform = [t for t in trials if t.plan.digest in UNIFORM]
    assert nearest.size_bytes == max(t.size_bytes for t in uniform if t.size_bytes <= budget)


def test_ties_at_the_budget_are_judged() -> None:
    """Of plans that the search text cannot tell apart up to four are judged; of others only the best."""
    trials = _trials(0.0, 0)[: len(UNIFORM)]
    budget = trials[2].size_bytes
    best = trials[2]
    assert best.measurement is not None
    for ratio, expected in ((1.0, MAX_TIES), (1.5, 1)):
        rivals = []
        for number in range(20, 28):
            scatter = [0.9 + 0.2 * ((i * 7 + number) % 11) / 10 for i in range(NUM_SEQUENCES["search"])]
            kl = [0.2 * k * s * ratio for k, s in zip(best.measurement.sequence_kl, scatter, strict=True)]
            measured = Measurement.of_sequences(kl, [2.0] * len(kl), 31, 1.0, 0.0)
            name = READY.inventory.modules[number - 20].name
            plan = best.plan.replace({name: READY.space.levels[name][-1]})
            rivals.append(replace(best, number=number, plan=plan, measurement=measured, size_bytes=budget + 1))
        kl = [0.2 * k for k in best.measurement.sequence_kl]
        largest = Plan.of({name: levels[-1] for name, levels in READY.space.levels.items()})
        measured = Measurement.of_sequences(kl, [2.0] * len(kl), 31, 1.0, 0.0)
        winner = replace(rivals[0], number=40, plan=largest, measurement=measured)
        chosen = choose_contenders([*trials, *rivals, winner], UNIFORM, budget + 1)
        at_budget = [t for t in chosen if t.size_bytes == budget + 1]
        assert len(at_budget) == expected
        assert 40 in {t.number for t in at_budget}


def test_probes_and_failures_are_no_contenders() -> None:
    """Only complete trials on the whole search text can be judged."""
    trials = _trials(0.0, 0)
    probes = [replace(t, sampler_state=SamplerState(12)) for t in trials[:5]]
    failed = [replace(t, state=TrialState.FAILED, measurement=None) for t in trials[5:9]]
    chosen = choose_contenders([*probes, *failed, *trials[9:]], UNIFORM, _budget(0.5))
    assert chosen
    assert min(t.number for t in chosen) >= 9


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_whole_jobs_keep_the_promise(house: House, monkeypatch: pytest.MonkeyPatch, noise: float) -> None:
    """Also on text that neither the search nor the judging has seen, at every uniform size."""

    def measure(task: Evaluate) -> Measurement:
        kl = list(noisy(task.plan, task.split, noise).sequence_kl[task.first_sequence :][: task.num_sequences])
        found = Measurement.of_sequences(kl, [2.0] * len(kl), 31, 32.0 * len(kl), 0.0)
        return replace(found, sketch=scripted.sketch(task.plan, len(found.sequence_kl))) if task.sketch else found

    monkeypatch.setattr(scripted, "measure", measure)
    house.submit()
    house.run(ScriptedExecutor())
    trials, document = house.store.list_trials("one"), house.document()
    assert document.recommended is not None
    for _, uniform in prepared(spec()).space.uniform_plans():
        size = READY.space.weight_bytes(uniform)
        point = min((p for p in document.front if p.size_bytes <= size), key=lambda p: p.kl_divergence)
        fresh = noisy(trials[point.trial].plan, "fresh", noise)
        low, _ = paired_interval(fresh.sequence_kl, noisy(uniform, "fresh", noise).sequence_kl)
        assert low <= 0
