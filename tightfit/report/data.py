"""The data behind a report's heat map and size bar: which level each module has at each point, and where bytes go."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from space.cost import BYTE_PARTS, cache_layers, plan_bytes, searched_cache_bytes
from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.results.document import FrontDocument
from space.results.explanation import Explanation
from space.spec import JobSpec
from tightfit.report.why import reasons_data

MAX_CELLS = 20_000
"""Heat-map cells in one report, over all points: what keeps it small whatever the model."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """Modules shown as one cell: one, or all of one type in one block (experts)."""

    block: int | None
    column: str
    modules: tuple[ModuleInfo, ...]


def report_data(
    document: FrontDocument,
    plans: Mapping[str, Plan],
    inventory: Inventory,
    spec: JobSpec,
    explanations: Mapping[str, Explanation],
    home_option: str = "",
) -> dict[str, Any]:
    """Return the JSON object that the page's script reads."""
    cells = _cells(inventory)
    kept = _points_with_map(document, plans, len(cells))
    palette: dict[tuple[Any, ...], int] = {}
    points = []
    for point in document.front:
        plan = plans.get(point.point)
        points.append(
            {
                "id": point.point,
                "size": point.size_bytes,
                "kl": _finite(point.kl_divergence),
                "ci": [_finite(v) for v in point.kl_divergence_ci95],
                "perplexity": _finite(point.perplexity),
                "bits": _finite(point.bits_per_weight),
                "best": point.recommended,
                "own": None if point.own is None else asdict(point.own),
                "token": 0 if plan is None else _token_bytes(inventory, plan, spec),
                "command": document.export_command(point.point, home_option),
                "bytes": None
                if plan is None
                else [*plan_bytes(inventory, plan, spec.target, spec.context, spec.batch).by_part.values()],
                "map": _indices(cells, plan, palette) if plan is not None and point.point in kept else None,
            }
        )
    return {
        "points": points,
        "budget": document.budget_bytes,
        "context": spec.context,
        "batch": spec.batch,
        "cache": _cache_layers(inventory, spec.target),
        "beside": document.metric.beside,
        "dense": {
            "size": document.dense.size_bytes,
            "perplexity": _finite(document.dense.perplexity),
            "own": None if document.dense.own is None else asdict(document.dense.own),
        },
        "categories": BYTE_PARTS,
        "columns": list(dict.fromkeys(c.column for c in cells if c.block is not None)),
        "cells": [_told(cell) for cell in cells],
        "levels": list(palette),
        "why": reasons_data(document, explanations),
    }


def script_json(value: Any) -> str:
    """Return JSON that cannot leave a `<script>` element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _cells(inventory: Inventory) -> list[_Cell]:
    groups: dict[tuple[int | None, str], list[ModuleInfo]] = {}
    for module in inventory.sites:
        column = module.name if module.block is None else module.module_type
        groups.setdefault((module.block, column), []).append(module)
    return [_Cell(block, column, tuple(modules)) for (block, column), modules in groups.items()]


def _points_with_map(document: FrontDocument, plans: Mapping[str, Plan], num_cells: int) -> set[str]:
    """Return as many points as fit, evenly spread; the recommended one is always among them."""
    names = [p.point for p in document.front if p.point in plans]
    room = max(1, MAX_CELLS // max(1, num_cells))
    if len(names) <= room:
        return set(names)
    best = document.recommended
    first = [best.point] if best is not None else []
    spread = [names[i * len(names) // room] for i in range(room)]
    return set([*first, *spread][:room])


def _told(cell: _Cell) -> dict[str, Any]:
    first = cell.modules[0]
    return {
        "block": cell.block,
        "column": cell.column,
        "name": first.name if len(cell.modules) == 1 else f"{len(cell.modules)} modules such as {first.name}",
        "shape": f"{first.out_features} x {first.in_features}",
    }


def _indices(cells: Sequence[_Cell], plan: Plan, palette: dict[tuple[Any, ...], int]) -> list[int]:
    return [palette.setdefault(_summary([plan[m.name] for m in cell.modules]), len(palette)) for cell in cells]


def _summary(levels: Sequence[Level]) -> tuple[Any, ...]:
    """Return (text, bits, group size, sparsity, rank) of a cell: means, and the most frequent group size."""
    count = len(levels)
    texts = Counter(str(level) for level in levels)
    text = ", ".join(name if n == count else f"{n} x {name}" for name, n in texts.most_common(4))
    bits = sum(level.rate for level in levels) / count
    group = Counter("dense" if v.is_dense else "ch" if v.group_size is None else v.group_size for v in levels)
    sparsity = sum(level.sparsity for level in levels) / count
    rank = sum(level.rank for level in levels) / count
    return text, round(bits, 1), group.most_common(1)[0][0], round(sparsity, 3), round(rank, 1)


def _cache_layers(inventory: Inventory, target: str) -> list[tuple[int, int, int | None, int]] | None:
    """Return [layers that are alike, bytes of a token, most tokens, bytes of the state], or None where unknown."""
    if (layers := cache_layers(inventory, target)) is None:
        return None
    alike = Counter((layer.token_bytes, layer.window, layer.fixed_bytes) for layer in layers)
    return [(count, *of_layer) for of_layer, count in alike.items()]


def _token_bytes(inventory: Inventory, plan: Plan, spec: JobSpec) -> int:
    """Return the bytes that a plan's keys and values take of each token, as far as they have levels."""
    return searched_cache_bytes(inventory, plan, spec.target) // max(1, spec.context * spec.batch)


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
