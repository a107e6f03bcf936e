"""What a search has seen: found again as it was put in, whatever came between."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.decide.memo import Memo
from search.decide.observation import KNAPSACK, SCREEN, SENSITIVITY, UNIFORM, Observation
from search.decide.seen import Evidence
from space.level import Level
from space.plan import Plan
from tests.search.scripted import observed, prepared, spec

SPACE = prepared(spec()).space
UNIFORM_PLANS = [plan for _, plan in SPACE.uniform_plans()]
WIDE = UNIFORM_PLANS[-1]
OTHER = WIDE.replace({"embed_tokens": SPACE.levels["embed_tokens"][0]})


def _evidence(*observations: Observation) -> Evidence:
    found = Evidence(SPACE, WIDE)
    for observation in observations:
        found.add(observation)
    return found


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), max_size=12), st.integers(0, 8))
def test_the_best_within_a_size(rows: list[tuple[int, int]], size: int) -> None:
    """Of all that are small enough the least loss; of equal losses the plan of the lesser digest."""
    plans = [WIDE.replace({"embed_tokens": Level(8, number + 1)}) for number in range(len(rows))]
    seen = [
        Observation(plan, KNAPSACK, (float(kl),), weight_bytes=weight)
        for plan, (weight, kl) in zip(plans, rows, strict=True)
    ]
    fitting = [o for o in seen if o.weight_bytes is not None and o.weight_bytes <= size]
    best = min(fitting, key=lambda o: (o.kl_divergence, o.plan.digest), default=None)
    assert _evidence(*seen).best_within(size) is best


def test_known_plans_are_found_whoever_made_them() -> None:
    """A plan read from records is the plan that was measured; screened ones are known as such, probes are not."""
    whole, screened, probe = UNIFORM_PLANS[0], UNIFORM_PLANS[1], OTHER
    found = _evidence(
        Observation(whole, UNIFORM, (1.0,)),
        Observation(screened, SCREEN, (1.0,)),
        Observation(probe, SENSITIVITY, (1.0,), WIDE),
    )
    again = [Plan.from_json(plan.to_json()) for plan in (whole, screened, probe)]
    assert [found.is_measured(plan) for plan in again] == [True, False, False]
    assert [found.is_screened(plan) for plan in again] == [True, True, False]
    assert found.origins == {UNIFORM, SCREEN, SENSITIVITY}


def test_probes_belong_to_their_base() -> None:
    """Operating points come in the order of probing, without the nearly lossless plan; its own measurement is kept."""
    base = UNIFORM_PLANS[1]
    alone, again = Observation(WIDE, UNIFORM, (1.0,)), Observation(WIDE, KNAPSACK, (2.0,))
    wide, near = Observation(OTHER, SENSITIVITY, (1.0,), WIDE), Observation(base, SENSITIVITY, (1.0,), base)
    assert not _evidence(alone, near).has_probes
    found = _evidence(wide, alone, near, again)
    assert found.has_probes
    assert found.points == [base]
    assert (found.probes_of(WIDE), found.probes_of(base), found.probes_of(OTHER)) == ([wide], [near], [])
    assert found.wide_alone is alone


def test_a_probe_counts_as_measured_on_most_text() -> None:
    """Whichever measurement came first; it keeps its place among the others."""
    base, one = UNIFORM_PLANS[1], OTHER
    short, long = (Observation(one, SENSITIVITY, (1.0,) * count, base) for count in (2, 4))
    other = Observation(base, SENSITIVITY, (1.0,) * 4, base)
    assert _evidence(short, other, long).probes_of(base) == [long, other]
    assert _evidence(long, other, short).probes_of(base) == [long, other]
    told = replace(short, sketch=np.zeros(2))
    (kept, _) = _evidence(told, other, long).probes_of(base)
    assert kept is told


def test_a_memory_looks_at_each_item_once() -> None:
    """Those that it has are not added again; other ones, equal or not, begin anew."""
    memory, looked = Memo(), []

    def add(taken: list[Observation], item: Observation) -> None:
        looked.append(item)
        taken.append(item)

    def grown(items: list[Observation]) -> list[Observation]:
        kept: list[Observation] = memory.grow("seen", items, list, add)
        return kept

    one, other = (observed([]) + [Observation(plan, UNIFORM, (1.0,)) for plan in UNIFORM_PLANS] for _ in range(2))
    assert grown(one[:2]) == one[:2]
    assert grown(one) == one
    assert len(looked) == len(one)
    assert grown(other) is grown(other)
    assert len(looked) == len(one) + len(other)
    assert grown(other[:1]) == other[:1]
