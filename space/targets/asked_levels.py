"""Levels that a request names itself: pins of modules, and whole plans to compare with."""

import re
import warnings
from collections.abc import Mapping, Sequence

from space.errors import SpecError
from space.inventory import Inventory, ModuleInfo
from space.level import DENSE, Level
from space.plan import Plan
from space.targets.target_table import is_legal


def given_plan(
    name: str,
    levels: Mapping[str, Level],
    modules: Mapping[str, ModuleInfo],
    items: Mapping[str, Sequence[str]],
    target: str,
) -> Plan:
    """Return a plan to compare with, whole. Raises SpecError."""
    for module_name, level in levels.items():
        if module_name not in modules:
            raise SpecError(f"--plan {name}: the model has no module {module_name}; see `--dry-run` for all.")
        if not is_legal(modules[module_name], level, target):
            raise SpecError(f"--plan {name}: {module_name} cannot be stored as {level} for target {target}.")
    plan = Plan.of({module_name: levels.get(module_name, DENSE) for module_name in modules})
    for names in items.values():
        if len({plan[module_name] for module_name in names}) > 1:
            raise SpecError(f"--plan {name}: --target {target} gives {', '.join(names)} one level together.")
    return plan


def of_whole_items(
    pinned: Mapping[str, Level], items: Mapping[str, Sequence[str]], modules: Mapping[str, ModuleInfo], target: str
) -> dict[str, Level]:
    """Return pins of whole items: what is pinned of one module holds for all that the target ties to it.

    Raises:
        SpecError: modules of an item are pinned to different levels, or one of them cannot be stored at the others'.

    """
    found = dict(pinned)
    for names in items.values():
        asked = {name: pinned[name] for name in names if name in pinned}
        if len(set(asked.values())) > 1:
            told = ", ".join(f"{name} is pinned to {level}" for name, level in asked.items())
            raise SpecError(f"{told}, but --target {target} gives them one level together: pin all of them alike.")
        for name in names if asked else ():
            level = next(iter(asked.values()))
            if not is_legal(modules[name], level, target):
                raise SpecError(
                    f"--pin of {next(iter(asked))} to {level}: --target {target} gives {name} the same level, and it "
                    "cannot be stored so."
                )
            found[name] = level
    return found


def match_pins(inventory: Inventory, pins: Sequence[tuple[str, Level]], target: str) -> dict[str, Level]:
    """Return module name -> level of all that pins match. Raises SpecError; see `build_space`."""
    pinned: dict[str, Level] = {}
    for pattern, level in pins:
        try:
            with warnings.catch_warnings(action="ignore"):
                expression = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise SpecError(f"--pin {pattern!r} is not a regular expression: {error}.") from error
        sites = inventory.sites if level.is_dense else inventory.caches if level.is_of_cache else inventory.modules
        matched = [m for m in sites if expression.search(m.name)]
        if not matched:
            if level.is_of_cache and not inventory.caches:
                raise SpecError(f"--pin {pattern!r}: {level} is of a cache; search it with --context and --cache-bits.")
            names = ", ".join(m.name for m in sites[:3])
            raise SpecError(f"--pin {pattern!r} matches no module; names look like {names}. See `--dry-run` for all.")
        for module in matched:
            if not is_legal(module, level, target):
                raise SpecError(f"--pin {pattern!r}: {module.name} cannot be stored as {level} for target {target}.")
            pinned[module.name] = level
    _check_stacks(inventory, pinned)
    return pinned


def _check_stacks(inventory: Inventory, pinned: Mapping[str, Level]) -> None:
    """Refuse to keep some experts of a stack dense: a file holds all of it as it was, or each expert packed."""
    dense: dict[str, set[bool]] = {}
    for module in inventory.modules:
        is_dense = module.name in pinned and pinned[module.name].is_dense
        if is_dense and module.site is not None and module.site.stored_as is not None:
            raise SpecError(
                f"--pin: {module.name} is stored in {module.site.stored_as.upper()} and read as the values that its "
                "codes stand for, so that it cannot be kept as it was; pin it to a level, such as b8-g32."
            )
        if module.is_one_expert:
            dense.setdefault(module.parameter, set()).add(is_dense)
    for parameter, found in dense.items():
        if len(found) > 1:
            raise SpecError(f"--pin: {parameter} keeps some experts dense; pin all of its experts dense, or none.")
