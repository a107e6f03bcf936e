"""How modules' errors add up around an operating point: a quadratic model of the KL divergence of nearby plans.

Errors of different modules partly cancel and partly reinforce each other. A probe's sketch s(x) is a vector with
KL(x) near ½ mean s², and changes of s by single modules add up (workers/evaluate/sketch.py); so the probes of one
level up and one down around a base b give the KL of every plan made of them,

    KL(x) ~ ½ mean (s(b) + Σ_m d(m, x_m))²,   d(m, o) = s(b with o in m) - s(b),

all pairs of modules included, without a measurement of any pair. The text is a sample: both parts are shrunk by their
noise, or an optimizer would find the noise. This is the Gauss-Newton quadratic form of CLADO
(arXiv 2307.05657), read off single changes instead of measured pairs.

Shape legend: M modules, O options (levels of modules), S entries of a sketch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from search.decide.additive_model import AdditiveModel
from search.decide.sketch_products import products_of
from space.level import Level
from space.menu import SearchSpace
from space.plan import Choice, Plan

_BASE = -1
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The base with one item at another level.

    Attributes:
        module_name: the item: a module, or the first of those that take one level together.
        level: its level.
        sketch: (S,) of the plan; its start, if it was measured on less text than the base.
        added: KL that the change adds to the base's, over the same sequences.
        noise: standard error of that.

    """

    module_name: str
    level: Level
    sketch: np.ndarray
    added: float
    noise: float


@dataclass(frozen=True, slots=True)
class Move:
    """An option that is taken, and what its module's other options are beside it.

    Attributes:
        module: index of the module.
        own: its options.
        size_bytes: stored bytes of this one.
        square: |change|² of each of them from here.
        extra: bytes that each of them adds.
        beside: those one step down and up.

    """

    module: int
    own: slice
    size_bytes: int
    square: np.ndarray
    extra: np.ndarray
    beside: tuple[int, ...]


