"""Which neighbours of an operating point get more text, and what that may cost."""

from search.decide.observation import (
    EXCHANGE,
    SENSITIVITY,
    Observation,
)
from search.decide.operating_points import Points
from search.decide.steps import FrontStrategy
from tests.search.histories import PREPARED, SPACE, all_observed, history, make_strategy, points_of
from tests.search.scripted import errors_of, observed


def test_neighbours_that_decide_get_more_text() -> None:
    """Of each point once, and only some of them, on half of the text."""
    batches = history()
    points, again, _ = points_of(batches)
    assert [batch[0].base for batch in again] == [batch[0].base for batch in points]
    for point, batch in zip(points, again, strict=True):
        assert {(p.num_sequences, p.base) for p in batch} == {(16, point[0].base)}
        assert {p.plan for p in batch} < {p.plan for p in point}
        assert batches.index(batch) == batches.index(point) + 1


def test_where_losses_add_up_worst_all_text_decides() -> None:
    """Of such points the base and the neighbours that decide, after those on half of the text; of no others."""
    batches, strategy = history(), make_strategy()
    points, again, whole = points_of(batches)
    hard = []
    for point, half in zip(points, again, strict=True):
        seen = all_observed(batches[: batches.index(half) + 1])
        known = Points(SPACE, seen, strategy.model(seen), strategy.base)
        assert point[0].base is not None
        if known.residual(known.own(point[0].base)) > 0.2:
            hard.append(half)
    assert 0 < len(hard) < len(points)
    assert [batches.index(batch) for batch in whole] == [batches.index(half) + 1 for half in hard]
    for half, batch in zip(hard, whole, strict=True):
        base = half[0].base
        assert (batch[0].plan, {(p.num_sequences, p.base) for p in batch}) == (base, {(None, base)})
        assert len(batch) > 2
        assert base not in {p.plan for p in batch[1:]}


def test_a_point_is_measured_on_all_text_once() -> None:
    """Where all of its neighbours failed there, the search goes on without them."""
    batches = history()
    whole = points_of(batches)[2][0]
    before = all_observed(batches[: batches.index(whole)])
    seen = [*before, *observed(whole[:1])]
    behind = make_strategy().next_batch(seen, 400 - len(seen), failed=set(whole[1:]))
    assert behind
    assert {p.origin for p in behind} == {EXCHANGE}


def test_what_failed_is_not_asked_again() -> None:
    """A point's neighbours that could not be measured on more text stay what they are, and the search goes on."""
    batches = history()
    again = points_of(batches)[1][0]
    before = all_observed(batches[: batches.index(again)])
    left = 400 - len(before)
    assert tuple(make_strategy().next_batch(before, left, failed=set(again[1:]))) == again[:1]
    behind = make_strategy().next_batch(before, left, failed=set(again))
    assert behind
    assert {p.origin for p in behind} == {EXCHANGE}


def test_few_trials_go_to_the_neighbours_that_most_plans_use() -> None:
    """A round of plans is left behind them."""
    batches = history()
    again = points_of(batches)[1][0]
    before = all_observed(batches[: batches.index(again)])
    assert len(again) > 3
    assert tuple(make_strategy().next_batch(before, 3 + make_strategy().round_size)) == again[:3]


def test_known_trials_leave_room() -> None:
    """The limit is of new trials: what earlier jobs measured takes nothing of it."""
    known = all_observed(history()[:3])
    assert len(known) > 30
    point = make_strategy().next_batch(known, 30)
    assert point[0].origin == SENSITIVITY
    assert len(point) + make_strategy().round_size <= 30


def test_short_text_is_not_divided() -> None:
    """Where a quarter and half of the text are the same few sequences, nothing is measured again."""
    strategy = FrontStrategy(SPACE, errors_of(SPACE), PREPARED.weight_budget, num_sequences=8)
    seen: list[Observation] = []
    for _ in range(6):
        seen += observed(strategy.next_batch(seen))
    probed = [(o.plan.digest, o.base.digest) for o in seen if o.base is not None]
    assert len(probed) > 2 * len(SPACE.levels)
    assert len(probed) == len(set(probed))
