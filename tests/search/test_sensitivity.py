"""The additive model: through its probes, and better once corrected by measured plans."""

import random
from math import log
from statistics import mean

import numpy as np
import pytest

from search.sensitivity import AdditiveModel, Correction, Probe, fit_correction, fit_probes
from space.level import DENSE, Level
from space.plan import Plan
from tests.search.scripted import WEIGHTS, errors_of, loss, prepared, share, spec

SPACE = prepared(spec()).space
ERRORS = errors_of(SPACE)
BASE = SPACE.uniform_plan(Level(8, 64))
LOW, HIGH = Level(2, 64), Level(4, 64)
PROBES = [Probe(n, v, loss(BASE.replace({n: v})) - loss(BASE)) for n in SPACE.levels for v in (LOW, HIGH)]


def _random_plans(count: int, seed: int) -> list[Plan]:
    rng = random.Random(seed)
    return [Plan.of({name: rng.choice(levels) for name, levels in SPACE.levels.items()}) for _ in range(count)]


def _log_error(model: AdditiveModel, plans: list[Plan]) -> float:
    """Return the spread of log(measured / predicted): a common factor changes no choice."""
    ratios = [log(loss(plan) / model.predict(plan)) for plan in plans]
    return mean(abs(r - mean(ratios)) for r in ratios)


def test_probes_are_reproduced() -> None:
    """What was measured is predicted exactly."""
    model = fit_probes(ERRORS, PROBES)
    for probe in PROBES:
        assert model.losses[probe.module_name][probe.level] == pytest.approx(probe.kl_divergence)


def test_prices_rise_with_the_output_error() -> None:
    """A level that changes the output more is never predicted to cost less."""
    for name, prices in fit_probes(ERRORS, PROBES).losses.items():
        ordered = [price for _, price in sorted((ERRORS[name][v], price) for v, price in prices.items())]
        assert ordered == sorted(ordered)


def test_a_module_without_a_probe_takes_the_median_price() -> None:
    """Losses per output error of the others stand in; a dense level costs nothing."""
    errors = {name: {LOW: 0.5, DENSE: 0.0} for name in "abcd"}
    probes = [Probe("a", LOW, 1.0), Probe("b", LOW, 2.0), Probe("c", LOW, 9.0), Probe("d", LOW, 0.0)]
    model = fit_probes(errors, probes)
    assert model.losses["d"] == {LOW: 2.0, DENSE: 0.0}
    assert fit_probes(errors, []).losses["a"] == {LOW: 0.5, DENSE: 0.0}


def test_noisy_probes_do_not_bend_the_price_too_far() -> None:
    """Probes that contradict the power law keep the exponent between its limits."""
    errors = {"a": {LOW: 0.4, HIGH: 0.1, Level(3, 64): 0.2}}
    model = fit_probes(errors, [Probe("a", LOW, 1.0), Probe("a", HIGH, 2.0)])
    assert model.losses["a"][Level(3, 64)] == pytest.approx(2.0 * 2**0.7)


def test_measured_plans_improve_the_model() -> None:
    """A module that the probes misjudged is found out by plans in which it matters."""
    wrong = fit_probes(ERRORS, PROBES).scaled({name: 1.6 if i % 2 else 0.6 for i, name in enumerate(WEIGHTS)})
    seen, unseen = _random_plans(30, 1), _random_plans(60, 2)
    correction = fit_correction(wrong, [(plan, loss(plan)) for plan in seen])
    assert _log_error(wrong.scaled(correction.factors()), unseen) < 0.8 * _log_error(wrong, unseen)


def test_one_measured_plan_is_enough() -> None:
    """Little data leaves the model nearly as it is."""
    model = fit_probes(ERRORS, PROBES)
    factors = fit_correction(model, [(BASE, loss(BASE))]).factors()
    assert all(factor == pytest.approx(1) for factor in factors.values())


def test_draws_follow_their_seed() -> None:
    """Equal generators draw equal factors; different ones explore."""
    correction = Correction(("a", "b"), np.zeros(2), np.eye(2) * 0.09)
    first, again, other = (correction.factors(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert correction.factors() == {"a": 1.0, "b": 1.0}


def test_the_script_has_interactions() -> None:
    """The synthetic loss is not additive, or these tests would prove little."""
    plan = Plan.of(dict.fromkeys(WEIGHTS, LOW))
    assert loss(plan) > 1.1 * sum(share(name, LOW) for name in WEIGHTS)
