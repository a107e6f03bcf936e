"""The front of a job as users read it: `tightfit front --json` prints exactly this."""

from dataclasses import asdict, dataclass
from typing import Any

SCHEMA_VERSION = 1
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class DensePoint:
    """The model as submitted."""

    size_bytes: int
    perplexity: float


@dataclass(frozen=True, slots=True)
class UniformPoint:
    """One bit-width for every module: what people do today."""

    level: str
    size_bytes: int
    kl_divergence: float
    kl_divergence_ci95: Interval
    perplexity: float


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One non-dominated plan, measured on held-out text; `size_bytes` counts what the budget counts."""

    point: str
    trial: int
    size_bytes: int
    bits_per_weight: float
    kl_divergence: float
    kl_divergence_ci95: Interval
    perplexity: float
    recommended: bool


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
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "FrontDocument":
        """Read the JSON object."""
        return FrontDocument(
            **{
                **value,
                "dense": DensePoint(**value["dense"]),
                "uniform": tuple(UniformPoint(**_with_interval(u)) for u in value["uniform"]),
                "front": tuple(FrontPoint(**_with_interval(p)) for p in value["front"]),
                "reference_point": tuple(value["reference_point"]),
                "cost": SearchCost(**value["cost"]),
            }
        )

    @property
    def recommended(self) -> FrontPoint | None:
        """Return the point that is recommended for the budget, or None where none fits."""
        return next((p for p in self.front if p.recommended), None)


def _with_interval(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "kl_divergence_ci95": tuple(value["kl_divergence_ci95"])}
