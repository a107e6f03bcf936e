"""The data behind a report's heat map and size bar: which level each module has at each point, and where bytes go."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from space.cost import key_value_bytes, others_bytes
from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.results.document import FrontDocument
from space.results.explanation import Explanation
from space.spec import JobSpec
from space.targets.target_table import TARGETS
from tightfit.report.why import reasons_data

CATEGORIES = ("values", "scales", "masks", "low-rank factors", "dense modules", "tensors left alone", "KV cache")
_CATEGORY_OF = {
    **dict.fromkeys(("scale", "weight_scale"), "scales"),
    "mask": "masks",
    **dict.fromkeys(("left", "right", "factor_scale"), "low-rank factors"),
}
"""Name of a tensor within its module -> category; any other holds values."""
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
                "command": document.export_command(point.point, home_option),
                "bytes": None if plan is None else _bytes_by_category(inventory, plan, spec),
                "map": _indices(cells, plan, palette) if plan is not None and point.point in kept else None,
            }
        )
    return {
        "points": points,
        "budget": document.budget_bytes,
        "context": spec.context,
        "batch": spec.batch,
        "cache": _cache_layers(inventory),
        "beside": document.metric.beside,
        "dense": {"size": document.dense.size_bytes, "perplexity": _finite(document.dense.perplexity)},
        "categories": CATEGORIES,
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
    for module in inventory.modules:
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


def _cache_layers(inventory: Inventory) -> list[tuple[int, int, int | None, int]] | None:
    """Return [layers that are alike, bytes of a token, most tokens, bytes of the state], or None where unknown."""
    if inventory.key_value is None:
        return None
    alike = Counter(inventory.key_value)
    return [(count, layer.token_bytes, layer.window, layer.fixed_bytes) for layer, count in alike.items()]


def _bytes_by_category(inventory: Inventory, plan: Plan, spec: JobSpec) -> list[int]:
    """Return the bytes of each of CATEGORIES; values are what a module's bytes are besides all else."""
    totals = dict.fromkeys(CATEGORIES, 0)
    for module in inventory.modules:
        for name, size in _module_parts(module, plan[module.name], spec.target).items():
            totals[name] += size
    totals["tensors left alone"] = others_bytes(inventory, spec.target)
    totals["KV cache"] = key_value_bytes(inventory, spec.context, spec.batch)
    return list(totals.values())


def _module_parts(module: ModuleInfo, level: Level, target: str) -> dict[str, int]:
    """Return category -> bytes of a module."""
    if level.is_dense:
        return {"dense modules": module.weight.size_bytes}
    parts: Counter[str] = Counter()
    for tensor in TARGETS[target].layout(module, level):
        parts[_CATEGORY_OF.get(tensor.name, "values")] += tensor.size_bytes
    return parts


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
