"""What a job would cost, told before any weight is read."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.progress.phases import expected_seconds
from search.request.prepare import Prepared
from space.cost import plan_bytes
from space.inventory import Inventory
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
        remarks: sentences on experts, about how many tokens each will see, and on weights that are stored as codes.
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
    remarks: tuple[str, ...] = ()

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
            "remarks": tuple(value.get("remarks", ())),
        }
        return DryRun(**{**value, **read})

    def groups(self) -> list[tuple[str, tuple[str, int, int, int, int, int], int]]:
        """Return (name, what all of them have in common, how many) of modules that differ in their numbers alone.

        A name tells the blocks, and the experts that are apart: `model.layers.[0-3,5].mlp.experts.down_proj.[0-7]`.
        """
        found: dict[tuple[tuple[str, ...], tuple[str, int, int, int, int, int]], list[tuple[int, ...]]] = {}
        for name, kind, *same in self.modules:
            texts, numbers = _around_numbers(name)
            rows, columns, levels, smallest, largest = same
            found.setdefault((texts, (kind, rows, columns, levels, smallest, largest)), []).append(numbers)
        return [(_told(texts, all_numbers), same, len(all_numbers)) for (texts, same), all_numbers in found.items()]


def _around_numbers(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the parts of a module's name around its block, its first number, and its expert, a number at the end.

    >>> _around_numbers("model.layers.2.mlp.up_proj"), _around_numbers("lm_head")
    ((('model.layers.', '.mlp.up_proj'), (2,)), (('lm_head',), ()))
    >>> _around_numbers("h.2.experts.up_proj.7")
    (('h.', '.experts.up_proj.', ''), (2, 7))
    """
    found = re.fullmatch(r"(.*?\.)(\d+)(\..*?)(?:(?<=\.)(\d+))?", name)
    if found is None:
        return (name,), ()
    before, block, after, expert = found.groups()
    return (before, after, *[""] * (expert is not None)), tuple(int(n) for n in (block, expert) if n is not None)


def _told(texts: Sequence[str], numbers: Sequence[tuple[int, ...]]) -> str:
    """Return a name with the ranges of its numbers."""
    ranges = [_ranges(sorted(set(of))) for of in zip(*numbers, strict=True)]
    return "".join(part for pair in zip(texts, [*ranges, ""], strict=True) for part in pair)


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
    for module in inventory.sites:
        sizes = space.sizes[module.name].values()
        shape = (module.out_features, module.in_features)
        rows.append((module.name, module.kind, *shape, len(sizes), min(sizes), max(sizes)))
    uniform = tuple(
        UniformSize(str(level), plan_bytes(inventory, plan, spec.target, spec.context, spec.batch).size_bytes)
        for level, plan in space.uniform_plans()
    )
    return DryRun(
        model=spec.model,
        budget_bytes=prepared.budget_bytes,
        dense_bytes=inventory.dense_bytes,
        key_value_bytes=prepared.cache_bytes + inventory.cache_bytes,
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
        remarks=tuple(filter(None, (_told_of_experts(spec, inventory), _told_of_codes(inventory)))),
    )


def _told_of_experts(spec: JobSpec, inventory: Inventory) -> str | None:
    """Return one sentence about a mixture's experts and the tokens that routers send to each."""
    stacks = [m for m in inventory.modules if m.site is not None and m.site.num_experts is not None]
    counts = [m.site.num_experts for m in stacks if m.site is not None and m.site.num_experts is not None]
    if not counts:
        return None
    blocks, is_apart = len({m.block for m in stacks}), spec.experts == "apart"
    levels = "each with levels of its own" if is_apart else "which share one level per projection"
    told = f"Experts: {max(counts)} in each of {blocks} blocks, {levels}"
    if inventory.experts_per_token is None:
        return f"{told}."
    mean = spec.num_samples * spec.sequence_length * inventory.experts_per_token // max(counts)
    columns = max(m.in_features for m in stacks)
    return (
        f"{told}. Calibration sends {mean:,} tokens to each on average; one that sees fewer than {columns:,} is given "
        "other tokens of the text."
    )


def _told_of_codes(inventory: Inventory) -> str | None:
    """Return one sentence about weights that are read as the values that their codes stand for."""
    formats = {m.parameter: m.site.stored_as for m in inventory.modules if m.site is not None and m.site.stored_as}
    if not formats:
        return None
    names = " and ".join(sorted({name.upper() for name in formats.values()}))
    told = f"{len(formats)} tensors are read, and counted as dense, as the bfloat16 values that they stand for"
    return f"Stored in {names}: {told}."


def _disk_bytes(spec: JobSpec, prepared: Prepared) -> int:
    """Return stored levels (an upper bound: dominated ones are dropped) and the dense model's answers."""
    levels = sum(sum(sizes.values()) for sizes in prepared.space.sizes.values())
    vocabulary = max((m.out_features for m in prepared.inventory.modules if m.block is None), default=0)
    values = vocabulary if vocabulary <= WHOLE_VOCABULARY else 2 * NUM_LIKELIEST
    answers = (spec.num_search_samples + spec.num_held_out_samples) * spec.sequence_length * values * 4
    return levels + answers
