"""What a job would cost, told before any weight is read."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.progress.phases import expected_seconds
from search.request.prepare import Prepared
from space.cost import plan_cost
from space.site import Carried
from space.spec import JobSpec
from workers.tasks import NUM_LIKELIEST, WHOLE_VOCABULARY

_MODULE = ("name", "kind", "rows", "columns", "levels", "smallest_bytes", "largest_bytes")


@dataclass(frozen=True, slots=True)
class UniformSize:
    """A uniform plan's bytes, key/value cache included."""

    level: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """The answer to `--dry-run`.

    Attributes:
        modules: (name, kind, rows, columns, levels, smallest bytes, largest bytes).
        uniform: sizes of the uniform plans.
        smallest_bytes, largest_bytes: the reachable range, key/value cache included.
        num_plans: plans in the space.
        seconds: estimated time with the asked workers.
        disk_bytes: estimated size of the cache.
        request: the whole request as its job would keep it: whole paths, a model of the hub at its commit.
        carried: stored tensors that are copied unchanged because no part of what is searched uses them, and why.

    """

    model: str
    budget_bytes: int
    dense_bytes: int
    key_value_bytes: int
    others_bytes: int
    modules: tuple[tuple[str, str, int, int, int, int, int], ...]
    uniform: tuple[UniformSize, ...]
    smallest_bytes: int
    largest_bytes: int
    num_plans: int
    seconds: float
    disk_bytes: int
    request: JobSpec
    carried: tuple[Carried, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; the number of plans is a string where JSON numbers cannot hold it."""
        value = asdict(self)
        value["num_plans"] = str(self.num_plans)
        value["modules"] = [dict(zip(_MODULE, row, strict=True)) for row in self.modules]
        value["request"] = self.request.model_dump(mode="json")
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> "DryRun":
        """Read the JSON object."""
        read = {
            "modules": tuple(tuple(module[name] for name in _MODULE) for module in value["modules"]),
            "uniform": tuple(UniformSize(**uniform) for uniform in value["uniform"]),
            "num_plans": int(value["num_plans"]),
            "request": JobSpec(**value["request"]),
            "carried": tuple(Carried(**carried) for carried in value.get("carried", ())),
        }
        return DryRun(**{**value, **read})

    def groups(self) -> list[tuple[str, tuple[str, int, int, int, int, int], int]]:
        """Return (name, what all of them have in common, how many) of modules that differ in their block alone.

        A name tells the blocks: `model.layers.[0-3,5].mlp.up_proj`.
        """
        found: dict[tuple[str, str, tuple[str, int, int, int, int, int]], list[int]] = {}
        for name, kind, *same in self.modules:
            before, number, after = _around_block(name)
            rows, columns, levels, smallest, largest = same
            found.setdefault((before, after, (kind, rows, columns, levels, smallest, largest)), []).append(number)
        return [
            (before + (_ranges(numbers) if after else "") + after, same, len(numbers))
            for (before, after, same), numbers in found.items()
        ]


def _around_block(name: str) -> tuple[str, int, str]:
    """Return a module's name before and after its first number, and that."""
    found = re.fullmatch(r"(.*?\.)(\d+)(\..*)", name)
    return (name, 0, "") if found is None else (found[1], int(found[2]), found[3])


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers in short.

    >>> _ranges([3]), _ranges([0, 1, 2, 3, 5])
    ('3', '[0-3,5]')
    """
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    told = ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
    return told if len(numbers) == 1 else f"[{told}]"


def estimate(spec: JobSpec, prepared: Prepared, request: JobSpec) -> DryRun:
    """Return what a job would search and cost; `request` is what it would keep of what was asked."""
    space, inventory = prepared.space, prepared.inventory
    rows = []
    for module in inventory.modules:
        sizes = space.sizes[module.name].values()
        shape = (module.out_features, module.in_features)
        rows.append((module.name, module.kind, *shape, len(sizes), min(sizes), max(sizes)))
    uniform = tuple(
        UniformSize(str(level), plan_cost(inventory, plan, spec.target, spec.context, spec.batch).size_bytes)
        for level, plan in space.uniform_plans()
    )
    return DryRun(
        model=spec.model,
        budget_bytes=prepared.budget_bytes,
        dense_bytes=inventory.dense_bytes,
        key_value_bytes=prepared.cache_bytes,
        others_bytes=space.others_bytes,
        modules=tuple(rows),
        uniform=uniform,
        smallest_bytes=space.smallest_bytes + prepared.cache_bytes,
        largest_bytes=space.largest_bytes + prepared.cache_bytes,
        num_plans=space.num_plans,
        seconds=sum(expected_seconds(spec, prepared).values()),
        disk_bytes=_disk_bytes(spec, prepared),
        request=request,
        carried=inventory.carried,
    )


def _disk_bytes(spec: JobSpec, prepared: Prepared) -> int:
    """Return stored levels (an upper bound: dominated ones are dropped) and the dense model's answers."""
    levels = sum(sum(sizes.values()) for sizes in prepared.space.sizes.values())
    vocabulary = max((m.out_features for m in prepared.inventory.modules if m.block is None), default=0)
    values = vocabulary if vocabulary <= WHOLE_VOCABULARY else 2 * NUM_LIKELIEST
    answers = (spec.num_search_samples + spec.num_held_out_samples) * spec.sequence_length * values * 4
    return levels + answers
