"""Weights stored in MXFP4, read as the values that they stand for (OCP Microscaling Formats v1.0, sections 5.3, 6.3).

gpt-oss stores a stack of experts as codes of four bits, two in a byte, the first in the lower half, and one exponent
for each 32 of them. Shape legend: E experts, O out_features, G groups of 32 columns, I = 32 G in_features.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

_BLOCKS, _SCALES = "_blocks", "_scales"
_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_BIAS, _NOT_A_NUMBER = 127, 255  # of the exponents


def stored_pairs(unknown: Collection[str], wanted: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return parameter -> (its codes, its exponents), of stored tensors that are no parameter by themselves."""
    bases = [name.removesuffix(_BLOCKS) for name in unknown if name.endswith(_BLOCKS)]
    pairs = {base: (base + _BLOCKS, base + _SCALES) for base in bases if base in wanted}
    return {base: pair for base, pair in pairs.items() if pair[1] in unknown}


def mxfp4_values(blocks: Tensor, scales: Tensor) -> Tensor:
    """Return (E, I, O) bfloat16 values, as transformers has them, of (E, O, G, 16) codes and (E, O, G) exponents.

    Every value of MXFP4 is one of bfloat16, the smallest exponents aside.
    """
    table = torch.tensor([*_VALUES, *(-value for value in _VALUES)], device=blocks.device)
    codes = torch.stack([blocks & 0x0F, blocks >> 4], -1).flatten(-2).long()
    factors = torch.ldexp(torch.ones(scales.shape, device=scales.device), scales.int() - _BIAS)
    factors = torch.where(scales == _NOT_A_NUMBER, torch.nan, factors)
    values = (table[codes] * factors[..., None]).flatten(-2)
    return values.transpose(-1, -2).to(torch.bfloat16)


class FromMxfp4:
    """Makes a parameter of its codes and exponents; it is called as transformers' converters are."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._tensors: list[Tensor] = []

    def add_tensor(self, _target: str, _name: str, _pattern: str, tensor: Tensor) -> None:
        """Take the codes first, then the exponents."""
        self._tensors.append(tensor)

    def convert(self, target: str, **_: Any) -> dict[str, Tensor]:
        """Return parameter -> values."""
        blocks, scales = self._tensors
        return {target: mxfp4_values(blocks, scales)}