@dataclass(frozen=True)
class QuadraticModel:
    """Predicted KL of plans near a base; plans are (M,) arrays of option indices.

    Attributes:
        base: the operating point.
        names: the items, in the order of the space; "module" below is one of them.
        options: (item, level) of each option, ordered by item and bytes.
        module: (O,) index of each option's item.
        size_bytes: (O,) stored bytes.
        gradient: (O,) KL that an option adds at the base, without its own square.
        curvature: (O, O) products of changes: ½ Σ Σ of it is what options add together.
        kl_divergence: of the base.
        doubt: (O,) standard deviation of what an option adds, after the noise is taken out.
        space: whose items these are; None where each is a module.

    """

    base: Plan
    names: tuple[str, ...]
    options: tuple[tuple[str, Level], ...]
    module: np.ndarray
    size_bytes: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    kl_divergence: float
    doubt: np.ndarray
    space: SearchSpace | None = None

    def cautious(self, deviations: float) -> "QuadraticModel":
        """Return the model that takes every change to be worse than predicted by so many standard deviations."""
        return replace(self, gradient=self.gradient + deviations * self.doubt)

    @cached_property
    def start(self) -> np.ndarray:
        """Return the base as option indices."""
        return np.array([self._index[choice] for choice in self._choices_of(self.base)])

    def indices(self, plan: Plan) -> np.ndarray | None:
        """Return a plan as option indices, or None where it has a level that is no option here."""
        if plan.digest not in self._indices:
            found = [self._index.get(choice) for choice in self._choices_of(plan)]
            self._indices[plan.digest] = None if None in found else np.array(found)
        return self._indices[plan.digest]

    def plan(self, chosen: np.ndarray) -> Plan:
        """Return the plan of option indices."""
        key = chosen.tobytes()
        if key not in self._plans:
            choices = self.choices(chosen)
            self._plans[key] = Plan(choices) if self.space is None else self.space.plan_of(choices)
        return self._plans[key]

    def choices(self, chosen: np.ndarray) -> tuple[Choice, ...]:
        """Return (item, level) of option indices."""
        return tuple(self.options[i] for i in chosen)

    def _choices_of(self, plan: Plan) -> tuple[Choice, ...]:
        return plan.levels if self.space is None else self.space.choices_of(plan)

    @cached_property
    def every(self) -> np.ndarray:
        """Return (O,) all option indices."""
        return np.arange(len(self.module))

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Return (O,) the diagonal of the curvature."""
        return self.curvature.diagonal().copy()

    @cached_property
    def moves(self) -> list[Move]:
        """Return what each option brings about when it is taken."""
        first = self.module.searchsorted(np.arange(len(self.names) + 1)).tolist()
        return [
            Move(
                module,
                slice(begin, end),
                int(self.size_bytes[option]),
                self.diagonal[begin:end] + self.diagonal[option] - 2 * self.curvature[begin:end, option],
                self.size_bytes[begin:end] - self.size_bytes[option],
                tuple(i for i in (option - 1, option + 1) if begin <= i < end),
            )
            for module, (begin, end) in enumerate(pairwise(first))
            for option in range(begin, end)
        ]

    @cached_property
    def _plans(self) -> dict[bytes, Plan]:
        """Return the plans that were asked for: rounds end in the same ones again and again."""
        return {}

    @cached_property
    def _indices(self) -> dict[str, np.ndarray | None]:
        """Return the option indices of plans, by digest."""
        return {}

    @cached_property
    def _index(self) -> Mapping[tuple[str, Level], int]:
        return {option: i for i, option in enumerate(self.options)}

    def predict(self, chosen: np.ndarray) -> float:
        """Return the predicted KL."""
        pairs = self.curvature[np.ix_(chosen, chosen)].sum()
        return float(self.kl_divergence + self.gradient[chosen].sum() + pairs / 2)


def fit_neighbours(
    space: SearchSpace,
    base: Plan,
    base_sketch: np.ndarray,
    neighbours: Sequence[Neighbour],
    prices: AdditiveModel,
) -> QuadraticModel:
    """Return the model of plans near a base.

    What a change adds by itself is its measured KL, drawn towards the additive price by its noise; what two changes add
    together is the product of their sketches, drawn towards nothing by how well two halves of the text agree on them.

    Args:
        space: levels and their bytes.
        base: the operating point.
        base_sketch: (S,) of the base.
        neighbours: its measured neighbours, each on as much of the base's text as it was worth.
        prices: what is believed before measuring.

    """
    origin = base_sketch.astype(np.float32)
    sketches = [n.sketch[: origin.size].astype(np.float32) for n in neighbours]
    products = products_of([sketch - origin[: sketch.size] for sketch in sketches])
    length = float(origin @ origin) / origin.size
    expected = np.array([_price_change(prices, space.items[n.module_name], base, n) for n in neighbours])
    added, doubt = _shrunk_changes(neighbours, expected, products.diagonal() * length)
    rows = {(n.module_name, n.level): i for i, n in enumerate(neighbours)}
    options = [o for item in space.items for o in _options(item, space.levels[item], base[item], rows)]
    return _assemble(space, base, length / 2, options, products, added - products.diagonal() / 2, doubt)


def _price_change(prices: AdditiveModel, names: Sequence[str], base: Plan, neighbour: Neighbour) -> float:
    return prices.loss(names, neighbour.level) - prices.loss(names, base[neighbour.module_name])


def _shrunk_changes(
    neighbours: Sequence[Neighbour], expected: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (probes,) KL added by each change, as far as it stands out of its noise, and the deviation that is left.

    The additive price, times one drift for all, is what is believed before measuring. Beyond it, a change acts through
    its product with the base's own errors, whose square is expected to grow with `scale`, |change|² |base|².
    """
    measured, noise = np.array([n.added for n in neighbours]), np.array([n.noise for n in neighbours])
    drift = float(expected @ measured / max(expected @ expected, _TINY)) if expected.any() else 0.0
    beyond = measured - drift * expected
    signal = max(0.0, float((beyond**2 - noise**2).sum() / max(scale.sum(), _TINY))) * scale
    weight = signal / np.maximum(signal + noise**2, _TINY)
    return drift * expected + weight * beyond, np.sqrt(weight) * noise


def _assemble(
    space: SearchSpace,
    base: Plan,
    kl_divergence: float,
    options: Sequence[tuple[str, Level, int]],
    products: np.ndarray,
    slopes: np.ndarray,
    doubts: np.ndarray,
) -> QuadraticModel:
    names = tuple(space.items)
    position = {name: i for i, name in enumerate(names)}
    rows, count = np.array([row for _, _, row in options]), len(options)
    probed = rows != _BASE
    curvature, gradient, doubt = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    curvature[np.ix_(probed, probed)] = products[np.ix_(rows[probed], rows[probed])]
    gradient[probed], doubt[probed] = slopes[rows[probed]], doubts[rows[probed]]
    return QuadraticModel(
        base=base,
        names=names,
        options=tuple((name, level) for name, level, _ in options),
        module=np.array([position[name] for name, _, _ in options]),
        size_bytes=np.array([space.item_sizes[name][level] for name, level, _ in options], dtype=np.int64),
        gradient=gradient,
        curvature=curvature,
        kl_divergence=kl_divergence,
        doubt=doubt,
        space=space,
    )


def _options(
    name: str, levels: Sequence[Level], base: Level, rows: Mapping[tuple[str, Level], int]
) -> list[tuple[str, Level, int]]:
    """Return (module, level, row of its probe) of a module's base and probed levels, by bytes."""
    return [(name, v, rows.get((name, v), _BASE)) for v in levels if v == base or (name, v) in rows]
