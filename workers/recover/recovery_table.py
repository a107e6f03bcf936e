"""All recoveries by name, from the cheapest to the dearest; `RECOVERY_NAMES` are their names."""

from space.errors import SpecError
from workers.recover.low_rank import LOW_RANK
from workers.recover.quantization_aware import QUANTIZATION_AWARE
from workers.recover.recovery import Recovery
from workers.recover.refit import REFIT
from workers.recover.restore import RESTORE
from workers.recover.scale_training import SCALES

RECOVERIES: dict[str, Recovery] = {r.name: r for r in (REFIT, SCALES, LOW_RANK, RESTORE, QUANTIZATION_AWARE)}


def recovery_of(name: str) -> Recovery:
    """Return the recovery of a name. Raises SpecError."""
    if name not in RECOVERIES:
        raise SpecError(f"{name!r} is no recovery; there are {', '.join(RECOVERIES)}.")
    return RECOVERIES[name]
