"""The additive model: through its probes as far as they stand above their noise, through what is alike elsewhere."""

from math import exp, log

import pytest

from search.decide.additive_model import Probe, fit_probes
from search.decide.observation import SENSITIVITY, UNIFORM, Observation
from space.level import DENSE, Level
from space.plan import Plan
from tests.search.scripted import WEIGHTS, errors_of, loss, prepared, share, spec

SPACE = prepared(spec()).space
ERRORS = errors_of(SPACE)
BASE = SPACE.uniform_plan(Level(8, 64))
LOW, HIGH = Level(2, 64), Level(4, 64)
PROBES = [Probe(n, v, loss(BASE.replace({n: v})) - loss(BASE)) for n in SPACE.levels for v in (LOW, HIGH)]


def test_probes_are_reproduced() -> None:
    """What was measured without noise is predicted exactly."""
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


def test_modules_of_its_type_come_first() -> None:
    """A module without a probe takes the price of its own type, not that of all."""
    errors = {name: {LOW: 0.5} for name in ("0.up", "1.up", "2.up", "0.down", "1.down", "2.down", "0.gate")}
    probes = [Probe(f"{i}.up", LOW, 1.0) for i in (0, 1)] + [Probe(f"{i}.down", LOW, 5.0) for i in (0, 1)]
    model = fit_probes(errors, probes)
    assert model.losses["2.up"][LOW] == pytest.approx(1.0)
    assert model.losses["2.down"][LOW] == pytest.approx(5.0)
    assert 1.0 <= model.losses["0.gate"][LOW] <= 5.0


def test_noisy_probes_do_not_bend_the_price_too_far() -> None:
    """Probes that contradict the power law keep the exponent between its limits."""
    errors = {"a": {LOW: 0.4, HIGH: 0.1, Level(3, 64): 0.2}}
    model = fit_probes(errors, [Probe("a", LOW, 1.0), Probe("a", HIGH, 2.0)])
    assert model.losses["a"][Level(3, 64)] == pytest.approx(2.0 * 2**0.7)


def test_a_probe_counts_by_its_precision() -> None:
    """The noisier it is, the nearer to the price of its type; within two standard errors of zero it says nothing."""
    errors = {f"{i}.up": {LOW: 0.5} for i in range(6)}
    others = [Probe(f"{i}.up", LOW, 1.0) for i in range(1, 6)]
    prices = [
        fit_probes(errors, [Probe("0.up", LOW, 8.0, noise), *others]).losses["0.up"][LOW]
        for noise in (0.0, 0.5, 2.0, 3.9, 4.1)
    ]
    assert prices[0] == pytest.approx(8.0)
    assert prices == sorted(prices, reverse=True)
    assert prices[-1] == pytest.approx(1.0)
    weight = 0.3**2 / (0.3**2 + (2 / 8) ** 2)
    assert prices[2] == pytest.approx(exp(weight * log(8.0)))


def test_a_probe_is_paired_with_its_base() -> None:
    """On the sequences that both have: what all sequences share is no noise."""
    plan = BASE.replace({"layers.0.q_proj": LOW})
    hard = (1.0, 5.0, 3.0, 9.0)
    base = Observation(BASE, UNIFORM, (*hard, 70.0))
    added = Observation(plan, SENSITIVITY, tuple(h + 0.5 for h in hard), BASE)
    assert Probe.of(added, base) == Probe("layers.0.q_proj", LOW, 0.5, 0.0, before=Level(8, 64))
    scattered = Observation(plan, SENSITIVITY, (2.0, 5.0, 4.0, 9.0), BASE)
    found = Probe.of(scattered, base)
    assert found.kl_divergence == 0.5
    assert found.noise == pytest.approx((1 / 3) ** 0.5 / 2)
    assert Probe.of(Observation(plan, SENSITIVITY, (1.5,), BASE), base).noise == 0.0


def test_a_base_that_loses_is_no_reference() -> None:
    """What a change costs is the difference of both levels' errors: down, up, and up to what loses nothing."""
    middle = Level(3, 64)
    errors = {"a": {LOW: 0.5, middle: 0.4, HIGH: 0.1, DENSE: 0.0}}
    price = 10.0
    down = Probe("a", LOW, price * (0.5 - 0.4), 0.01, middle)
    up = Probe("a", HIGH, price * (0.1 - 0.4), 0.03, middle)
    dense = Probe("a", DENSE, price * -0.4, 0.1, middle)
    for probe, level, noise in ((down, LOW, 0.05), (up, middle, 0.04), (dense, middle, 0.1)):
        found = probe.from_lossless(errors)
        assert (found.module_name, found.level) == ("a", level)
        assert (found.kl_divergence, found.noise) == pytest.approx((price * errors["a"][level], noise))
        losses = fit_probes(errors, [probe]).losses["a"]
        assert losses == {v: pytest.approx(price * e) for v, e in errors["a"].items()}
    assert Probe("a", LOW, 1.0, 0.1, Level(8, 64)).from_lossless(errors | {"a": {LOW: 0.5, Level(8, 64): 0.01}}) == (
        Probe("a", LOW, 1.0, 0.1, Level(8, 64))
    )


def test_the_script_has_interactions() -> None:
    """The synthetic loss is not additive, or these tests would prove little."""
    plan = Plan.of(dict.fromkeys(WEIGHTS, LOW))
    assert loss(plan) > 1.1 * sum(share(name, LOW) for name in WEIGHTS)


def test_gradients_are_believed_before_probes() -> None:
    """A module without a usable probe has its price from gradients, times what probes of its type say about these."""
    errors = {name: {LOW: 0.1, HIGH: 0.01} for name in ("a.q", "b.q", "c.q", "d.up")}
    prices = {"a.q": 1.0, "b.q": 2.0, "c.q": 4.0, "d.up": 8.0}
    probes = [Probe("a.q", LOW, 0.15), Probe("b.q", LOW, 0.30), Probe("c.q", LOW, 1e-3, noise=1.0)]
    losses = fit_probes(errors, probes, prices).losses
    assert losses["c.q"][HIGH] == pytest.approx(1.5 * 4.0 * 0.01)
    assert losses["d.up"][HIGH] == pytest.approx(1.5 * 8.0 * 0.01)  # no probe of its type: what all say
    assert fit_probes(errors, probes, {}).losses == fit_probes(errors, probes).losses
