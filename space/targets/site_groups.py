"""Sites that must share one level: what a runtime fuses into one product, or stores as one tensor."""

from collections.abc import Callable, Iterable

from space.inventory import Inventory, ModuleInfo

Groups = tuple[tuple[str, ...], ...]
"""names of modules in the inventory's order, two or more in each group, none in two"""


def no_groups(_: Inventory) -> Groups:
    """Return none: every module may have a level of its own."""
    return ()


def of_one_parameter(inventory: Inventory) -> Groups:
    """Return the sites that are parts of one parameter, such as experts that are searched apart from each other."""
    return grouped(inventory, lambda module: module.parameter)


def grouped(inventory: Inventory, key_of: Callable[[ModuleInfo], str | None]) -> Groups:
    """Return the modules of equal keys; one that has no key, or is alone with it, is in no group."""
    found: dict[str, list[str]] = {}
    for module in inventory.modules:
        if (key := key_of(module)) is not None:
            found.setdefault(key, []).append(module.name)
    return tuple(tuple(names) for names in found.values() if len(names) > 1)


def items_of(names: Iterable[str], groups: Groups) -> dict[str, tuple[str, ...]]:
    """Return item -> its modules: a group, or a module that is in none; an item has the name of its first module."""
    group_of = {name: group for group in groups for name in group}
    found = [group_of.get(name, (name,)) for name in names]
    return {group[0]: group for group in found}
