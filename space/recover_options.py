"""How a chosen point is recovered: what its record keeps until it is done."""

from dataclasses import asdict, dataclass
from typing import Any

from space.results.document import FrontPoint
from space.results.recovery_names import RECOVERY_NAMES

__all__ = ["RECOVERY_NAMES", "RecoverOptions"]


@dataclass(frozen=True, slots=True)
class RecoverOptions:
    """All that a recovery needs to know beside its job and its plan.

    Attributes:
        point: as it was chosen; the front may name another one so later.
        method: which recovery; None: the cheapest that helps, then the next while it pays.
        seed: of what it draws.
        minutes: of computing on one core for each recovery; None: as long as its course takes.
        text: what it learns from, as a calibration source; None: more of the job's.
        processes: of this machine that train together.
        sharding: what they divide, one of `SHARDINGS`.
        checkpointing: blocks keep their inputs alone for the way back, though memory would hold more.
        temperature: of both distributions while training; their KL is multiplied by its square.
        hard_labels: the weight of the cross-entropy of the text's own tokens beside that KL.

    """

    point: FrontPoint
    method: str | None = None
    seed: int = 0
    minutes: float | None = None
    text: str | None = None
    processes: int = 1
    sharding: str = "none"
    checkpointing: bool = False
    temperature: float = 1.0
    hard_labels: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "RecoverOptions":
        """Read the JSON object. Raises ValueError where it is none of these."""
        from space.parsing.checked import check_kind

        check_kind(RecoverOptions, value)
        return RecoverOptions(**{**value, "point": FrontPoint.from_json(value["point"])})
