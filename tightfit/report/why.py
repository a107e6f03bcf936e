"""The data behind a report's table of reasons: why each module has its level, as compact rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from space.results.document import FrontDocument
from space.results.explanation import Explanation, Move, Reason

MAX_ROWS = 1500
"""Rows in one report, over all points; those nearest to the recommended point come first."""
MAX_ROWS_OF_POINT = 400
_DIGITS = 3


def reasons_data(document: FrontDocument, explanations: Mapping[str, Explanation]) -> dict[str, Any]:
    """Return the JSON object of all reasons that fit.

    `modules` holds [name, dense bytes] pairs and `levels` texts; a row is [module, level, share, bytes, up level,
    bytes, KL, down level, bytes, KL], with indices for names and levels and zeros where there is no neighbour.
    """
    kept = _kept(document, explanations)
    modules: dict[tuple[str, int], int] = {}
    levels: dict[str, int] = {"": 0}
    points = {
        e.point: {
            "rate": e.going_rate,
            "predicted": _short(e.predicted_kl_divergence),
            "left_out": len(e.modules) - len(rows),
            "rows": [_row(r, modules, levels) for r in rows],
        }
        for e, rows in kept
    }
    return {"modules": list(modules), "levels": list(levels), "points": points}


def _kept(
    document: FrontDocument, explanations: Mapping[str, Explanation]
) -> list[tuple[Explanation, Sequence[Reason]]]:
    best = document.recommended or next(iter(document.front), None)
    kept: list[tuple[Explanation, Sequence[Reason]]] = []
    room = MAX_ROWS
    for point in sorted(document.front, key=lambda p: abs(p.size_bytes - best.size_bytes) if best else 0):
        found = explanations.get(point.point)
        rows = () if found is None else found.modules[:MAX_ROWS_OF_POINT]
        if found is None or len(rows) > room:
            continue
        room -= len(rows)
        kept.append((found, rows))
    return kept


def _row(reason: Reason, modules: dict[tuple[str, int], int], levels: dict[str, int]) -> list[float]:
    module = modules.setdefault((reason.module, reason.size_bytes + reason.saved_bytes), len(modules))
    own = levels.setdefault(reason.level, len(levels))
    share = _short(reason.kl_share)
    return [module, own, share, reason.size_bytes, *_cells(reason.up, levels), *_cells(reason.down, levels)]


def _cells(move: Move | None, levels: dict[str, int]) -> tuple[float, float, float]:
    if move is None:
        return 0, 0, 0
    return levels.setdefault(move.level, len(levels)), move.bytes_change, _short(move.kl_change)


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
