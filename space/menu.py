"""The search space: which levels each module may take, by the values of a menu, pins and the target's rules."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from space.codings.coding_table import CODINGS
from space.codings.masks import PATTERNS, UNSTRUCTURED
from space.cost import module_bytes, others_bytes
from space.errors import SpecError
from space.inventory import Inventory, ModuleInfo
from space.level import DENSE, Level, kind_of
from space.plan import Choice, Plan
from space.targets.asked_levels import given_plan, match_pins, of_whole_items
from space.targets.cache_sites import without_own_type
from space.targets.target_table import TARGETS, is_legal, items_of_model

UNIFORM_GROUP_SIZE = 64


@dataclass(frozen=True, slots=True)
class Menu:
    """The values each axis may take; a module's levels are their product, as far as the target can hold it.

    Attributes:
        bits: bit-widths, each for the codings that have it; 16 stands for "keep dense".
        group_sizes: columns per scale; None is one scale per channel.
        sparsities: shares of zeros, or the name of a pattern that has its own: "2:4" is the semi-structured one.
        ranks: ranks of the low-rank correction.
        kinds: codings, rotations and rounded inputs; all but integers take one scale per channel (see docs/levels.md).
        cache_bits: of keys and values, where an inventory has them as sites; 16 is the type of the runtime.
        has_kernel: whether the hardware that the result is for multiplies weights at a level that is not dense.

    """

    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 16)
    group_sizes: tuple[int | None, ...] = (32, 64, 128, None)
    sparsities: tuple[float | str, ...] = (0.0, 0.5)
    ranks: tuple[int, ...] = (0, 8)
    kinds: tuple[str, ...] = ("integer", "rotated-trellis")
    cache_bits: tuple[int, ...] = (16,)
    has_kernel: Callable[[Level], bool] = lambda _: True

    def cache_levels(self, coding: str) -> tuple[Level, ...]:
        """Return every level of keys and values, in the coding of a target."""
        return tuple(DENSE if bits == 16 else Level(bits, coding=coding) for bits in self.cache_bits)  # noqa: PLR2004

    def levels(self) -> tuple[Level, ...]:
        """Return every level of weights."""
        found = [DENSE] if 16 in self.bits else []  # noqa: PLR2004 (16 means dense)
        bits = [b for b in self.bits if b != 16]  # noqa: PLR2004
        for kind, b, sparsity, rank in product(self.kinds, bits, self.sparsities, self.ranks):
            coding, rotated, inputs = parts_of_kind(kind)
            if b not in (CODINGS[coding].input_formats[inputs] if inputs else CODINGS[coding].bits):
                continue
            if CODINGS[coding].stands_alone:
                found.append(Level(b, coding=coding))
                continue
            pattern = str(sparsity) if sparsity in PATTERNS else UNSTRUCTURED.name
            share = PATTERNS[pattern].sparsity or float(sparsity)
            groups = self.group_sizes if CODINGS[coding].has_groups and not rotated else (None,)
            found += [Level(b, g, share, pattern, rank, coding, rotated, inputs) for g in groups]
        return tuple(level for level in dict.fromkeys(found) if level.is_dense or self.has_kernel(level))

    def uniform_levels(self) -> tuple[Level, ...]:
        """Return the plain levels that uniform plans compare: each bit-width at group 64 (or the menu's first).

        Where all kinds stand alone or round inputs it is the first kind of each bit-width.
        """
        group = UNIFORM_GROUP_SIZE if UNIFORM_GROUP_SIZE in self.group_sizes else self.group_sizes[0]
        parts = [parts_of_kind(kind) for kind in self.kinds]
        if all(CODINGS[coding].stands_alone or inputs for coding, _, inputs in parts):
            packed = [level for level in self.levels() if not level.is_dense and level.is_plain]
            packed.sort(key=lambda level: (self.kinds.index(level.kind), level.group_size != group))
            firsts = {level.bits or 0: level for level in reversed(packed)}
            return tuple(firsts[bits] for bits in sorted(firsts))
        plain = (Level(b, group) for b in sorted(set(self.bits)) if b in CODINGS["integer"].bits)
        return tuple(filter(self.has_kernel, plain))


PLAIN = Menu(bits=(4,), group_sizes=(None,), sparsities=(0.0,), ranks=(0,), kinds=("integer",))
"""Plain integers alone."""


def kinds() -> dict[str, tuple[str, bool, str]]:
    """Return what a menu calls values -> (coding, rotated, inputs).

    Every coding of weights is one, plain; those that do not stand alone also rotated, or with inputs they may round.
    """
    return {
        kind_of(name, rotated=rotated, inputs=inputs): (name, rotated, inputs)
        for name, coding in CODINGS.items()
        for rotated, inputs in ((False, ""), (True, ""), *((False, inputs) for inputs in coding.input_formats))
        if coding.holds == "weights" and not (rotated and coding.stands_alone)
    }


def parts_of_kind(kind: str) -> tuple[str, bool, str]:
    """Return (coding, rotated, inputs) of what a menu calls values. Raises SpecError."""
    if kind not in kinds():
        raise SpecError(f"{kind!r} is no kind of values; there are {', '.join(kinds())}.")
    return kinds()[kind]


@dataclass(frozen=True)
class SearchSpace:
    """Levels allowed per module, in the inventory's order; each tuple is sorted by bytes.

    What is chosen is the level of an item: a module, or all modules that the target ties to one level. An item has the
    name of its first module, and each of its modules has the same levels here.
    """

    inventory: Inventory
    target: str
    allowed: tuple[tuple[str, tuple[Level, ...]], ...]
    uniform_levels: tuple[Level, ...]
    pinned: tuple[str, ...] = ()
    given: tuple[tuple[str, Plan], ...] = ()

    @cached_property
    def levels(self) -> Mapping[str, tuple[Level, ...]]:
        """Return module name -> allowed levels."""
        return dict(self.allowed)

    @cached_property
    def items(self) -> Mapping[str, tuple[str, ...]]:
        """Return item -> its modules, in the inventory's order."""
        return items_of_model(self.inventory, self.target)

    @cached_property
    def _is_grouped(self) -> bool:
        return len(self.items) < len(self.allowed)

    @cached_property
    def sizes(self) -> Mapping[str, Mapping[Level, int]]:
        """Return module name -> level -> stored bytes."""
        return {
            module.name: {level: module_bytes(module, level, self.target) for level in self.levels[module.name]}
            for module in self.inventory.sites
        }

    @cached_property
    def item_sizes(self) -> Mapping[str, Mapping[Level, int]]:
        """Return item -> level -> stored bytes of all its modules."""
        return {
            item: {level: sum(self.sizes[name][level] for name in names) for level in self.levels[item]}
            for item, names in self.items.items()
        }

    @cached_property
    def others_bytes(self) -> int:
        """Return the stored bytes of the tensors that are left alone."""
        return others_bytes(self.inventory, self.target)

    @property
    def smallest_bytes(self) -> int:
        """Return the bytes of the smallest reachable plan: as `weight_bytes`."""
        return self.others_bytes + sum(min(sizes.values()) for sizes in self.item_sizes.values())

    @property
    def largest_bytes(self) -> int:
        """Return the bytes of the largest reachable plan: as `weight_bytes`."""
        return self.others_bytes + sum(max(sizes.values()) for sizes in self.item_sizes.values())

    @property
    def num_plans(self) -> int:
        """Return how many plans the space holds."""
        return prod(len(self.levels[item]) for item in self.items)

    def plan_of(self, choices: Iterable[Choice]) -> Plan:
        """Return the plan of (item, level), all items in their order."""
        if not self._is_grouped:
            return Plan(tuple(choices))
        level_of = {name: level for item, level in choices for name in self.items[item]}
        return Plan(tuple((name, level_of[name]) for name, _ in self.allowed))

    def choices_of(self, plan: Plan) -> tuple[Choice, ...]:
        """Return (item, level) of a plan of this space."""
        return plan.levels if not self._is_grouped else tuple(c for c in plan.levels if c[0] in self.items)

    def changed(self, plan: Plan, changes: Mapping[str, Level]) -> Plan:
        """Return a plan of this space with some items' levels changed."""
        return plan.replace({name: level for item, level in changes.items() for name in self.items[item]})

    def holds(self, plan: Plan) -> bool:
        """Tell whether a plan is one of this space."""
        levels = plan.mapping
        is_allowed = levels.keys() == self.levels.keys() and all(v in self.levels[n] for n, v in plan.levels)
        return is_allowed and all(levels[name] == levels[item] for item, names in self.items.items() for name in names)

    def weight_bytes(self, plan: Plan) -> int:
        """Return the exact bytes of all that has a level, and of what is left alone: the weight files, and caches."""
        return self.others_bytes + sum(map(self._sizes.__getitem__, plan.levels))

    @cached_property
    def _sizes(self) -> Mapping[Choice, int]:
        """Return (module name, level) -> stored bytes."""
        return {(name, level): size for name, sizes in self.sizes.items() for level, size in sizes.items()}

    def uniform_plan(self, level: Level) -> Plan:
        """Return the plan that gives every module this level, or its nearest legal one (pins are kept)."""
        return Plan.of({name: nearest_level(levels, level) for name, levels in self.levels.items()})

    def uniform_plans(self) -> Iterator[tuple[Level, Plan]]:
        """Yield the uniform plans of the menu's bit-widths."""
        for level in self.uniform_levels:
            yield level, self.uniform_plan(level)

    def reference_plans(self) -> Iterator[Plan]:
        """Yield what a front is compared with: the uniform plans and the given ones."""
        yield from (plan for _, plan in (*self.uniform_plans(), *self.given))

    def restricted(self, kept: Mapping[str, Sequence[Level]]) -> "SearchSpace":
        """Return the space with only some of each module's levels (dominated ones dropped)."""
        useful = {
            item: tuple(v for v in self.levels[item] if all(v in kept[name] for name in names))
            for item, names in self.items.items()
        }
        of_module = {name: useful[item] for item, names in self.items.items() for name in names}
        allowed = tuple((name, of_module[name]) for name, _ in self.allowed)
        return SearchSpace(self.inventory, self.target, allowed, self.uniform_levels, self.pinned, self.given)


def nearest_level(levels: Sequence[Level], wanted: Level) -> Level:
    """Return `wanted` if allowed; else the allowed level nearest in bits: plain ones first, then its kind and group."""

    def distance(level: Level) -> tuple[float, bool, bool, float]:
        group, wanted_group = level.group_size or 10**6, wanted.group_size or 10**6
        other_kind = (level.coding, level.rotated, level.inputs) != (wanted.coding, wanted.rotated, wanted.inputs)
        bits = abs((level.bits or 16) - (wanted.bits or 16))
        return bits, not level.is_plain, other_kind, abs(group - wanted_group)

    return min(levels, key=distance)


def build_space(
    inventory: Inventory,
    menu: Menu,
    target: str,
    pins: Sequence[tuple[str, Level]],
    given: Sequence[tuple[str, Mapping[str, Level]]] = (),
) -> SearchSpace:
    """Return the search space of a model.

    Args:
        inventory: the model.
        menu: the values of each axis.
        target: the container that the result is for.
        pins: (regular expression, level) pairs; a later pin wins where two match.
        given: (name, module name -> level) of plans to compare with; their levels join the menu, and a module that a
            plan does not name is dense in it.

    Raises:
        SpecError: a pattern is not a regular expression, matches nothing, or asks for a level the target cannot hold; a
            plan names no module of the model, or cannot be stored, or is against a pin.

    """
    modules = {module.name: module for module in inventory.sites}
    items = items_of_model(inventory, target)
    pinned = of_whole_items(match_pins(inventory, pins, target), items, modules, target)
    of_weights, of_caches = menu.levels(), menu.cache_levels(TARGETS[target].cache_coding)
    asked = [(name, without_own_type(name, levels, inventory)) for name, levels in given]
    plans = tuple((name, given_plan(name, levels, modules, items, target)) for name, levels in asked)
    allowed: dict[str, tuple[Level, ...]] = {}
    for names in items.values():
        members = [modules[name] for name in names]
        is_dense_held = all(module.has_dense_form for module in members)
        legal = [
            level
            for level in (of_caches if members[0].kind == "cache" else of_weights)
            if all(is_legal(module, level, target) for module in members) and (is_dense_held or not level.is_dense)
        ]
        levels = [pinned[names[0]]] if names[0] in pinned else legal or _kept(members)
        wanted = {plan[names[0]]: name for name, plan in plans}
        if names[0] in pinned and (against := wanted.keys() - {*levels}):
            name = wanted[min(against, key=str)]
            raise SpecError(f"--plan {name}: {names[0]} is pinned to {levels[0]}. Leave the pin or the plan out.")
        levels = [*levels, *wanted]
        size = {level: sum(module_bytes(module, level, target) for module in members) for level in levels}
        allowed |= dict.fromkeys(names, tuple(sorted(size, key=lambda v: (size[v], str(v)))))
    in_order = tuple((name, allowed[name]) for name in modules)
    return SearchSpace(inventory, target, in_order, menu.uniform_levels(), tuple(pinned), plans)


def _kept(members: Sequence[ModuleInfo]) -> list[Level]:
    """Return what modules are kept at that can have no level of the menu. Raises SpecError: they cannot be kept."""
    for module in members:
        if module.site is not None and module.site.stored_as is not None:
            stored = f"{module.name} is stored in {module.site.stored_as.upper()} and cannot be kept as it was"
            told = f"no level of this menu fits its {module.in_features} columns"
            raise SpecError(f"{stored}, and {told}: give another --group-size or --bits.")
    return [DENSE]
