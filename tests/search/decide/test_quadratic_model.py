"""The quadratic model: pairs of modules without a measurement of any pair."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from search.decide.additive_model import AdditiveModel, fit_probes
from search.decide.quadratic_model import Neighbour, QuadraticModel, fit_neighbours
from space.level import Level
from space.plan import Plan
from tests.search.scripted import NAMES, errors_of, loss, prepared, share, sketch, spec

SPACE = prepared(spec(sparsities=(0.0,), ranks=(0,))).space
BASE = SPACE.uniform_plan(Level(4, 64))
LOW, HIGH = Level(3, 64), Level(8, 64)
PROBED = {name: [LOW, HIGH] for name in SPACE.levels}
PRICES = AdditiveModel({name: {v: share(name, v) for v in levels} for name, levels in SPACE.levels.items()})


def _neighbour(name: str, level: Level) -> Neighbour:
    plan = BASE.replace({name: level})
    return Neighbour(name, level, sketch(plan), loss(plan) - loss(BASE), 0.0)


def _probes(probed: dict[str, list[Level]]) -> list[Neighbour]:
    return [_neighbour(n, v) for n, levels in probed.items() for v in levels]


def _model(probed: dict[str, list[Level]] = PROBED) -> QuadraticModel:
    return fit_neighbours(SPACE, BASE, sketch(BASE), _probes(probed), PRICES)


def _plans(count: int) -> list[Plan]:
    """Return plans of probed levels, all pairs of modules changed in some of them."""
    rng = np.random.default_rng(0)
    choices = [(BASE[name], *PROBED[name]) for name in NAMES]
    return [Plan.of({n: c[rng.integers(len(c))] for n, c in zip(NAMES, choices, strict=True)}) for _ in range(count)]


def _index(model: QuadraticModel, plan: Plan) -> np.ndarray:
    chosen = model.indices(plan)
    assert chosen is not None
    return chosen


def test_the_script_is_a_quadratic_form() -> None:
    """Half the mean square of its sketch is its loss, and changes of single modules add up."""
    both = BASE.replace({NAMES[1]: LOW, NAMES[2]: HIGH})
    one, other = (BASE.replace({name: both[name]}) for name in NAMES[1:3])
    assert sketch(both) == pytest.approx(sketch(one) + sketch(other) - sketch(BASE), rel=1e-5)
    for plan in _plans(5):
        assert np.mean(sketch(plan).astype(float) ** 2) / 2 == pytest.approx(loss(plan), rel=1e-6)


def test_unmeasured_pairs_are_predicted() -> None:
    """Every plan of probed levels, although no two changes were ever measured together."""
    model = _model()
    for plan in [BASE, *_plans(200)]:
        assert model.predict(_index(model, plan)) == pytest.approx(loss(plan), abs=1e-6)


def test_the_additive_model_does_not_know_pairs() -> None:
    """Even with the true share of every level it is far off where modules lose much."""
    coarse = Plan.of(dict.fromkeys(NAMES, LOW))
    assert loss(coarse) > 1.1 * PRICES.predict(coarse)
    model = _model()
    assert model.predict(_index(model, coarse)) == pytest.approx(loss(coarse), abs=1e-6)


def test_probes_and_base_are_reproduced() -> None:
    """What was measured is what is predicted."""
    model = _model()
    assert model.predict(model.start) == pytest.approx(loss(BASE), abs=1e-7)
    for name, levels in PROBED.items():
        for level in levels:
            plan = BASE.replace({name: level})
            assert model.predict(_index(model, plan)) == pytest.approx(loss(plan), abs=1e-7)


def test_only_probed_levels_are_options() -> None:
    """Nothing is claimed of a level that was not measured at the base."""
    model = _model()
    assert set(model.options) == {(n, v) for n in NAMES for v in (BASE[n], *PROBED[n])}


def test_halves_that_disagree_tell_of_no_pairs() -> None:
    """Where the second half of the text says nothing of what the first does, changes add up one by one."""
    rng = np.random.default_rng(0)
    origin = np.tile(sketch(BASE), 200)
    exactly = [replace(n, sketch=np.tile(n.sketch, 200)) for n in _probes(PROBED)]
    random = [replace(n, sketch=origin + rng.normal(0, 1, origin.size)) for n in _probes(PROBED)]
    exact, noisy = (fit_neighbours(SPACE, BASE, origin, probes, PRICES) for probes in (exactly, random))
    for model, is_trusted in ((exact, True), (noisy, False)):
        diagonal = np.sqrt(model.curvature.diagonal())
        probed = diagonal > 0
        pairs = (model.curvature / np.outer(np.where(probed, diagonal, 1), np.where(probed, diagonal, 1)))[probed][
            :, probed
        ]
        other = model.module[probed][:, None] != model.module[probed]
        assert (np.abs(pairs[other]).max() > 0.1) == is_trusted


def test_noisy_probes_are_drawn_to_the_price() -> None:
    """The larger a probe's noise, the more the additive price counts for it."""
    name, wrong = NAMES[3], 5.0
    found = []
    for noise in (0.0, 0.1, 100.0):
        probes = [
            replace(n, added=n.added * wrong, noise=noise) if (n.module_name, n.level) == (name, LOW) else n
            for n in _probes(PROBED)
        ]
        model = fit_neighbours(SPACE, BASE, sketch(BASE), probes, PRICES)
        found.append(model.predict(_index(model, BASE.replace({name: LOW}))) - loss(BASE))
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(wrong * (loss(BASE.replace({name: LOW})) - loss(BASE)), abs=1e-6)


