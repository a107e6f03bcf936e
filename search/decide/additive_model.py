"""The additive model of a plan's loss, from single-module probes and calibrated output errors.

A module's KL is near a power of its relative output error (linearity theorem, arXiv 2411.17525), so two probes price
every level of it: bits, group sizes, sparsity and rank share one currency. What a probe says is weighed against its
noise (paired over sequences): below it, a module takes the price that modules of its type have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from statistics import fmean, median, variance

from search.decide.observation import Observation
from space.level import Level
from space.plan import Plan

_FLOOR = 1e-9
_EXPONENTS = (0.7, 1.3)  # how far a module's KL may bend away from proportional to its output error
_MIN_SPREAD = 0.3  # least standard deviation of log prices within a type of module
_SIGNIFICANT = 2.0  # standard errors above zero for a probe to count by itself
_LOSSLESS = 0.1  # of a level's output error: more than that in the base is a loss of its own
Errors = Mapping[str, Mapping[Level, float]]
"""module name -> level -> calibrated relative output error"""


@dataclass(frozen=True, slots=True)
class Probe:
    """One module changed in an otherwise nearly lossless plan.

    Attributes:
        module_name: the module.
        level: its level.
        kl_divergence: KL that the change added, over the same sequences; may be negative by noise.
        noise: standard error of that.
        before: the module's level in the other plan; None where that is lossless.

    """

    module_name: str
    level: Level
    kl_divergence: float
    noise: float = 0.0
    before: Level | None = None

    @staticmethod
    def of(observed: Observation, base: Observation) -> "Probe":
        """Return the probe of an observation beside its base's on the same first sequences."""
        choices = zip(observed.plan.levels, base.plan.levels, strict=True)
        (name, level), (_, before) = next(pair for pair in choices if pair[0] != pair[1])
        added = [a - b for a, b in zip(observed.sequence_kl, base.sequence_kl, strict=False)]
        noise = sqrt(variance(added) / len(added)) if len(added) > 1 else 0.0
        return Probe(name, level, fmean(added), noise, before)

    def from_lossless(self, errors: Errors) -> "Probe":
        """Return the probe as it were if the module had been lossless before.

        A change between levels of output errors e and f > e costs f - e at the module's price, so the worse of the two
        costs f by itself: the change times f / (f - e). That is nearly the change where e is that of 8 bits.
        """
        after, before = errors[self.module_name][self.level], 0.0
        if self.before is not None:
            before = errors[self.module_name].get(self.before, 0.0)
        if before <= _LOSSLESS * after or before == after:
            return self
        factor = max(after, before) / (after - before)
        worse = self.level if after > before or self.before is None else self.before
        return Probe(self.module_name, worse, self.kl_divergence * factor, self.noise * abs(factor))


@dataclass(frozen=True)
class AdditiveModel:
    """module name -> level -> predicted KL."""

    losses: Mapping[str, Mapping[Level, float]]

    def predict(self, plan: Plan) -> float:
        """Return the sum of a plan's losses."""
        return sum(self.losses[name][level] for name, level in plan.levels)


def fit_probes(errors: Errors, probes: Sequence[Probe], prices: Mapping[str, float] | None = None) -> AdditiveModel:
    """Return the additive model that goes through the probes; losses never rise with bytes of lower error.

    Before probing a module is believed to have its price from gradients, times what the probes of its type say about
    these; where there is none, the price of its type, and for a type without probes that of all. A module without a
    usable probe (pinned, or below the noise) takes that.
    """
    usable = [p for probe in probes if _is_usable(p := probe.from_lossless(errors), errors)]
    pooled = {name: _pooled(name, usable, errors, prices or {}) for name in errors}
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in errors}
    for probe in usable:
        error = errors[probe.module_name][probe.level]
        points[probe.module_name].append((error, _shrunk(probe, error, pooled[probe.module_name])))
    return AdditiveModel(
        {
            name: {v: _price(e, sorted(points[name]), pooled[name][0]) for v, e in levels.items()}
            for name, levels in errors.items()
        }
    )


def price_errors(errors: Errors, prices: Mapping[str, float]) -> AdditiveModel:
    """Return the additive model of prices per output error; a module without one takes that of its type, or of all."""
    return AdditiveModel({n: {v: _price_of(n, prices) * e for v, e in levels.items()} for n, levels in errors.items()})


def _price_of(name: str, prices: Mapping[str, float]) -> float:
    if name in prices:
        return prices[name]
    same = [price for other, price in prices.items() if _kind(other) == _kind(name)] or list(prices.values())
    return median(same) if same else 1.0


def _is_usable(probe: Probe, errors: Errors) -> bool:
    above = probe.kl_divergence > max(_FLOOR, _SIGNIFICANT * probe.noise)
    return above and errors[probe.module_name][probe.level] > 0


def _pooled(name: str, probes: Sequence[Probe], errors: Errors, prices: Mapping[str, float]) -> tuple[float, float]:
    """Return the price per output error that is believed before probing, and how far log prices spread around it."""
    kind, known = _kind(name), prices if name in prices else dict[str, float]()
    believed = [p for p in probes if not known or p.module_name in known]
    same = [p for p in believed if _kind(p.module_name) == kind] or believed
    logs = [log(p.kl_divergence / errors[p.module_name][p.level] / known.get(p.module_name, 1.0)) for p in same]
    if not logs:
        return known.get(name, 1.0), _MIN_SPREAD
    middle = median(logs)
    spread = max(_MIN_SPREAD, 1.5 * median(abs(value - middle) for value in logs))
    return known.get(name, 1.0) * exp(middle), spread


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _shrunk(probe: Probe, error: float, pooled: tuple[float, float]) -> float:
    """Return a probe's KL drawn towards its type's price, by the precision of both."""
    price, spread = pooled
    own = (probe.noise / probe.kl_divergence) ** 2
    weight = spread**2 / (spread**2 + own)
    return exp(weight * log(probe.kl_divergence) + (1 - weight) * log(price * error))


def _price(error: float, points: list[tuple[float, float]], pooled: float) -> float:
    """Return the KL at an output error: a power law between probes, its exponent kept near one."""
    if error <= 0:
        return 0.0
    if not points:
        return pooled * error
    exponent = 1.0
    pairs = [(a, b) for a, b in pairwise(points) if b[0] > a[0]]
    if pairs:
        (low_error, low_kl), (high_error, high_kl) = min(pairs, key=lambda p: _distance(error, p))
        exponent = log(high_kl / low_kl) / log(high_error / low_error)
    exponent = min(max(exponent, _EXPONENTS[0]), _EXPONENTS[1])
    anchor_error, anchor_kl = min(points, key=lambda p: abs(log(error / p[0])))
    return float(anchor_kl * (error / anchor_error) ** exponent)


def _distance(error: float, pair: tuple[tuple[float, float], tuple[float, float]]) -> float:
    """Return how far an error lies outside a pair of probes, in logarithms."""
    (low, _), (high, _) = pair
    return max(0.0, log(low / error), log(error / high))
