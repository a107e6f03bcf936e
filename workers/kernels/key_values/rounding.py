"""Keys and values as attention sees them when they were remembered at a level, by the level's coding.

Shape legend: B sequences, H heads of keys and values, T tokens, D values of a head, G values of a group.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from space.codings.cache_coding import CACHE, FLOAT8_CACHE, GGML_CACHE, MLX_CACHE, mlx_group
from space.level import Level
from workers.kernels.key_values import key_value_codes
from workers.kernels.key_values.ggml_key_values import as_ggml

_LARGEST_FLOAT8 = 448.0
_LEAST_SCALE = 1e-7  # of mx.quantize


def rounded(values_bhtd: Tensor, level: Level, part: str) -> Tensor:
    """Return keys or values that were remembered at a level; `part` is "keys" or "values"."""
    assert level.bits is not None  # noqa: S101 (dense ones are not rounded)
    return KEY_VALUES[level.coding](values_bhtd, level.bits, part)


def _in_mlx(values_bhtd: Tensor, bits: int, _: str) -> Tensor:
    """As `mx.quantize` does: the end of a group's range that is farther from zero is exact, and zero is a step."""
    groups = values_bhtd.float().reshape(-1, mlx_group(values_bhtd.shape[-1]) or 1)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    is_low_far = low.abs() > high.abs()
    edge = torch.where(is_low_far, low, high)
    scale = ((high - low) / (2**bits - 1)).clamp_min(_LEAST_SCALE) * torch.where(is_low_far, 1.0, -1.0)
    steps = (edge / scale).round()
    scale = torch.where(steps == 0, scale, edge / steps)
    bias = torch.where(steps == 0, 0.0, edge)
    codes = ((groups - bias) / scale).round().clamp(0, 2**bits - 1)
    found = codes * scale.bfloat16().float() + bias.bfloat16().float()
    return found.view(values_bhtd.shape).to(values_bhtd.dtype)


def _as_float8(values_bhtd: Tensor, _bits: int, _part: str) -> Tensor:
    held = values_bhtd.float().clamp(-_LARGEST_FLOAT8, _LARGEST_FLOAT8).to(torch.float8_e4m3fn)
    return held.to(values_bhtd.dtype)


KEY_VALUES: dict[str, Callable[[Tensor, int, str], Tensor]] = {
    CACHE.name: lambda values, bits, _: key_value_codes.rounded(values, bits),
    GGML_CACHE.name: as_ggml,
    MLX_CACHE.name: _in_mlx,
    FLOAT8_CACHE.name: _as_float8,
}
"""coding of a cache -> (values, bits, part) -> as attention sees them"""
