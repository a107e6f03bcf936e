"""The front of a job as users read it: `tightfit front --json` prints exactly this."""

from dataclasses import asdict, dataclass
from typing import Any

from space.question import KL, Metric
from space.results.expert_tokens import ExpertTokens
from space.results.front import Interval
from space.results.own_score import OwnScore
from space.results.price import MarginalPrice

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class DensePoint:
    """The model as submitted."""

    size_bytes: int
    perplexity: float
    own: OwnScore | None = None

    @staticmethod
    def from_json(value: dict[str, Any]) -> "DensePoint":
        """Read the JSON object."""
        return DensePoint(**{**value, "own": OwnScore.from_json(value.get("own"))})


@dataclass(frozen=True, slots=True)
class UniformPoint:
    """One bit-width for every module: what people do today."""

    level: str
    size_bytes: int
    kl_divergence: float
    kl_divergence_ci95: Interval
    perplexity: float
    own: OwnScore | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan beside another one, measured on the same sequences.

    Attributes:
        other: name of the other point, or level of the uniform plan.
        ratio: this KL divergence over the other's; None where the other's is not above zero.
        difference_ci95: of this KL divergence minus the other's, paired over sequences.
        measurable: the two differ measurably: the interval leaves zero out.

    """

    other: str
    ratio: float | None
    difference_ci95: Interval
    measurable: bool


@dataclass(frozen=True, slots=True)
class Ancestry:
    """How a recovered point came to be.

    Attributes:
        task: which made it.
        methods: the recoveries that were kept, in their order.
        levels: the name of its values in the cache of its model.
        others: whether norms and biases have values of their own there, too.
        seed: of what they drew.
        steps: of training, all of them together.
        seconds: of computing.
        text: what they learned from; None: the job's text.
        versus_origin: beside the plan as the search measured it.

    """

    task: str
    methods: tuple[str, ...]
    levels: str
    others: bool
    seed: int
    steps: int
    seconds: float
    text: str | None
    versus_origin: Comparison

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Ancestry":
        """Read the JSON object."""
        found = _comparison(value, "versus_origin")
        return Ancestry(**{**value, "methods": tuple(value["methods"]), "versus_origin": found})


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One non-dominated plan, measured on held-out text; `size_bytes` counts what the budget counts.

    Attributes:
        recovered: how its values were made better after the search; None: they are those that the search measured.
        versus_next: beside the next larger point; None for the largest one, and in documents of schema version 1.
        versus_uniform: beside the uniform plan that is nearest in bytes, whose size `uniform` tells; documents of
            before hold the best one that is no larger. None where no uniform plan was measured.
        own: what it says to the user's own questions; None: there were none, or it was not asked.

    """

    point: str
    trial: int
    size_bytes: int
    bits_per_weight: float
    kl_divergence: float
    kl_divergence_ci95: Interval
    perplexity: float
    recommended: bool
    versus_next: Comparison | None = None
    versus_uniform: Comparison | None = None
    recovered: Ancestry | None = None
    own: OwnScore | None = None

    @staticmethod
    def from_json(value: dict[str, Any]) -> "FrontPoint":
        """Read the JSON object, of this schema version or an older one."""
        return FrontPoint(**_with_comparisons(_with_interval(value)))


@dataclass(frozen=True, slots=True)
class GivenPoint:
    """A plan that the request brought, such as another tool's; `versus_front` is the best that takes no more bytes.

    Its comparison is that point's KL over this plan's; None where no point is so small.
    """

    name: str
    trial: int
    size_bytes: int
    kl_divergence: float
    kl_divergence_ci95: Interval
    perplexity: float
    versus_front: Comparison | None = None
    own: OwnScore | None = None

    @staticmethod
    def from_json(value: dict[str, Any]) -> "GivenPoint":
        """Read the JSON object."""
        return GivenPoint(**{**_with_interval(value), "versus_front": _comparison(value, "versus_front")})


@dataclass(frozen=True, slots=True)
class SearchCost:
    """What the search cost."""

    token_forwards: float
    trials: int
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class FrontDocument:
    """A job's front with everything needed to judge it.

    Attributes:
        measured_on: "held_out", or "search" while a job has not reached its held-out measurement.
        reference_point: (bytes of the largest uniform plan, KL of the smallest one), corner of the hypervolume.
        marginal_price: what a little more memory than the recommended point takes would buy.
        advice: what would make the front better, where the search knows.
        metric: what `kl_divergence` and `perplexity` stand for in this document.
        given: the plans that the request brought.
        experts: how many tokens the experts saw that levels were calibrated on; None: there are none, or it was not
            counted.

    """

    job: str
    state: str
    model: str
    target: str
    budget_bytes: int
    seed: int
    dense: DensePoint
    uniform: tuple[UniformPoint, ...]
    front: tuple[FrontPoint, ...]
    hypervolume: float
    reference_point: tuple[float, float]
    cost: SearchCost
    measured_on: str = "held_out"
    marginal_price: MarginalPrice | None = None
    advice: str | None = None
    metric: Metric = KL
    given: tuple[GivenPoint, ...] = ()
    experts: ExpertTokens | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "FrontDocument":
        """Read the JSON object, of this schema version or an older one: what that did not know is None."""
        price, experts = value.get("marginal_price"), value.get("experts")
        return FrontDocument(
            **{
                **value,
                "dense": DensePoint.from_json(value["dense"]),
                "uniform": tuple(UniformPoint(**_with_interval(u)) for u in value["uniform"]),
                "front": tuple(map(FrontPoint.from_json, value["front"])),
                "reference_point": tuple(value["reference_point"]),
                "cost": SearchCost(**value["cost"]),
                "given": tuple(map(GivenPoint.from_json, value.get("given", ()))),
                "marginal_price": None if price is None else MarginalPrice(**price),
                "metric": Metric.from_json(value.get("metric")),
                "experts": None if experts is None else ExpertTokens(**experts),
                "schema_version": SCHEMA_VERSION,
            }
        )

    @property
    def recommended(self) -> FrontPoint | None:
        """Return the point that is recommended for the budget, or None where none fits."""
        return next((p for p in self.front if p.recommended), None)

    def export_command(self, point_name: str, options: str = "") -> str:
        """Return the command that exports a point; `options` is what it needs to find the job's records."""
        return f"tightfit export {self.job} --point {point_name} --out DIR{options}"

    def uniform_excess(self, point: FrontPoint) -> float | None:
        """Return how much larger than a point the uniform plan beside it is, as a share (0.04 is 4 %), where known."""
        level = None if point.versus_uniform is None else point.versus_uniform.other
        return next((u.size_bytes / point.size_bytes - 1 for u in self.uniform if u.level == level), None)


def _with_interval(value: dict[str, Any]) -> dict[str, Any]:
    own = OwnScore.from_json(value.get("own"))
    return {**value, "kl_divergence_ci95": tuple(value["kl_divergence_ci95"]), "own": own}


def _with_comparisons(value: dict[str, Any]) -> dict[str, Any]:
    recovered = value.get("recovered")
    return {
        **value,
        "recovered": None if recovered is None else Ancestry.from_json(recovered),
        "versus_next": _comparison(value, "versus_next"),
        "versus_uniform": _comparison(value, "versus_uniform"),
    }


def _comparison(value: dict[str, Any], name: str) -> Comparison | None:
    found = value.get(name)
    return None if found is None else Comparison(**{**found, "difference_ci95": tuple(found["difference_ci95"])})