def test_options_are_ordered() -> None:
    """By module, in the order of the space, and by bytes; the base is where it belongs."""
    model = _model()
    assert list(model.module) == sorted(model.module)
    assert model.names == tuple(SPACE.levels)
    for (name, level), (other, above) in pairwise(model.options):
        assert name != other or SPACE.sizes[name][level] <= SPACE.sizes[name][above]
    assert [SPACE.sizes[name][level] for name, level in model.options] == list(model.size_bytes)
    assert model.plan(model.start) == BASE


def test_plans_are_indices_and_back() -> None:
    """A plan of options has one index per module; one with another level has none."""
    model = _model()
    for plan in _plans(20):
        assert model.plan(_index(model, plan)) == plan
    other = next(v for v in SPACE.levels[NAMES[0]] if (NAMES[0], v) not in model.options)
    assert model.indices(BASE.replace({NAMES[0]: other})) is None


def test_a_missing_probe_is_no_option() -> None:
    """A probe that failed leaves its module where it is, and the others as they were."""
    failed = NAMES[4]
    model = _model(probed={**PROBED, failed: []})
    assert [level for name, level in model.options if name == failed] == [BASE[failed]]
    lower = _model(probed={**PROBED, failed: [HIGH]})
    assert min(v for n, v in lower.options if n == failed) == BASE[failed]
    for plan in [p for p in _plans(100) if p[failed] == BASE[failed]]:
        assert model.predict(_index(model, plan)) == pytest.approx(loss(plan), abs=1e-6)


def test_float16_sketches_are_good_enough() -> None:
    """They are kept so; a plan's KL is still known to a thousandth."""
    exact = [_neighbour(n, v) for n in NAMES for v in PROBED[n]]
    probes = [replace(probe, sketch=probe.sketch.astype(np.float16)) for probe in exact]
    prices = fit_probes(errors_of(SPACE), [])
    model = fit_neighbours(SPACE, BASE, sketch(BASE).astype(np.float16), probes, prices)
    for plan in _plans(50):
        assert model.predict(_index(model, plan)) == pytest.approx(loss(plan), rel=2e-3)


def test_neighbours_on_less_text() -> None:
    """Changes of which only the start is known are predicted as well where all text says the same."""
    origin, some = np.tile(sketch(BASE), 4), _probes(PROBED)
    probes = [replace(n, sketch=np.tile(n.sketch, 4 if i % 3 else 2)) for i, n in enumerate(some)]
    model = fit_neighbours(SPACE, BASE, origin, probes, PRICES)
    for plan in [BASE, *_plans(50)]:
        assert model.predict(_index(model, plan)) == pytest.approx(loss(plan), abs=1e-6)


def test_a_length_is_measured_on_all_text_of_its_own() -> None:
    """What two changes share is their angle: one that is larger on the text behind counts for what it is there."""
    first, second, *others = _probes(PROBED)[:4]
    origin = np.tile(sketch(BASE), 2)
    change = first.sketch - sketch(BASE)
    grown = replace(first, sketch=np.concatenate([first.sketch, sketch(BASE) + 3 * change]))
    model = fit_neighbours(SPACE, BASE, origin, [grown, second, *others], PRICES)
    own, other = (model.options.index((n.module_name, n.level)) for n in (first, others[0]))
    assert model.diagonal[own] == pytest.approx(5 * change @ change / change.size, rel=1e-5)
    plain = fit_neighbours(SPACE, BASE, origin[: sketch(BASE).size], [first, second, *others], PRICES)
    assert model.curvature[own, other] == pytest.approx(5**0.5 * plain.curvature[own, other], rel=1e-5)


def test_angles_of_different_texts_are_those_of_vectors() -> None:
    """Noise of which each pair has another sample would let a walk gain without end: no direction gains by itself."""
    rng = np.random.default_rng(0)
    origin = np.zeros(1200)
    common = rng.standard_normal(1200)
    probes = [
        replace(n, sketch=(common + rng.standard_t(2, 1200))[: 1200 if i % 2 else 60])
        for i, n in enumerate(_probes(PROBED))
    ]
    model = fit_neighbours(SPACE, BASE, origin, probes, PRICES)
    values = np.linalg.eigvalsh(model.curvature)
    assert values[0] > -1e-9 * values[-1]
