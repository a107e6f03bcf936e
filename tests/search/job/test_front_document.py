"""The document of a search: which differences are measurable, and a front before anything was judged."""

import json
from dataclasses import replace

import pytest

from search.job.front_document import build_document
from space.results.document import FrontDocument
from space.results.front import paired_interval
from space.results.price import marginal_price
from storage.records import Trial
from tests.search.house import House
from tests.search.scripted import ScriptedExecutor, prepared, spec
from tests.storage.sample_job import sample_job

READY = prepared(spec())


@pytest.fixture
def done(house: House) -> tuple[FrontDocument, list[Trial]]:
    """Give the end of a scripted job."""
    house.submit()
    house.run(ScriptedExecutor())
    return house.document(), list(house.store.list_trials("one"))


def _kl(trials: list[Trial], number: int) -> tuple[float, ...]:
    held_out = trials[number].held_out
    assert held_out is not None
    return held_out.sequence_kl


def test_neighbours_are_compared_on_the_same_sequences(done: tuple[FrontDocument, list[Trial]]) -> None:
    """Each point with the next larger one; the last has none."""
    document, trials = done
    assert document.front[-1].versus_next is None
    for point, after in zip(document.front, document.front[1:], strict=False):
        found = point.versus_next
        assert found is not None
        assert found.other == after.point
        assert found.ratio == pytest.approx(point.kl_divergence / after.kl_divergence)
        assert found.difference_ci95 == paired_interval(_kl(trials, point.trial), _kl(trials, after.trial))
        low, high = found.difference_ci95
        assert found.measurable == (low > 0 or high < 0)


def test_points_are_compared_with_the_nearest_uniform_plan(done: tuple[FrontDocument, list[Trial]]) -> None:
    """In bytes, be it larger or smaller; a uniform plan on the front is as good as itself."""
    document, trials = done
    by_level = {u.level: u for u in document.uniform}
    for point in document.front:
        found = point.versus_uniform
        assert found is not None
        nearest = by_level[found.other]
        assert abs(nearest.size_bytes - point.size_bytes) == min(
            abs(u.size_bytes - point.size_bytes) for u in document.uniform
        )
        assert document.uniform_excess(point) == nearest.size_bytes / point.size_bytes - 1
        assert found.ratio == pytest.approx(point.kl_divergence / nearest.kl_divergence)
        if trials[point.trial].plan.digest == dict(_uniform())[found.other]:
            assert (found.ratio, found.difference_ci95, found.measurable) == (1.0, (0.0, 0.0), False)


@pytest.mark.parametrize(("extra", "level"), [(-1, "b3-g64"), (0, "b3-g64"), (1, "b3-g64"), (10**9, "b8-g64")])
def test_a_byte_less_than_a_uniform_plan_is_compared_with_it(extra: int, level: str) -> None:
    """Not with the one of a bit less, which is a third smaller."""
    uniform = dict(READY.space.uniform_plans())
    trials = [replace(t, held_out=None) for t in sample_job().trials[:7]]
    plans = list(uniform.values())
    sizes = [READY.space.weight_bytes(plan) for plan in plans]
    by_name = {str(name): READY.space.weight_bytes(plan) for name, plan in uniform.items()}
    best = trials[5].measurement
    assert best is not None
    lowest = replace(best, kl_divergence=1e-9, sequence_kl=tuple(1e-9 for _ in best.sequence_kl))
    made = [replace(t, plan=p, size_bytes=size) for t, p, size in zip(trials, plans, sizes, strict=False)]
    ours = replace(trials[6], size_bytes=by_name["b3-g64"] + extra, measurement=lowest)
    document = build_document(sample_job().job, READY, [*made, ours], 7.0, 1.0)
    (found,) = [p.versus_uniform for p in document.front if p.trial == ours.number]
    assert found is not None
    assert found.other == level


def test_no_point_is_worse_than_a_uniform_plan_of_at_most_its_size(done: tuple[FrontDocument, list[Trial]]) -> None:
    """The promise, with all of them and not only the one that is shown."""
    document, _ = done
    for point in document.front:
        assert all(u.kl_divergence >= point.kl_divergence for u in document.uniform if u.size_bytes <= point.size_bytes)


def _uniform() -> list[tuple[str, str]]:
    return [(str(level), plan.digest) for level, plan in READY.space.uniform_plans()]


def test_marginal_price_is_that_of_the_front(done: tuple[FrontDocument, list[Trial]]) -> None:
    """From its measured points, at the recommended one."""
    document, _ = done
    points = [(float(p.size_bytes), p.kl_divergence) for p in document.front]
    assert document.marginal_price == marginal_price(points, document.budget_bytes)
    assert document.marginal_price is not None
    assert document.marginal_price.kl_divergence_drop > 0


def test_a_front_before_the_judgement(done: tuple[FrontDocument, list[Trial]]) -> None:
    """From the first uniform plan on there is a valid front on search text, which says so."""
    _, trials = done
    blind = [replace(t, held_out=None) for t in trials]
    job = sample_job().job
    last = 0.0
    for count in (1, 2, 4, 20, len(blind)):
        document = build_document(job, READY, blind[:count], 7.0, 1.0)
        assert document.measured_on == "search"
        assert document.front
        assert FrontDocument.from_json(json.loads(json.dumps(document.to_json(), allow_nan=False))) == document
        if count >= 4:  # all uniform plans: the corner stands
            assert document.hypervolume >= last
            last = document.hypervolume


def test_a_kl_of_zero_has_no_ratio() -> None:
    """A lossless plan divides nothing."""
    job, trials = sample_job().job, []
    for number, (_, plan) in enumerate(READY.space.uniform_plans()):
        measured = sample_job().trials[number].measurement
        assert measured is not None
        kl = 0.0 if number == 3 else measured.kl_divergence
        zeros = replace(measured, kl_divergence=kl, sequence_kl=(kl,) * 16)
        trials.append(
            replace(
                sample_job().trials[number],
                plan=plan,
                size_bytes=READY.space.weight_bytes(plan),
                measurement=zeros,
                held_out=None,
            )
        )
    document = build_document(job, READY, trials, 7.0, 1.0)
    found = document.front[-2].versus_next
    assert found is not None
    assert (found.ratio, found.measurable) == (None, True)
    json.dumps(document.to_json(), allow_nan=False)
