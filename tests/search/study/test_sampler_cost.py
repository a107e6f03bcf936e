"""The construction that benchmarks/sampler_cost.py times on a large model, on a small one and without a clock."""

from benchmarks.sampler_cost import Case, follow, make_case, replay
from search.decide.observation import EXCHANGE, SCREEN, SENSITIVITY
from search.decide.steps import FrontStrategy

NUM_OBSERVATIONS = 300


def _case() -> Case:
    return make_case(1, NUM_OBSERVATIONS)


def test_batches_that_follow() -> None:
    """Neighbours on all text, plans around the last point, rounds; all that is known is replayed, shared bases too."""
    case = _case()
    assert len(case.observations) == NUM_OBSERVATIONS
    study = replay(case)
    bases = {id(o.base) for o in study.observations if o.base is not None}
    assert len(bases) == 4
    assert [o.plan for o in study.observations] == [o.plan for o in case.observations]
    assert all(o.sketch is not None for o in study.observations if o.base is not None)
    origins = [row["origin"] for row in follow(case, study, 1)]
    assert origins == [SENSITIVITY, EXCHANGE, SCREEN]


def test_what_is_remembered_decides_nothing() -> None:
    """A search that goes on and one that starts afresh from the same observations propose the same."""
    case = _case()
    old, known = case.strategy, list(case.observations)
    for _ in range(3):
        batch = old.next_batch(known)
        fresh = FrontStrategy(case.space, old.errors, old.budget_bytes, num_sequences=old.num_sequences)
        assert fresh.next_batch(known) == batch
        known += [case.losses.observe(p) for p in batch]


def test_trials_share_their_distributions() -> None:
    """Thousands of finished trials with hundreds of parameters would else take hundreds of megabytes."""
    trials = replay(_case()).study.get_trials(deepcopy=False)
    assert len(trials) == NUM_OBSERVATIONS
    assert len({id(distribution) for t in trials for distribution in t.distributions.values()}) == 7
