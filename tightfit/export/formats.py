"""What each container writes: tensors by copying packed bytes, and the `quantization_config` that loaders read."""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from space.cost import Target
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.plan import Plan
from tightfit.export.container import Entry, stored_entry
from workers.models.headers import StoredTensor
from workers.runtime.packed_format import NO_SHAPE, NO_WEIGHTS, QUANT_METHOD, SCHEMA_VERSION, WEIGHTS_FIELD

LevelTensors = Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class Format:
    """One container: entries of a packed module, and the fields of config.json for a whole plan."""

    entries: Callable[[ModuleInfo, Level, LevelTensors], list[Entry]]
    config: Callable[[Inventory, Plan], dict[str, Any]]


def _packed_entries(module: ModuleInfo, _: Level, tensors: LevelTensors) -> list[Entry]:
    """Return a level's tensors, and one without bytes that loaders meet which do not know the format."""
    stored = [stored_entry(f"{module.name}.{name}", tensor) for name, tensor in tensors.items()]
    return [*stored, Entry(TensorInfo(f"{module.name}.weight", NO_SHAPE, "U8"), b"")]


def _packed_config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    tied = {copy: module.name for module in inventory.modules for copy in module.tied}
    settings = {"quant_method": QUANT_METHOD, "plan": plan.to_json(), "tied": tied, "schema_version": SCHEMA_VERSION}
    return {"quantization_config": settings, WEIGHTS_FIELD: NO_WEIGHTS}


def _compressed_tensors_entries(module: ModuleInfo, level: Level, tensors: LevelTensors) -> list[Entry]:
    """Return int32 words, scales and shape: our little-endian rows are its words, padded to four bytes."""
    assert level.bits is not None  # noqa: S101 (dense levels are copied as they are)
    rows, columns = module.out_features, module.in_features
    words = -(-columns * level.bits // 32)
    packed = TensorInfo(f"{module.name}.weight_packed", (rows, words), "I32")
    source = tensors["qweight"]
    row_bytes = source.info.shape[1]
    values: StoredTensor | bytes = source if row_bytes == 4 * words else _padded_rows(source, row_bytes, 4 * words)
    shape = TensorInfo(f"{module.name}.weight_shape", (2,), "I64")
    return [
        Entry(packed, values),
        stored_entry(f"{module.name}.weight_scale", tensors["scale"]),
        Entry(shape, struct.pack("<2q", rows, columns)),
    ]


def _padded_rows(source: StoredTensor, row_bytes: int, padded_bytes: int) -> bytes:
    with source.file.open("rb") as file:
        file.seek(source.start)
        rows = [file.read(row_bytes) for _ in range(source.info.shape[0])]
    return b"".join(row.ljust(padded_bytes, b"\0") for row in rows)


def _compressed_tensors_config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    """Return one config group per level, its modules named exactly; modules left dense are ignored."""
    by_level: dict[Level, list[str]] = {}
    for name, level in plan.levels:
        by_level.setdefault(level, []).append(name)
    packed = [(level, names) for level, names in by_level.items() if not level.is_dense]
    groups = {
        f"group_{index}": {
            "targets": [f"re:^{re.escape(name)}$" for name in names],
            "weights": {
                "num_bits": level.bits,
                "type": "int",
                "symmetric": True,
                "strategy": "channel" if level.group_size is None else "group",
                "group_size": level.group_size,
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
        }
        for index, (level, names) in enumerate(sorted(packed, key=lambda item: str(item[0])))
    }
    dense = [m.name for m in inventory.modules if plan[m.name].is_dense and m.kind == "linear"]
    ignored = dense + [copy for m in inventory.modules if plan[m.name].is_dense for copy in m.tied]
    settings = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignored,
        "kv_cache_scheme": None,
    }
    return {"quantization_config": settings}


FORMATS: dict[Target, Format] = {
    "packed": Format(_packed_entries, _packed_config),
    "compressed-tensors": Format(_compressed_tensors_entries, _compressed_tensors_config),
}
