"""The study: a study rebuilt from records goes on as if nothing had happened."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from search.decide.handmade_plans import HEURISTIC
from search.decide.observation import UNIFORM, Proposal
from search.decide.steps import FrontStrategy
from search.study.job_study import Asked, JobStudy
from space.measurement import Measurement
from space.spec import SamplerName
from storage.records import Trial, TrialState, json_copy
from storage.sampler_state import SamplerState
from tests.search.scripted import errors_of, observed, prepared, spec

PREPARED = prepared(spec())
SPACE = PREPARED.space
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
LIMIT = 1000


def _study(name: SamplerName, seed: int = 0, cache_bytes: int = 0) -> JobStudy:
    strategy = FrontStrategy(SPACE, errors_of(SPACE), PREPARED.weight_budget, seed=seed)
    return JobStudy(name, strategy, cache_bytes, find_sketch=_sketch)


def _sketch(proposal: Proposal) -> np.ndarray | None:
    return observed([proposal])[0].sketch


def _record(study: JobStudy, asked: Asked) -> Trial:
    plan = asked.proposal.plan
    state = SamplerState.from_json(json_copy(study.sampler_state(asked).to_json()))
    size = SPACE.weight_bytes(plan)
    return Trial("one", asked.number, plan, asked.proposal.origin, TrialState.WAITING, size, sampler_state=state)


def _finish(study: JobStudy, asked: Sequence[Asked], records: dict[int, Trial]) -> None:
    """Tell and record a batch; every seventh trial fails."""
    for a in asked:
        trial = records[a.number]
        measured = None if a.number % 7 == 6 else _measured(a.proposal)
        study.tell(a, measured)
        state = TrialState.FAILED if measured is None else TrialState.COMPLETE
        records[a.number] = replace(trial, state=state, measurement=measured and replace(measured, sketch=None))


def _measured(proposal: Proposal) -> Measurement:
    """Return what a worker finds; probes come with sketches, which records do not hold."""
    (seen,) = observed([proposal])
    kl = list(seen.sequence_kl)
    return replace(Measurement.of_sequences(kl, kl, 31, 1.0, 0.0), sketch=seen.sketch)


def test_an_interrupted_batch_is_observed_in_its_order() -> None:
    """Whatever ended before the interruption: sums of the models that are fitted round by their order."""
    whole, records = _study("front"), dict[int, Trial]()
    first, second = _run(whole, 2, records)
    late = {a.number for a in second[::3]}
    waiting = {n: replace(t, state=TrialState.WAITING, measurement=None) for n, t in records.items() if n in late}
    resumed = _study("front")
    for asked in resumed.replay([waiting.get(n, t) for n, t in sorted(records.items())]):
        resumed.tell(asked, None if records[asked.number].measurement is None else _measured(asked.proposal))
    assert len(first) + len(second) > len(late) > 2
    assert [o.plan for o in resumed.observations] == [o.plan for o in whole.observations]


def _run(study: JobStudy, num_batches: int, records: dict[int, Trial]) -> list[list[Asked]]:
    batches = []
    for _ in range(num_batches):
        asked = study.ask(LIMIT)
        records |= {a.number: _record(study, a) for a in asked}
        _finish(study, asked, records)
        batches.append(asked)
    return batches


@pytest.mark.parametrize(
    ("name", "num_before"), [("front", 1), ("front", 3), ("nsga2", 3), ("nsga2", 5), ("tpe", 2), ("random", 2)]
)
def test_replay_between_batches(name: SamplerName, num_before: int) -> None:
    """After a replay the next batches are those of an uninterrupted search, generation counters included."""
    records: dict[int, Trial] = {}
    whole = _run(_study(name), 6, records)
    split = sum(map(len, whole[:num_before]))
    study = _study(name)
    known = {number: records[number] for number in range(split)}
    assert study.replay(list(known.values())) == []
    again = _run(study, 6 - num_before, known)
    assert again == whole[num_before:]
    assert known == records


@pytest.mark.parametrize(
    ("name", "index"), [("front", 1), ("front", 3), ("nsga2", 1), ("nsga2", 4), ("nsga2", 5), ("tpe", 2), ("random", 2)]
)
def test_replay_within_a_batch(name: SamplerName, index: int) -> None:
    """Trials without an end are handed out again, bases and sequences included; then the search goes on the same."""
    records: dict[int, Trial] = {}
    whole = _run(_study(name), index + 3, records)
    first, last = whole[index][0].number, whole[index][-1].number
    known = {number: records[number] for number in range(last + 1)}
    lost = [number for number in range(first, last + 1) if number % 2]
    for number in lost:
        known[number] = replace(known[number], state=TrialState.WAITING, measurement=None)
    study = _study(name)
    waiting = study.replay(list(known.values()))
    assert waiting == [a for a in whole[index] if a.number in lost]
    _finish(study, waiting, known)
    assert _run(study, 2, known) == whole[index + 1 :]


def test_records_count_the_cache_and_the_study_does_not() -> None:
    """A replayed trial has the value and the constraint that were told, whatever the key/value cache takes."""
    records: dict[int, Trial] = {}
    told, replayed = _study("random"), _study("random", cache_bytes=1000)
    _run(told, 1, records)
    replayed.replay([replace(trial, size_bytes=trial.size_bytes + 1000) for trial in records.values()])
    for one, other in zip(told.study.trials, replayed.study.trials, strict=True):
        assert (one.values, one.params, one.constraints) == (other.values, other.params, other.constraints)


@pytest.mark.parametrize("name", SAMPLERS)
def test_all_samplers_start_from_uniform_plans(name: SamplerName) -> None:
    """Baselines see the same anchors; ours measures the other plans made by hand beside them."""
    batch = _study(name).ask(LIMIT)
    uniform = [plan for _, plan in SPACE.uniform_plans()]
    assert [a.proposal.plan for a in batch if a.proposal.origin == UNIFORM] == uniform
    assert [a.proposal.plan for a in batch[: len(uniform)]] == uniform
    assert {a.proposal.origin for a in batch} == ({UNIFORM, HEURISTIC} if name == "front" else {UNIFORM})


@pytest.mark.parametrize("name", ["nsga2", "tpe", "random"])
def test_batches_of_a_baseline_differ(name: SamplerName) -> None:
    """Each batch draws anew, and another seed draws other plans."""
    batches, other = _run(_study(name), 4, {}), _run(_study(name, seed=-1), 4, {})
    plans = [{a.proposal.plan.digest for a in batch} for batch in batches[1:]]
    assert plans[0] != plans[1] != plans[2]
    assert [a.proposal.plan for a in batches[1]] != [a.proposal.plan for a in other[1]]
    assert {a.proposal.origin for a in batches[1]} <= {"nsgaii", "tpe", "random"}


def test_the_limit_is_kept() -> None:
    """Never more than allowed, nothing when nothing is."""
    study = _study("front")
    assert len(study.ask(2)) == 2
    assert study.ask(0) == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_space_of_one_plan_is_measured_and_ends(name: SamplerName) -> None:
    """Where no module has a choice, that one plan is asked for."""
    first = {module: [SPACE.levels[item][0]] for item, names in SPACE.items.items() for module in names}
    space = SPACE.restricted(first)
    strategy = FrontStrategy(space, errors_of(space), PREPARED.weight_budget, seed=0)
    study = JobStudy(name, strategy, 0, find_sketch=_sketch)
    (asked, *_) = study.ask(1)
    assert dict(asked.proposal.plan.levels) == {module: levels[0] for module, levels in first.items()}
