"""What each level of the cache does to keys and values, on a little calibration text through the dense model."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from space.inventory import Inventory
from space.level import Level
from space.targets.cache_sites import KEYS, VALUES
from workers.kernels.key_values.rounding import rounded
from workers.model_inputs import Samples
from workers.run.engine import Engine, no_level
from workers.tasks import BATCH, BuildLevels

Errors = dict[tuple[str, Level], float]
"""(keys or values by name, level) -> squared error as a share of the squared values"""


class CacheErrors:
    """Those of a model; all layers and levels are measured together, once for a text."""

    def __init__(self, inventory: Inventory) -> None:
        """Know none yet."""
        self._names = [cache.name for cache in inventory.caches]
        self._known: dict[tuple[str, tuple[Level, ...]], Errors] = {}

    def of(self, engine: Engine, task: BuildLevels) -> dict[Level, float]:
        """Return the errors of the task's levels, the dense one aside."""
        levels = tuple(level for level, _ in task.sizes if not level.is_dense)
        key = task.tokens.of("calibration"), levels
        if key not in self._known:
            self._known[key] = cache_errors(engine, self._names, levels, task.tokens.load("calibration")[:BATCH])
        return {level: self._known[key][task.module_name, level] for level in levels}


def cache_errors(engine: Engine, names: Sequence[str], levels: Sequence[Level], samples: Samples) -> Errors:
    """Return the relative error of keys and values at some levels.

    Args:
        engine: of the model.
        names: of keys and of values.
        levels: of a cache, none dense.
        samples: a batch of calibration text.

    """
    found: Errors = {}
    modules = dict(engine.runner.model.named_modules())

    def watch(owner: str) -> Any:
        def watched(_module: Any, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return inputs, {**named, "past_key_values": _Watching(owner, levels, found)}

        return modules[owner].register_forward_pre_hook(watched, with_kwargs=True)

    hooks = [watch(owner) for owner in dict.fromkeys(name.rpartition(".")[0] for name in names)]
    try:
        for _ in engine.logits(engine.dense_plan, no_level, [samples]):
            pass
    finally:
        for hook in hooks:
            hook.remove()
    return found


class _Watching:
    """Stands for a cache: measures what comes, and passes it on."""

    def __init__(self, owner: str, levels: Sequence[Level], found: Errors) -> None:
        self._owner, self._levels, self._found = owner, levels, found

    def update(self, keys_bhtd: Tensor, values_bhtd: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        for part, states in ((KEYS, keys_bhtd), (VALUES, values_bhtd)):
            whole = states.float()
            for level in self._levels:
                wrong = (rounded(whole, level, part) - whole).square().mean() / whole.square().mean()
                self._found[f"{self._owner}.{part}", level] = float(wrong)
        return keys_bhtd, values_bhtd
