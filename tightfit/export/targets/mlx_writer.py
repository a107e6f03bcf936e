"""A folder for mlx-lm: packed words, scales and biases under the model's own names, and which layer has which."""

from collections import Counter
from dataclasses import replace
from typing import Any

from space.codings.affine_coding import GROUP_OF
from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.targets.mlx_target import MLX
from tightfit.export.container import Entry, stored_entry
from tightfit.export.targets.writer import LevelTensors, Program, Writer
from workers.models.config_defaults import mlx_defaults

_USUAL = {"group_size": 64, "bits": 4}


def _entries(module: ModuleInfo, level: Level, tensors: LevelTensors) -> list[Entry]:
    words, *_ = MLX.layout(module, level)
    named = {"weight": "qweight", "scales": "scales", "biases": "biases"}
    found = {name: stored_entry(f"{module.prefix}.{name}", tensors[stored]) for name, stored in named.items()}
    info = replace(words, name=found["weight"].info.name)
    return [Entry(info, found["weight"].source), found["scales"], found["biases"]]


def _config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    """Return each layer's bits and groups; what most weights have stands for all, as mlx-lm wants one."""
    layers = {m.name: _settings(plan[m.name]) for m in inventory.modules if not plan[m.name].is_dense}
    weights: Counter[tuple[tuple[str, int], ...]] = Counter()
    for module in inventory.modules:
        if module.name in layers:
            weights[tuple(layers[module.name].items())] += module.weight.num_elements
    usual = dict(weights.most_common(1)[0][0]) if weights else _USUAL
    return {"quantization": {**usual, "mode": "affine", **layers}}


def _settings(level: Level) -> dict[str, int]:
    return {"group_size": GROUP_OF[level.coding], "bits": level.bits or 0}


def _loading(_: Program) -> str:
    return """The folder is one of mlx-lm, which runs it on Apple's machines, and on any CPU that runs Linux.

```
pip install mlx-lm
mlx_lm.generate --model "this folder" --prompt "Once upon a time"
```

```python
from mlx_lm import generate, load

model, tokenizer = load("this folder")
print(generate(model, tokenizer, prompt="Once upon a time", max_tokens=100))
```"""


MLX_WRITER = Writer(_entries, _config, keeps_digests=False, loading=_loading, library="mlx", defaults=mlx_defaults)
