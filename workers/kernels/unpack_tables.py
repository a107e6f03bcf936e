"""From packed rows to values by table look-up, several neighbours at a time: one table entry holds all their values.

Rows are read in units, the least number of bytes that holds whole symbols. A chunk is the part of a unit that one entry
stands for.
Shape legend: n rows, U units of a row, K symbols of a row.
"""

from functools import lru_cache

import torch
from torch import Tensor

from workers.kernels.trellis_code import codebook, window_rows

_UNITS = {
    **dict.fromkeys((2, 4, 8), (1, torch.uint8)),
    **dict.fromkeys((3, 6), (3, torch.int32)),
    5: (5, torch.int64),
    7: (7, torch.int64),
}
"""bits -> bytes of a unit, the type it is computed with"""
_INTEGERS = {2: 4, 3: 4, 4: 2, 5: 2, 6: 2, 7: 2, 8: 1}  # bits -> symbols of a chunk; tables that caches hold
_SYMBOLS = {2: 4, 3: 2, 4: 2, 5: 2, 6: 2, 7: 1, 8: 1}  # the same of a trellis, whose tables are larger
_ENTRY = {4: torch.float32, 8: torch.float64, 16: torch.complex128}  # bytes -> a type moved as one, never computed with
PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""code of four columns -> the two that are kept"""


def integer_values(stream: Tensor, bits: int, count: int) -> Tensor:
    """Return the (n, count) float32 integers in [-2^(bits-1), 2^(bits-1) - 1] of (n, bytes) packed rows."""
    chunk = _INTEGERS[bits]
    indices = _chunks(_units(stream, bits), bits, chunk, bits)
    return _looked_up(_integers(bits, chunk), indices, (len(stream), count))


def trellis_values(stream: Tensor, rows: Tensor | None, bits: int, count: int) -> Tensor:
    """Return the (n, count) float32 codebook values of packed rows, all or (n,) `rows`; see `trellis.decode`."""
    chunk, num_rows = _SYMBOLS[bits], len(stream)
    if rows is None:
        units = _units(stream, bits)
        before = window_rows(torch.arange(num_rows, device=stream.device), num_rows)[1:]
        own, one, two, three = units, *(units.index_select(0, at) for at in before)
    else:
        windows = window_rows(rows, num_rows)
        own, one, two, three = _units(stream[windows.flatten()], bits).view(*windows.shape, -1)
    total = 8 * _UNITS[bits][0]
    steps = _every(bits, 1, total)
    low, together = two & steps, 1  # so many symbols' low bits stand side by side
    while together < chunk:
        low = (low | low >> together * (bits - 1)) & _every(2 * together * bits, 2 * together, total)
        together *= 2
    # the higher bit of a subset takes the place of the row's own step
    indices = _chunks(own ^ (one ^ three) & steps, bits, chunk, bits)
    indices += _chunks(low, bits, chunk, 1) << bits * chunk
    return _looked_up(_trellis(bits, chunk), indices, (len(own), count))


def bit_mask(stream: Tensor, count: int) -> Tensor:
    """Return the (n, count) bool mask of packed rows of one bit per column."""
    return _looked_up(_bits(), stream.flatten().to(torch.int32), (len(stream), count))


def quad_mask(stream: Tensor, count: int) -> Tensor:
    """Return the (n, count) bool mask of packed rows of one three-bit code of PAIRS per four columns."""
    return _looked_up(_two_quads(), _chunks(_units(stream, 3), 3, 2, 3), (len(stream), count))


def _every(stride: int, width: int, total: int) -> int:
    """Return a mask of the lowest `width` of every `stride` bits."""
    return sum((1 << width) - 1 << at for at in range(0, total, stride))


def _units(stream: Tensor, bits: int) -> Tensor:
    """Return (n, U) units."""
    size, dtype = _UNITS[bits]
    if size == 1:
        return stream
    missing = dtype.itemsize - size
    padded = torch.nn.functional.pad(stream, (0, -stream.shape[1] % size)).view(len(stream), -1, size)
    return torch.nn.functional.pad(padded, (0, missing)).view(dtype).squeeze(-1)


def _chunks(units: Tensor, bits: int, chunk: int, kept_bits: int) -> Tensor:
    """Return, as one row, the lowest `kept_bits` per symbol of each chunk of (n, U) units, which stand together."""
    mask, size = (1 << kept_bits * chunk) - 1, _UNITS[bits][0]
    if size == 1:
        return (units & mask).to(torch.int32).flatten()
    shifts = torch.arange(0, 8 * size, chunk * bits, device=units.device, dtype=units.dtype)
    return (units.unsqueeze(-1) >> shifts).bitwise_and_(mask).flatten()


def _looked_up(table: Tensor, indices: Tensor, shape: tuple[int, int]) -> Tensor:
    entries = table.to(indices.device).view(_ENTRY[table[0].nbytes]).flatten()
    values = entries.index_select(0, indices).view(table.dtype).view(shape[0], -1)
    return values[:, : shape[1]].contiguous()


@lru_cache
def _integers(bits: int, chunk: int) -> Tensor:
    """Return the (2^(bits * chunk), chunk) values of all neighbours that there can be."""
    numbers = torch.arange(1 << (bits * chunk))[:, None] >> (torch.arange(chunk) * bits)
    return ((numbers & (1 << bits) - 1) - (1 << (bits - 1))).float()


@lru_cache
def _trellis(bits: int, chunk: int) -> Tensor:
    """Return the (2^((bits + 1) * chunk), chunk) values: the lower bits of all subsets stand before the symbols."""
    numbers, at = torch.arange(1 << ((bits + 1) * chunk))[:, None], torch.arange(chunk)
    symbols = numbers >> (at * bits) & (1 << bits) - 1
    lower = numbers >> (bits * chunk + at) & 1
    return codebook(bits)[2 * symbols + lower]


@lru_cache
def _bits() -> Tensor:
    return (torch.arange(256)[:, None] >> torch.arange(8) & 1).bool()


@lru_cache
def _two_quads() -> Tensor:
    """Return the (64, 8) masks of two codes each; what is no code keeps nothing."""
    quads = torch.zeros(8, 4, dtype=torch.bool)
    for code, pair in enumerate(PAIRS):
        quads[code, list(pair)] = True
    codes = torch.arange(64)
    return torch.cat([quads[codes & 7], quads[codes >> 3]], 1)
