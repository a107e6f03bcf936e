"""How a chosen point is exported: what its record keeps until it is done."""

from dataclasses import asdict, dataclass
from typing import Any

from space.results.document import FrontPoint


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """All that an export needs to know beside its job and its plan.

    Attributes:
        point: as it was chosen; the front of a running job may name another one so later.
        measured_on: the text that the point's KL divergence is of, "held_out" or "search".
        limit_bytes: what the point may take, as a budget counts it.
        cache_bytes: the part of that which the key/value cache takes.
        target: what it is written as.
        refit: whether its values are recovered before; None: where that can help and memory holds both models.
        recovery: how (see `workers/recover/recovery_table.py`).

    """

    point: FrontPoint
    measured_on: str
    limit_bytes: int
    cache_bytes: int
    target: str
    refit: bool | None
    recovery: str = "refit"

    @property
    def recorded_kl(self) -> float | None:
        """Return the KL divergence on held-out text that was measured, if it was."""
        return self.point.kl_divergence if self.measured_on == "held_out" else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ExportOptions":
        """Read the JSON object. Raises ValueError where it is none of these."""
        from space.parsing.checked import check_kind

        check_kind(ExportOptions, value)
        return ExportOptions(**{**value, "point": FrontPoint.from_json(value["point"])})
