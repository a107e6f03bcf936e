"""All recoveries by name."""

from space.errors import SpecError
from workers.recover.recovery import Recovery
from workers.recover.refit import REFIT

RECOVERIES: dict[str, Recovery] = {REFIT.name: REFIT}


def recovery_of(name: str) -> Recovery:
    """Return the recovery of a name. Raises SpecError."""
    if name not in RECOVERIES:
        raise SpecError(f"{name!r} is no recovery; there are {', '.join(RECOVERIES)}.")
    return RECOVERIES[name]
