"""The additive model of a plan's loss, from single-module probes and calibrated output errors.

A module's KL is near a power of its relative output error (linearity theorem, arXiv 2411.17525), so two probes price
every level of it: bits, group sizes, sparsity and rank share one currency. What a probe says is weighed against its
noise (paired over sequences): below it, a module takes the price that modules of its type have.
"""

from collections.abc import Iterable, Mapping, Sequence
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
Items = Mapping[str, Sequence[str]]
"""item -> its modules, which take one level together; most items are one module"""


@dataclass(frozen=True, slots=True)
class Probe:
    """One item changed in an otherwise nearly lossless plan.

    Attributes:
        module_name: the item: a module, or the first of those that take one level together.
        level: its level.
        kl_divergence: KL that the change added, over the same sequences; may be negative by noise.
        noise: standard error of that.
        before: its level in the other plan; None where that is lossless.

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

    def loss(self, module_names: Iterable[str], level: Level) -> float:
        """Return what modules lose together at a level."""
        return sum(self.losses[name][level] for name in module_names)


def fit_probes(
    errors: Errors, probes: Sequence[Probe], prices: Mapping[str, float] | None = None, items: Items | None = None
) -> AdditiveModel:
    """Return the additive model that goes through the probes; losses never rise with bytes of lower error.

    Before probing a module is believed to have its price from gradients, times what the probes of its type say about
    these; where there is none, the price of its type, and for a type without probes that of all. A module without a
    usable probe (pinned, or below the noise) takes that. An item of several modules is priced as one; each of them has
    that share of its loss which their errors, at the prices believed before probing, have in it.
    """
    of_items = OfItems.of(errors, prices or {}, items or {name: (name,) for name in errors})
    together, known = of_items.errors, of_items.prices
    usable = [p for probe in probes if _is_usable(p := probe.from_lossless(together), together)]
    pooled = {name: _pooled(name, usable, together, known) for name in together}
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in together}
    for probe in usable:
        error = together[probe.module_name][probe.level]
        points[probe.module_name].append((error, _shrunk(probe, error, pooled[probe.module_name])))
    losses = {
        name: {v: _price(e, sorted(points[name]), pooled[name][0]) for v, e in levels.items()}
        for name, levels in together.items()
    }
    return AdditiveModel(of_items.shared_out(losses))


@dataclass(frozen=True)
class OfItems:
    """Errors and prices of items; those of an item of one module are its own.

    The error of several modules is the sum of theirs, each weighed by its price over their mean price, which is the
    item's price: so price times error is the sum of the modules' prices times errors.

    Attributes:
        errors: item -> level -> output error.
        prices: item -> price, where that of any of its modules is known.
        parts: (item, level) -> module -> its share of the item's error; items of one module have none.

    """

    errors: Errors
    prices: Mapping[str, float]
    parts: Mapping[tuple[str, Level], Mapping[str, float]]
    items: Items

    @staticmethod
    def of(errors: Errors, prices: Mapping[str, float], items: Items) -> "OfItems":
        """Return errors and prices of items from those of modules."""
        summed, priced = dict[str, Mapping[Level, float]](), dict[str, float]()
        parts = dict[tuple[str, Level], Mapping[str, float]]()
        for item, names in items.items():
            if len(names) == 1:
                summed[item] = errors[item]
                priced |= {item: prices[item]} if item in prices else {}
                continue
            of_names = {name: _price_of(name, prices) for name in names}
            mean = fmean(of_names.values())
            weights = {name: price / mean if mean > 0 else 1.0 for name, price in of_names.items()}
            priced |= {item: mean} if any(name in prices for name in names) else {}
            for level in errors[item]:
                parts[item, level] = {name: weights[name] * errors[name][level] for name in names}
            summed[item] = {level: sum(parts[item, level].values()) for level in errors[item]}
        return OfItems(summed, priced, parts, items)

    def shared_out(self, losses: Mapping[str, Mapping[Level, float]]) -> dict[str, dict[Level, float]]:
        """Return module -> level -> loss from those of items."""
        found: dict[str, dict[Level, float]] = {}
        for item, names in self.items.items():
            for name in names:
                found[name] = {
                    level: loss if len(names) == 1 else loss * self._share(item, name, level)
                    for level, loss in losses[item].items()
                }
        return found

    def _share(self, item: str, name: str, level: Level) -> float:
        whole = self.errors[item][level]
        return self.parts[item, level][name] / whole if whole > 0 else 0.0


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
