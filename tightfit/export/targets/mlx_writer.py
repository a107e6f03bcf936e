"""A folder for mlx-lm: packed words, scales and biases under the model's own names, and which layer has which."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from space.codings.affine_coding import GROUP_OF
from space.codings.cache_coding import mlx_group
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.plan import Plan
from space.targets.mlx_target import MLX, is_stack, paths_of
from tightfit.export.container import Entry, stored_entry
from tightfit.export.targets.writer import Cache, LevelTensors, Program, Writer
from workers.models.config_defaults import mlx_defaults
from workers.models.headers import StoredTensor, read_header

_STORED_AS = {"weight": "qweight", "scales": "scales", "biases": "biases"}
"""tensor of a layer in the files -> in the level store"""
_USUAL = {"group_size": 64, "bits": 4}


@dataclass(frozen=True, slots=True)
class MlxWriter(Writer):
    """How an MLX folder is written: as others, but that experts are stacked, packed or dense."""

    def dense_entries(self, module: ModuleInfo, stored: Mapping[str, StoredTensor]) -> list[Entry]:
        """Return the entries of a module that stays dense; of experts each projection as one stack."""
        if not is_stack(module):
            return [stored_entry(name, stored[name]) for name in module.sources]
        found = []
        for path in paths_of(module):
            parts = [stored[n] for n in module.sources if n.endswith(f".{path.rpartition('.')[2]}.weight")]
            info = TensorInfo(f"{path}.weight", (len(parts), *parts[0].info.shape), parts[0].info.dtype)
            found.append(Entry(info, parts))
        return found

    def stored_bytes(self, folder: Path, inventory: Inventory, plan: Plan) -> Mapping[str, int | None]:
        """Return module name -> bytes of its weight in the file."""
        sizes = {tensor.info.name: tensor.info.size_bytes for tensor in read_header(folder / self.weights)}
        found = dict(super(MlxWriter, self).stored_bytes(folder, inventory, plan))
        for module in inventory.modules:
            if is_stack(module) or not plan[module.name].is_dense:
                names = [f"{path}.{name}" for path in paths_of(module) for name in _STORED_AS]
                found[module.name] = sum(sizes.get(name, 0) for name in names)
        return found


def _entries(module: ModuleInfo, level: Level, tensors: LevelTensors) -> list[Entry]:
    """Return words, scales and biases; of experts those of each projection, an expert's rows one after another's."""
    found, paths = [], paths_of(module)
    for layout in MLX.layout(module, level):
        stored = tensors[_STORED_AS[layout.name]]
        for place, path in enumerate(paths):
            info = replace(layout, name=f"{path}.{layout.name}")
            if not is_stack(module):
                found.append(Entry(info, stored))
                continue
            assert module.site is not None and module.site.num_experts is not None  # noqa: S101, PT018 (it is a stack)
            count = module.site.num_experts
            rows = module.out_features // count // len(paths)
            parts = [_rows(stored, (expert * len(paths) + place) * rows, rows) for expert in range(count)]
            found.append(Entry(replace(info, shape=(count, rows, layout.shape[1])), parts))
    return found


def _rows(stored: StoredTensor, start: int, count: int) -> StoredTensor:
    """Return some rows of a stored matrix."""
    rows, columns = stored.info.shape
    size = stored.info.size_bytes // rows
    return replace(stored, info=replace(stored.info, shape=(count, columns)), start=stored.start + start * size)


def _config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    """Return each layer's bits and groups; what most weights have stands for all, as mlx-lm wants one."""
    packed = [module for module in inventory.modules if not plan[module.name].is_dense]
    layers = {path: _settings(plan[module.name]) for module in packed for path in paths_of(module)}
    weights: Counter[tuple[tuple[str, int], ...]] = Counter()
    for module in packed:
        weights[tuple(_settings(plan[module.name]).items())] += module.weight.num_elements
    usual = dict(weights.most_common(1)[0][0]) if weights else _USUAL
    return {"quantization": {**usual, "mode": "affine", **layers}}


def _settings(level: Level) -> dict[str, int]:
    return {"group_size": GROUP_OF[level.coding], "bits": level.bits or 0}


def _told(cache: Cache) -> str:
    """Return the options that keep the cache within what was counted, or in the bits that were measured.

    mlx-lm has none for both: it cannot pack a cache that forgets its oldest tokens.
    """
    if cache.level.is_dense:
        return f" --max-kv-size {cache.context}" if cache.context else ""
    group = mlx_group(cache.head_size)
    return f" --kv-bits {cache.level.bits} --kv-group-size {group} --quantized-kv-start 0"


def _loading(program: Program) -> str:
    counted = _told(program.cache)
    return f"""The folder is one of mlx-lm, which runs it on Apple's machines, and on any CPU that runs Linux.

```
pip install mlx-lm
mlx_lm.generate --model "this folder"{counted} --prompt "Once upon a time"
```

```python
from mlx_lm import generate, load

model, tokenizer = load("this folder")
print(generate(model, tokenizer, prompt="Once upon a time", max_tokens=100))
```"""


MLX_WRITER = MlxWriter(_entries, _config, keeps_digests=False, loading=_loading, library="mlx", defaults=mlx_defaults)
