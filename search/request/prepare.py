"""From a request to a search space: what a dry run shows and a run starts from.

No weight is read, unless a tied one is stored twice (see workers/models/ties.py).
"""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from search.request.model_checks import MODEL_CHECKS, check_loadable
from search.request.patterns import try_pattern
from space.budget import format_bytes, parse_budget
from space.cost import key_value_bytes
from space.digest import Json, digest
from space.errors import InfeasibleBudgetError, ModelError, SpecError
from space.inventory import Inventory, has_stacks, with_experts_apart
from space.menu import SearchSpace, build_space
from space.plan import Plan
from space.spec import JobSpec
from space.targets.cache_sites import DENSE_CACHE, check_cache_bits, with_cache_sites
from space.targets.target_table import TARGETS, check_packages
from workers.bounded_files import user_path
from workers.models.model_files import read_config, read_headers, resolve_model
from workers.models.ties import check_ties
from workers.text.text_sources import STDLIB

_INVENTORY_VERSION = 9  # raise it when the same files get another inventory


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked request: its budget can be reached.

    Attributes:
        folder: the model.
        inventory: its modules.
        space: levels allowed per module.
        budget_bytes: the budget, key/value cache included.
        cache_bytes: the part of it that the key/value cache takes, as far as no plan decides that.

    """

    folder: Path
    inventory: Inventory
    space: SearchSpace
    budget_bytes: int
    cache_bytes: int

    @property
    def dense_plan(self) -> Plan:
        """Return the model as it is."""
        return Plan.dense(site.name for site in self.inventory.sites)

    @property
    def weight_budget(self) -> int:
        """Return the bytes left for what plans decide: weights, and caches that have levels."""
        return self.budget_bytes - self.cache_bytes

    @property
    def dense_bytes(self) -> int:
        """Return what the dense model takes, key/value cache included."""
        return self.inventory.dense_bytes + self.inventory.cache_bytes + self.cache_bytes


def prepare(spec: JobSpec, cache_folder: Path | None = None, *, remember: bool = False) -> Prepared:
    """Resolve the model, list its modules, build the space and check the budget.

    The list of modules is looked for in `cache_folder`, since making it imports transformers, which takes seconds; it
    is left there only where asked: a request that is refused leaves nothing.

    Raises:
        ModelError: the model cannot be found, is unsafe or broken.
        SpecError: a pin makes no sense for this model.
        InfeasibleBudgetError: no plan is so small, or the dense model fits already.

    """
    check_cache_bits(spec.cache_bits, spec.context, spec.target, spec.gpu_generation)
    folder = held_model(spec)
    images = is_folder(spec.calibration)
    inventory = _sites(spec, folder, read_inventory(folder, cache_folder, remember=remember, images=images))
    if spec.context and inventory.key_value is None:
        raise ModelError(f"{folder}: the model does not tell the size of its key/value cache; leave --context out.")
    if spec.cache_bits != DENSE_CACHE:
        inventory = with_cache_sites(inventory, spec.context, spec.batch, spec.target)
    for pattern in dict.fromkeys(pattern for pattern, _ in spec.pins):
        try_pattern(pattern, [site.name for site in inventory.sites])
    space = build_space(inventory, spec.menu, spec.target, spec.parsed_pins, spec.parsed_plans)
    _check_levels(folder, spec, space)
    cache = key_value_bytes(inventory, spec.context, spec.batch, spec.target)
    budget = parse_budget(spec.budget).size_bytes(inventory)
    prepared = Prepared(folder, inventory, space, budget, cache)
    _check_budget(spec, prepared)
    return prepared


def _check_budget(spec: JobSpec, prepared: Prepared) -> None:
    budget, cache = prepared.budget_bytes, prepared.cache_bytes + prepared.inventory.cache_bytes
    low, dense = prepared.space.smallest_bytes + prepared.cache_bytes, prepared.dense_bytes
    if not low <= budget < dense:
        counted = f", with {format_bytes(cache)} of key/value cache for --context and --batch" if cache else ""
        raise InfeasibleBudgetError(
            f"Budget {spec.budget} is {budget:,} bytes: "
            + ("below the smallest plan of this menu. " if budget < low else "the dense checkpoint fits already. ")
            + f"The smallest plan has {low:,} ({format_bytes(low)}), the dense checkpoint {dense:,} "
            f"({format_bytes(dense)}){counted}. Change the budget or the menu "
            "(--bits, --group-size, --sparsity, --rank, --kind, --pin)."
        )


def held_model(spec: JobSpec) -> Path:
    """Return the folder of a request's model, which its target can have.

    Raises:
        ModelError: the model cannot be found.
        SpecError: the target's packages are not here, or it would run the model in another way.

    """
    check_packages(spec.target)
    folder = resolve_model(spec.model, spec.revision)
    MODEL_CHECKS[spec.target](folder)
    return folder


def _sites(spec: JobSpec, folder: Path, inventory: Inventory) -> Inventory:
    """Return the inventory with the sites that a request asks for."""
    check_loadable(spec.target, folder, inventory)
    if spec.experts == "tied":
        return inventory
    if not has_stacks(inventory):
        raise SpecError(f"--experts apart: {folder} has no experts that share a tensor; leave the option out.")
    if not TARGETS[spec.target].holds_experts_apart:
        able = ", ".join(name for name, target in TARGETS.items() if target.holds_experts_apart)
        told = f"--target {spec.target} has one level for all experts of a block"
        raise SpecError(f"--experts apart: {told}; use --target {able}.")
    return with_experts_apart(inventory)


def _check_levels(folder: Path, spec: JobSpec, space: SearchSpace) -> None:
    """Refuse a menu of which no module can take any level."""
    free = [module for module in space.inventory.modules if module.name not in space.pinned]
    if free and all(level.is_dense for module in free for level in space.levels[module.name]):
        widest = max(module.in_features for module in free)
        raise SpecError(
            f"No module of {folder} can take a level of this menu for --target {spec.target}: the widest has {widest} "
            "columns, and a --group-size must not be larger (and divide them for compressed-tensors, which holds "
            "linear layers that are stored under their own names, and none that the model's class looks at as it is "
            "loaded). Give another --group-size, such as channel, --rank or --sparsity, or --target packed."
        )


def is_folder(calibration: str | None) -> bool:
    """Tell whether a job is given a folder, of images for models that read them, and no text."""
    return calibration not in (None, STDLIB) and user_path(str(calibration)).is_dir()


def read_inventory(
    folder: Path, cache_folder: Path | None, *, remember: bool = False, images: bool = False
) -> Inventory:
    """Return a model's inventory; a remembered one has the same config and the same headers of its weight files.

    Args:
        folder: the model.
        cache_folder: where one may be remembered, if anywhere.
        remember: whether a new one is left there.
        images: whether it is of a job that is given images.

    Raises:
        ModelError: the model is unsafe or broken.

    """
    config = read_config(folder)
    headers = read_headers(folder)
    stored: list[list[Json]] = [[t.info.name, list(t.info.shape), t.info.dtype] for t in headers.values()]
    key = digest([_INVENTORY_VERSION, version("transformers"), config, stored, images])
    path = (cache_folder or folder) / "inventories" / f"{key}.json"
    inventory = _remembered(path) if cache_folder is not None else None
    if inventory is None:
        inventory = _made(folder, path if cache_folder is not None and remember else None, images=images)
    tied = {copy: m.name for m in inventory.modules for copy in m.tied}
    check_ties(folder, tied, headers)  # each time: the same headers may have other bytes
    return inventory


def _remembered(path: Path) -> Inventory | None:
    try:
        return Inventory.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged
        return None


def _made(folder: Path, path: Path | None, *, images: bool) -> Inventory:
    """Return a new inventory; it is left at a path if there is one."""
    from workers.families.read_inventory import inspect_model

    inventory = inspect_model(folder, images=images)
    if path is not None:
        from workers.whole_files import write_text

        write_text(path, json.dumps(inventory.to_json()))
    return inventory
