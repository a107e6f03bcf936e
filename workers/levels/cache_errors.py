"""What each level of the cache does to keys and values, on a little calibration text through the dense model."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from space.codings.cache_coding import CACHE
from space.inventory import Inventory
from space.level import Level
from workers.kernels.key_values.key_value_codes import rounded
from workers.model_inputs import Samples
from workers.run.engine import Engine, no_level
from workers.tasks import BATCH, BuildLevels

_LEVELS = tuple(Level(bits, coding=CACHE.name) for bits in CACHE.bits)
Errors = dict[tuple[str, Level], float]
"""(keys or values by name, level) -> squared error as a share of the squared values"""


class CacheErrors:
    """Those of a model; all layers and levels are measured together, once for a text."""

    def __init__(self, inventory: Inventory) -> None:
        """Know none yet."""
        self._names = [cache.name for cache in inventory.caches]
        self._known: dict[str, Errors] = {}

    def of(self, engine: Engine, task: BuildLevels) -> dict[Level, float]:
        """Return the errors of the task's levels, the dense one aside."""
        if (text := task.tokens.of("calibration")) not in self._known:
            samples = task.tokens.load("calibration")[:BATCH]
            self._known[text] = cache_errors(engine, self._names, samples)
        found = self._known[text]
        return {level: found[task.module_name, level] for level, _ in task.sizes if not level.is_dense}


def cache_errors(engine: Engine, names: Sequence[str], samples: Samples) -> Errors:
    """Return the relative error of keys and values at every level that a cache may have.

    Args:
        engine: of the model.
        names: of keys and of values.
        samples: a batch of calibration text.

    """
    found: Errors = {}
    modules = dict(engine.runner.model.named_modules())

    def watch(owner: str) -> Any:
        def watched(_module: Any, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return inputs, {**named, "past_key_values": _Watching(owner, found)}

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

    def __init__(self, owner: str, found: Errors) -> None:
        self._owner, self._found = owner, found

    def update(self, keys_bhtd: Tensor, values_bhtd: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        for part, states in (("keys", keys_bhtd), ("values", values_bhtd)):
            whole = states.float()
            for level in _LEVELS:
                wrong = (rounded(whole, level.bits or 0) - whole).square().mean() / whole.square().mean()
                self._found[f"{self._owner}.{part}", level] = float(wrong)
        return keys_bhtd, values_bhtd
