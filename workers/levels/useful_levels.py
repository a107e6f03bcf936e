"""Which levels of a module are worth choosing from."""

from collections.abc import Mapping

from space.level import Level


def undominated(errors: Mapping[Level, float], sizes: Mapping[Level, int], required: tuple[Level, ...]) -> list[Level]:
    """Return, by bytes, the levels that no other level beats on both bytes and error, and the required ones."""
    kept, best = [], float("inf")
    for level in sorted(errors, key=lambda v: (sizes[v], errors[v], str(v))):
        if errors[level] < best or level in required:
            kept.append(level)
        best = min(best, errors[level])
    return kept
