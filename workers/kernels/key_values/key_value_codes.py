"""Keys or values of attention as codes between the least and the largest value of each head of each token.

Shape legend: B sequences, H heads of keys and values, T tokens, D values of a head, S bytes of its codes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.kernels.bit_streams import unpack_bits

_BYTE = 8


@dataclass(frozen=True, slots=True)
class Codes:
    """What is remembered of keys or values.

    Attributes:
        codes_bhts: uint8, `bits` bits for each of D values, least significant bit first.
        scale_bht1: float16, the step between two codes.
        low_bht1: float16, the value of code 0.

    """

    codes_bhts: Tensor
    scale_bht1: Tensor
    low_bht1: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return all that is held."""
        return self.codes_bhts, self.scale_bht1, self.low_bht1


def encode(values_bhtd: Tensor, bits: int) -> Codes:
    """Return keys or values in so many bits each; a row of D equal values has a step of zero."""
    values = values_bhtd.float()
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    scale, low = ((high - low) / (2**bits - 1)).half(), low.half()
    step = scale.float()
    codes = ((values - low.float()) / step.where(step > 0, 1.0)).round().clamp(0, 2**bits - 1)
    return Codes(_packed(codes.to(torch.uint8), bits), scale, low)


def decode(codes: Codes, bits: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return the (B, H, T, D) values, D being `width`."""
    whole = unpack_bits(codes.codes_bhts.flatten(0, -2), bits, width)
    values = whole.view(*codes.codes_bhts.shape[:-1], width).float()
    return (values * codes.scale_bht1.float() + codes.low_bht1.float()).to(dtype)


def rounded(values_bhtd: Tensor, bits: int) -> Tensor:
    """Return keys or values as attention sees them when they were remembered in so many bits."""
    return decode(encode(values_bhtd, bits), bits, values_bhtd.shape[-1], values_bhtd.dtype)


def _packed(codes_bhtd: Tensor, bits: int) -> Tensor:
    """Pack codes whose bits divide a byte: as `workers/compress/bit_packing.py` does, with less memory."""
    each = _BYTE // bits
    padded = torch.nn.functional.pad(codes_bhtd, (0, -codes_bhtd.shape[-1] % each))
    parts = padded.view(*padded.shape[:-1], -1, each)
    shifts = torch.arange(each, dtype=torch.uint8, device=codes_bhtd.device) * bits
    return (parts << shifts).sum(-1, dtype=torch.uint8)
