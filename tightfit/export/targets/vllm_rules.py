"""vLLM's rules, checked on the files of an export: what its loader would refuse, or take for something else.

Only `config.json` and the header of the weights are read. The rules are those of vLLM's compressed_tensors.py, and of
its files for packed integers, integers and floats of 8 bits, and floats of 4: each layer by exactly one group of the
config or by `ignore`, fused layers by one scheme, packed words and scales of the shapes that its parameters have.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from space.codings.float4_coding import FLOAT4_GROUPS, MXFP4
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.plan import Plan
from space.targets.vllm_target import fused_with
from workers.models.headers import read_header

_DEGREES = (1, 2, 4, 8)
_BY_COLUMNS = ("o_proj", "down_proj")
"""Layers whose columns are divided among GPUs; of all others it is the rows."""
_WORD = 32
_BYTES = {"int-quantized": "I8", "float-quantized": "F8_E4M3"}
"""format -> type of its weights, a byte each"""
_SCALES_OF_FLOAT4 = {"nvfp4-pack-quantized": "F8_E4M3", "mxfp4-pack-quantized": "U8"}
"""format -> type of its scales"""
Scheme = Mapping[str, Any]


def vllm_problems(folder: Path, inventory: Inventory, plan: Plan) -> list[str]:
    """Return what vLLM would not load as it was meant, one phrase each; empty where there is nothing."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if settings is None:
        return ["config.json has no quantization_config"]
    stored = {tensor.info.name: tensor.info for tensor in read_header(folder / "model.safetensors")}
    schemes, found = dict[str, Scheme | None](), list[str]()
    for module in inventory.modules:
        if module.kind == "linear":
            matches = list(_matches(module.name, settings))
            if len(matches) != 1:
                found.append(f"{module.name} is matched {len(matches)} times by the groups of config.json and `ignore`")
                continue
            schemes[module.name] = matches[0]
            if _told(matches[0]) != _of(plan[module.name]):
                found.append(f"{module.name} is {plan[module.name]}, and config.json says {_told(matches[0])}")
            found += _shape_problems(module, matches[0], stored)
    products: dict[str, list[str]] = {}
    for name in schemes:
        if (product := fused_with(name)) is not None:
            products.setdefault(product, []).append(name)
    for names in products.values():
        differing = [name for name in names if schemes[name] != schemes[names[0]]]
        found += [f"{name} has another scheme than {names[0]}, which vLLM makes one product with" for name in differing]
    return found


def _matches(name: str, settings: Mapping[str, Any]) -> Iterator[Scheme | None]:
    """Yield the scheme of each group that names a layer, and None where it is to be ignored."""
    for group in settings["config_groups"].values():
        for target in group["targets"]:
            if _is_named(name, target):
                yield {key: group.get(key) for key in ("weights", "input_activations", "format")}
    if any(_is_named(name, target) for target in settings["ignore"]):
        yield None


def _told(scheme: Scheme | None) -> tuple[Any, ...]:
    """Return format, bits, kind of numbers, columns of a group and how inputs are rounded, as a config has them."""
    if scheme is None:
        return (None,)
    weights, inputs = scheme["weights"], scheme["input_activations"]
    held = None if inputs is None else (inputs["num_bits"], inputs["type"], inputs["strategy"], inputs["dynamic"])
    return scheme["format"], weights["num_bits"], weights["type"], weights["group_size"], held


def _of(level: Level) -> tuple[Any, ...]:
    if level.is_dense:
        return (None,)
    if level.coding in FLOAT4_GROUPS:
        inputs = (4, "float", "tensor_group", "local") if level.rounded_inputs else None
        return _float4_format(level), level.bits, "float", FLOAT4_GROUPS[level.coding], inputs
    kind = "float" if level.coding == "float8" else "int"
    name = f"{kind}-quantized" if level.inputs else "pack-quantized"
    return name, level.bits, kind, level.group_size, (8, kind, "token", True) if level.inputs else None


def _float4_format(level: Level) -> str:
    return "mxfp4-pack-quantized" if level.coding == MXFP4.name else "nvfp4-pack-quantized"


def _is_named(name: str, target: str) -> bool:
    return re.match(target.removeprefix("re:"), name) is not None if target.startswith("re:") else name == target


def _shape_problems(module: ModuleInfo, scheme: Scheme | None, stored: Mapping[str, TensorInfo]) -> list[str]:
    """Compare the tensors of a layer with those that vLLM makes parameters for."""
    held = {n: (t.shape, t.dtype) for n in _TENSORS if (t := stored.get(f"{module.name}.{n}")) is not None}
    wanted = _parameters(module, scheme)
    return [] if held == wanted else [f"{module.name} is stored as {held}, vLLM's parameters are {wanted}"]


def _parameters(module: ModuleInfo, scheme: Scheme | None) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return name -> shape and type of what vLLM makes for a layer."""
    rows, columns = module.out_features, module.in_features
    if scheme is None:
        return {"weight": ((rows, columns), module.weight.dtype)}
    weights, name = scheme["weights"], scheme["format"]
    if name in _BYTES:
        return {"weight": ((rows, columns), _BYTES[name]), "weight_scale": ((rows, 1), "F16")}
    groups = columns // weights["group_size"] if weights["group_size"] else 1
    if name in _SCALES_OF_FLOAT4:
        factors = [] if name.startswith("mx") else ["weight_global_scale"]
        factors += ["input_global_scale"] if scheme["input_activations"] else []
        return {
            "weight_packed": ((rows, columns // 2), "U8"),
            "weight_scale": ((rows, groups), _SCALES_OF_FLOAT4[name]),
            **dict.fromkeys(factors, ((1,), "F32")),
        }
    return {
        "weight_packed": ((rows, -(-columns * weights["num_bits"] // _WORD)), "I32"),
        "weight_scale": ((rows, groups), "F16"),
        "weight_shape": ((2,), "I64"),
    }


_TENSORS = (
    *("weight", "weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"),
    *("input_scale", "weight_global_scale", "input_global_scale"),
)


def tensor_parallel_sizes(inventory: Inventory, plan: Plan) -> list[int]:
    """Return over how many GPUs, 1 to 8, all packed layers can be divided: in whole groups and words."""
    return [degree for degree in _DEGREES if all(_divides(m, plan, degree) for m in inventory.modules)]


def _divides(module: ModuleInfo, plan: Plan, degree: int) -> bool:
    level = plan[module.name]
    if level.is_dense or level.bits is None:
        return True
    rows, columns = module.out_features, module.in_features
    if module.module_type not in _BY_COLUMNS:
        return rows % degree == 0
    part, size = columns // degree, level.group_size or FLOAT4_GROUPS.get(level.coding, 1)
    return columns % degree == 0 and part % size == 0 and part * level.bits % _WORD == 0
