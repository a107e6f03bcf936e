"""Who is best in a league, as its document tells: what its tables and its plots both ask."""

from collections.abc import Mapping
from math import exp, log
from statistics import mean
from typing import Any

from benchmarks.search.tables import mean_kl

OURS = "tightfit"
Row = Mapping[str, Any]


def best_peers(document: Row) -> dict[str, float]:
    """Return bits -> the least mean KL of any peer."""
    found = {}
    for bits in document["budgets"]:
        peers = [mean_kl(m, bits) for m in document["methods"].values() if m.get("is_peer")]
        known = [kl for kl in peers if kl is not None]
        if known:
            found[bits] = min(known)
    return found


def average_ratio(method: Row, best: Mapping[str, float]) -> float | None:
    """Return the geometric mean over budgets of a method's KL against the best peer's; None where one is missing."""
    values = [mean_kl(method, bits) for bits in best]
    known = [value for value in values if value is not None]
    if not best or len(known) < len(best):
        return None
    return exp(mean(log(kl / least) for kl, least in zip(known, best.values(), strict=True)))


def ranked(document: Row, best: Mapping[str, float]) -> list[str]:
    """Return the methods that were run: complete ones by their average ratio, then the others."""
    ratios = {n: average_ratio(m, best) for n, m in document["methods"].items() if "kl" in m}
    return sorted(ratios, key=lambda n: (ratios[n] is None, ratios[n] or 0.0, n))
