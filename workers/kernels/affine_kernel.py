"""Affine integers out of packed rows: each value times the scale of its group, plus its bias."""

from torch import Tensor

from space.codings.affine_coding import GROUP_OF
from space.level import Level
from workers.kernels.kernel import Kernel, Tensors
from workers.kernels.unpack_tables import integer_values


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    stream, scales, biases = (
        tensors[name] if rows is None else tensors[name][rows] for name in ("qweight", "scales", "biases")
    )
    signed = integer_values(stream, level.bits, in_features).view(len(stream), -1, GROUP_OF[level.coding])
    values = signed.add_(2 ** (level.bits - 1)).mul_(scales.float().unsqueeze(-1)).add_(biases.float().unsqueeze(-1))
    return values.view(len(stream), in_features)


AFFINE_KERNEL = Kernel(_values)
