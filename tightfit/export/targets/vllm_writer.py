"""Checkpoints of compressed-tensors for vLLM: integers or floats of 8 bits or fewer, one format or a mixture."""

import struct
from dataclasses import replace
from typing import Any

from space.codings.float4_coding import FLOAT4_GROUPS, INPUT_UNIT, MXFP4, UNIT
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
    if level.coding in FLOAT4_GROUPS:
        return _float4_entries(module, level, tensors)
    if not level.inputs:
        return pack_quantized_entries(module, level, tensors)
    weight, scale = (replace(t, name=f"{module.name}.{t.name}") for t in VLLM.layout(module, level))
    values = tensors["qweight"]
    stored = values if level.coding == "float8" else _read(values).translate(_SIGNED)
    return [Entry(weight, stored), Entry(scale, tensors["scale"])]


def _float4_entries(module: ModuleInfo, level: Level, tensors: LevelTensors) -> list[Entry]:
    """Return codes and scales as they are; files have the factors of NVFP4 as what scales are divided by."""
    layout = [replace(t, name=f"{module.name}.{t.name}") for t in VLLM.layout(module, level)]
    stored: list[StoredTensor | bytes] = [tensors["qweight"], tensors["scale"]]
    stored += [struct.pack("<f", 1 / unit) for unit in (UNIT, INPUT_UNIT)]
    return [Entry(info, data) for info, data in zip(layout, stored, strict=False)]


def _read(tensor: StoredTensor) -> bytes:
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        return file.read(tensor.info.size_bytes)


def _scheme(level: Level) -> dict[str, Any]:
    """Return what a config group has of a level that plain integers do not have."""
    if level.coding in FLOAT4_GROUPS:
        return _float4_scheme(level)
    if not level.inputs:
        return {"format": "pack-quantized"}
    kind = "float" if level.coding == "float8" else "int"
    inputs = {"num_bits": 8, "type": kind, "symmetric": True, "strategy": "token", "dynamic": True}
    return {"format": f"{kind}-quantized", "input_activations": inputs, "weights": {"type": kind}}


def _float4_scheme(level: Level) -> dict[str, Any]:
    is_mx = level.coding == MXFP4.name
    numbers = {
        "num_bits": 4,
        "type": "float",
        "symmetric": True,
        "strategy": "group" if is_mx else "tensor_group",
        "group_size": FLOAT4_GROUPS[level.coding],
        "scale_dtype": "torch.uint8" if is_mx else "torch.float8_e4m3fn",
    }
    inputs = {**numbers, "dynamic": "local"} if level.rounded_inputs else None
    return {"format": f"{'mx' if is_mx else 'nv'}fp4-pack-quantized", "input_activations": inputs, "weights": numbers}


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

With transformers and compressed-tensors, which unpacks 4-bit floats to bfloat16 (`dtype="bfloat16"`):

```python
{program.loading}
```"""


VLLM_WRITER = Writer(_entries, _config, keeps_digests=False, loading=_loading, library="vllm", beside=_beside)
