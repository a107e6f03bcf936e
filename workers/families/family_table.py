"""All families by name; the first that a config matches is the family of its model."""

from typing import Any

from workers.families.causal_decoder import CAUSAL_DECODER
from workers.families.family import Family

FAMILIES: dict[str, Family] = {CAUSAL_DECODER.name: CAUSAL_DECODER}


def family_of(config: Any, named: str | None) -> Family | None:
    """Return the family of a config that names a class; None where no family claims it."""
    return next((family for family in FAMILIES.values() if family.matches(config, named)), None)
