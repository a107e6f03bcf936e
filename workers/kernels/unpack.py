"""From the packed tensors of a module to its weight, or to some of its rows.

Shape legend: O out_features, I in_features, G groups, n rows.
"""

from torch import Tensor

from space.codings.coding_table import CODINGS
from space.level import Level
from workers.kernels.kernel import Tensors
from workers.kernels.kernel_table import KERNELS
from workers.kernels.rotation import rotate_back


def column_scale(scale: Tensor, level: Level, in_features: int) -> Tensor:
    """Return (O, I) or broadcastable (O, 1) float32 scales from (O, G)."""
    if level.group_size is None:
        return scale.float()
    return scale.float().repeat_interleave(level.group_size, dim=1)[:, :in_features]


def unpack(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None = None) -> Tensor:
    """Return the (O, I) float32 weight that packed tensors stand for, or only its (n,) `rows`, to the same bits."""
    values = KERNELS[level.coding].values(tensors, level, in_features, rows)
    if CODINGS[level.coding].stands_alone:
        return values
    weight = _scaled(values, tensors["scale"] if rows is None else tensors["scale"][rows], level)
    if "left" in tensors:
        left = tensors["left"] if rows is None else tensors["left"][rows]
        weight += (left.float() * tensors["factor_scale"]) @ tensors["right"].float()
    return rotate_back(weight) if level.rotated else weight


def _scaled(values: Tensor, scale: Tensor, level: Level) -> Tensor:
    """Return (n, I) values times their scales, in place."""
    rows, columns = values.shape
    if level.group_size is None or columns % level.group_size:
        return values.mul_(column_scale(scale, level, columns))
    return values.view(rows, -1, level.group_size).mul_(scale.float().unsqueeze(-1)).view(rows, columns)
