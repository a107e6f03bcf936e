"""The `pack-quantized` format of compressed-tensors: plain integers of linear layers, in whole int32 words per row."""

from space.inventory import ModuleInfo, TensorInfo
from space.level import Level, num_groups
from space.targets.target import Target


def _why_not(level: Level) -> str | None:
    return None if level.is_dense or (level.is_integer and level.is_plain) else "holds plain integers only"


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    divides = level.group_size is None or module.in_features % level.group_size == 0
    return module.kind == "linear" and module.site is None and not module.initialised and divides


def _layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    assert level.bits is not None  # noqa: S101 (dense levels are stored as they are)
    rows, columns = module.out_features, module.in_features
    return (
        TensorInfo("weight_packed", (rows, -(-columns * level.bits // 32)), "I32"),
        TensorInfo("weight_scale", (rows, num_groups(level, columns)), "F16"),
        TensorInfo("weight_shape", (2,), "I64"),
    )


COMPRESSED_TENSORS = Target(name="compressed-tensors", why_not=_why_not, is_legal=_is_legal, layout=_layout)
