"""All targets by name."""

from importlib.util import find_spec

from space.codings.coding_table import CODINGS
from space.errors import SpecError
from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.targets.compressed_tensors_target import COMPRESSED_TENSORS
from space.targets.exl3_target import EXL3_FILES
from space.targets.gguf_target import GGUF
from space.targets.mlx_target import MLX
from space.targets.onnx_target import ONNX
from space.targets.packed_target import PACKED
from space.targets.site_groups import items_of
from space.targets.target import Target
from space.targets.vllm_target import VLLM

TARGETS: dict[str, Target] = {
    target.name: target for target in (PACKED, COMPRESSED_TENSORS, GGUF, EXL3_FILES, ONNX, MLX, VLLM)
}


def target_of(name: str) -> Target:
    """Return the target of a name. Raises SpecError."""
    if name not in TARGETS:
        raise SpecError(f"{name!r} is no target; there are {', '.join(TARGETS)}.")
    return TARGETS[name]


def check_packages(name: str) -> None:
    """Refuse a target whose packages are not here. Raises SpecError."""
    missing = [package for package in TARGETS[name].packages if find_spec(package) is None]
    if missing:
        raise SpecError(
            f"--target {name} needs {' and '.join(missing)}, not installed here: pip install 'tightfit[{name}]'."
        )


def is_legal(module: ModuleInfo, level: Level, target: str) -> bool:
    """Tell whether a target's files can hold a module at a level; dense weights are held by all of them.

    What its runtime remembers is in its own type, or at bits that the runtime can be told.
    """
    entry = TARGETS[target]
    if module.kind == "cache":
        is_fitting = CODINGS[level.coding].fits(module.out_features, module.in_features)
        return level.is_dense or (level.coding == entry.cache_coding and is_fitting)
    if level.is_of_cache:
        return False
    return level.is_dense or (entry.why_not(level) is None and entry.is_legal(module, level))


def items_of_model(inventory: Inventory, target: str) -> dict[str, tuple[str, ...]]:
    """Return item -> its modules, or a cache: what takes one level each for a target, named by its first module."""
    entry, caches = TARGETS[target], tuple(cache.name for cache in inventory.caches)
    groups = entry.groups(inventory)
    alike = (caches,) if caches and not entry.holds_caches_apart else ()
    return items_of((site.name for site in inventory.sites), groups + alike)
