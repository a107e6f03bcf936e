"""EXL3 files: the tensors of the level store as they are, and what exllamav3 and GPTQModel read of them beside."""

from typing import Any

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.targets.exl3_target import EXL3_FILES
from tightfit.export.container import Entry, stored_entry
from tightfit.export.targets.writer import LevelTensors, Program, Writer
from workers.kernels.exl3.exl3_format import MULTIPLIER, QUANT_METHOD, VERSION

_TYPES = {"I16": "int16", "I32": "int32", "F16": "float16"}
_DENSE_BITS = 16


def _entries(module: ModuleInfo, _: Level, tensors: LevelTensors) -> list[Entry]:
    return [stored_entry(f"{module.name}.{name}", tensor) for name, tensor in tensors.items()]


def _settings(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    """Return the fields that exllamav3's own converter writes; `bits` is the mean over stored weights."""
    tiles = [(m, plan[m.name].bits or 0) for m in inventory.modules if not plan[m.name].is_dense]
    weights = sum(m.weight.num_elements for m, _ in tiles)
    heads = [plan[m.name].bits for m in inventory.modules if m.kind == "linear" and m.block is None]
    return {
        "quant_method": QUANT_METHOD,
        "version": VERSION,
        "bits": round(sum(m.weight.num_elements * bits for m, bits in tiles) / max(weights, 1), 4),
        "head_bits": next(iter(heads), None) or _DENSE_BITS,
        "out_scales": "auto",
        "codebook": "mul1",
    }


def _config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    return {"quantization_config": quantization_settings(inventory, plan)}


def _storage(module: ModuleInfo, level: Level) -> dict[str, Any]:
    stored = {
        f"{module.name}.{tensor.name}": {"shape": list(tensor.shape), "torch_dtype": _TYPES[tensor.dtype]}
        for tensor in EXL3_FILES.layout(module, level)
    }
    return {
        "stored_tensors": stored,
        "quant_format": QUANT_METHOD,
        "bits_per_weight": level.bits,
        "mul1_multiplier": MULTIPLIER,
    }


def quantization_settings(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    """Return what loaders read of a plan, with the map of its tensors."""
    storage = {m.name: _storage(m, plan[m.name]) for m in inventory.modules if not plan[m.name].is_dense}
    return {**_settings(inventory, plan), "tensor_storage": storage}


def _beside(inventory: Inventory, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the file that exllamav3 writes it all to; GPTQModel reads config.json, so that both have it."""
    return {"quantization_config.json": quantization_settings(inventory, plan)}


def _loading(_: Program) -> str:
    return """The format is EXL3's (codebook mul1). exllamav3, TabbyAPI and text-generation-webui load the folder on a
GPU, GPTQModel also on a CPU.

```
pip install exllamav3
```

```python
from exllamav3 import Cache, Config, Generator, Model, Tokenizer

config = Config.from_directory("this folder")
model = Model.from_config(config)
cache = Cache(model, max_num_tokens=8192)
model.load()
generator = Generator(model=model, cache=cache, tokenizer=Tokenizer.from_config(config))
print(generator.generate(prompt="Once upon a time", max_new_tokens=100))
```"""


EXL3_WRITER = Writer(_entries, _config, keeps_digests=False, loading=_loading, beside=_beside)
