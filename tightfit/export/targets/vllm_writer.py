"""Checkpoints of compressed-tensors for vLLM: `pack-quantized`, `int-quantized`, `float-quantized`, or a mixture."""

from dataclasses import replace
from typing import Any

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.targets.vllm_target import VLLM
from tightfit.export.container import Entry
from tightfit.export.targets.compressed_tensors_writer import pack_quantized_entries, quantization_config
from tightfit.export.targets.vllm_rules import tensor_parallel_sizes
from tightfit.export.targets.writer import Cache, LevelTensors, Program, Writer
from workers.models.headers import StoredTensor

_SIGNED = bytes((value - 128) % 256 for value in range(256))
"""our values, which count from the least one, as signed bytes"""
_COMMAND = "vllm serve FOLDER --dtype float16"


def _entries(module: ModuleInfo, level: Level, tensors: LevelTensors) -> list[Entry]:
    if not level.inputs:
        return pack_quantized_entries(module, level, tensors)
    weight, scale = (replace(t, name=f"{module.name}.{t.name}") for t in VLLM.layout(module, level))
    values = tensors["qweight"]
    stored = values if level.coding == "float8" else _read(values).translate(_SIGNED)
    return [Entry(weight, stored), Entry(scale, tensors["scale"])]


def _read(tensor: StoredTensor) -> bytes:
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        return file.read(tensor.info.size_bytes)


def _scheme(level: Level) -> dict[str, Any]:
    """Return what a config group has of a level beside its weights."""
    if not level.inputs:
        return {"format": "pack-quantized"}
    kind = "float" if level.coding == "float8" else "int"
    inputs = {"num_bits": 8, "type": kind, "symmetric": True, "strategy": "token", "dynamic": True}
    return {"format": f"{kind}-quantized", "input_activations": inputs}


def _config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    return {"quantization_config": quantization_config(inventory, plan, _scheme)}


def _beside(inventory: Inventory, plan: Plan) -> dict[str, dict[str, Any]]:
    sizes = tensor_parallel_sizes(inventory, plan)
    return {"vllm.json": {"command": f"{_COMMAND}{_remembered(plan.cache_level)}", "tensor_parallel_sizes": sizes}}


def _told(cache: Cache) -> str:
    """Return the options that keep the cache within what was counted, in the type that was measured."""
    counted = f" --max-model-len {cache.context} --max-num-seqs {cache.batch}" if cache.context else ""
    return counted + _remembered(cache.level)


def _remembered(level: Level) -> str:
    return "" if level.is_dense else " --kv-cache-dtype fp8_e4m3"


def _loading(program: Program) -> str:
    return f"""vLLM serves this folder. Scales are float16: `--dtype float16` keeps them as they were measured, bfloat16
rounds them to 8 bits. `vllm.json` tells over how many GPUs the packed layers can be divided (`--tensor-parallel-size`).

```
{_COMMAND.replace("FOLDER", '"this folder"')}{_told(program.cache)}
```

With transformers and compressed-tensors:

```python
{program.loading}
```"""


VLLM_WRITER = Writer(_entries, _config, keeps_digests=False, loading=_loading, library="vllm", beside=_beside)
