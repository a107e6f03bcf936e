"""The `pack-quantized` format of compressed-tensors, which transformers and vLLM load."""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.targets.compressed_tensors_target import COMPRESSED_TENSORS
from tightfit.export.container import Entry
from tightfit.export.targets.writer import LevelTensors, Program, Writer
from workers.models.headers import StoredTensor

_FORMAT = "pack-quantized"


def pack_quantized_entries(module: ModuleInfo, level: Level, tensors: LevelTensors) -> list[Entry]:
    """Return int32 words, scales and shape: our little-endian rows are its words, padded to four bytes."""
    packed, scale, shape = (
        replace(tensor, name=f"{module.name}.{tensor.name}") for tensor in COMPRESSED_TENSORS.layout(module, level)
    )
    source, row_bytes = tensors["qweight"], 4 * packed.shape[1]
    stored_bytes = source.info.shape[1]
    values = source if stored_bytes == row_bytes else _padded_rows(source, stored_bytes, row_bytes)
    numbers = struct.pack("<2q", module.out_features, module.in_features)
    return [Entry(packed, values), Entry(scale, tensors["scale"]), Entry(shape, numbers)]


def _padded_rows(source: StoredTensor, row_bytes: int, padded_bytes: int) -> bytes:
    with source.file.open("rb") as file:
        file.seek(source.start)
        rows = [file.read(row_bytes) for _ in range(source.info.shape[0])]
    return b"".join(row.ljust(padded_bytes, b"\0") for row in rows)


def quantization_config(
    inventory: Inventory, plan: Plan, scheme: Callable[[Level], dict[str, Any]] = lambda _: {}
) -> dict[str, Any]:
    """Return one config group per level, its modules named exactly; modules left dense are ignored.

    `scheme` tells what a level's group has that plain integers have not: the format, where it is not `pack-quantized`,
    what inputs are rounded to, and what of the weights differs.
    """
    by_level: dict[Level, list[str]] = {}
    for name, level in ((module.name, plan[module.name]) for module in inventory.modules):
        by_level.setdefault(level, []).append(name)
    packed = sorted((item for item in by_level.items() if not item[0].is_dense), key=lambda item: str(item[0]))
    groups = {f"group_{index}": _group(level, names, scheme(level)) for index, (level, names) in enumerate(packed)}
    dense = [m.name for m in inventory.modules if plan[m.name].is_dense and m.kind == "linear"]
    ignored = dense + [copy for m in inventory.modules if plan[m.name].is_dense for copy in m.tied]
    formats = {scheme(level).get("format", _FORMAT) for level, _ in packed} or {_FORMAT}
    return {
        "quant_method": "compressed-tensors",
        "format": next(iter(formats)) if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignored,
        "kv_cache_scheme": None,
    }


def _group(level: Level, names: Sequence[str], scheme: Mapping[str, Any]) -> dict[str, Any]:
    weights = {
        "num_bits": level.bits,
        "type": "int",
        "symmetric": True,
        "strategy": "channel" if level.group_size is None else "group",
        "group_size": level.group_size,
        "dynamic": False,
    }
    return {
        "targets": [f"re:^{re.escape(name)}$" for name in names],
        "input_activations": None,
        "output_activations": None,
        **scheme,
        "weights": weights | scheme.get("weights", {}),
    }


def _config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    return {"quantization_config": quantization_config(inventory, plan)}


def _loading(program: Program) -> str:
    return f"""Loading takes transformers and compressed-tensors.

```
pip install torch transformers accelerate compressed-tensors
```

```python
{program.loading}
```"""


COMPRESSED_TENSORS_WRITER = Writer(pack_quantized_entries, _config, keeps_digests=False, loading=_loading)
