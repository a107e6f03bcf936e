"""Activations times a packed weight on CPUs: by compiled loops, with rotations applied to the activations.

The plain path unpacks the weight, and is what verifies; this one rounds otherwise and is there for speed. A few vectors
are multiplied with packed rows directly; for many, rows are unpacked once and multiplied as a matrix.
Shape legend: N vectors, O out_features, I in_features, S symbols of a unit, U units.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from space.level import Level
from workers.kernels.compiled import compiled
from workers.kernels.exl3.exl3_code import value_line
from workers.kernels.exl3.exl3_kernel import BLOCK
from workers.kernels.fast.exl3_loops import exl3_product, exl3_values
from workers.kernels.fast.integer_loops import integer_product, integer_rows
from workers.kernels.fast.trellis_loops import trellis_rows
from workers.kernels.fast.turning_loops import turn
from workers.kernels.fast.unit_order import UNITS, steps_of
from workers.kernels.rotation import rotation_passes
from workers.kernels.trellis_code import codebook

_FEW = 3  # vectors that are multiplied one by one
_PER_THREAD = 2**18  # weights that are worth a thread of their own
Tensors = Mapping[str, Tensor]


class FastProduct(Protocol):
    """A packed weight to multiply with."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the (N, O) float32 products of (N, I) float32 vectors, which are left as they are."""
        ...


def fast_product(tensors: Tensors, level: Level, in_features: int) -> FastProduct | None:
    """Return a weight on a CPU to multiply with, or None where there are no loops for it, or nothing compiles them."""
    make = FAST_PRODUCTS.get(level.coding)
    if make is None or level.bits is None or find_spec("numba") is None:
        return None
    if any(tensor.device.type != "cpu" for tensor in tensors.values()):
        return None
    return make(tensors, level, in_features)


class _Symbols:
    """Integers or trellis symbols in rows."""

    def __init__(self, tensors: Tensors, level: Level, in_features: int) -> None:
        bits = level.bits or 8
        self._many, size = UNITS[bits]
        self._stream: Any = tensors["qweight"].numpy()
        halves: Any = tensors["scale"].view(torch.int16).numpy().view(np.uint16)
        self._packed = self._stream, halves, (level.group_size or in_features) // self._many
        self._passes = _passes(in_features) if level.rotated else ()
        self._correction = tuple(tensors[name] for name in ("right", "left", "factor_scale") if name in tensors)
        if level.coding == "integer":
            self._product, self._unpack = compiled(integer_product(bits)), compiled(integer_rows(bits))
            return
        loop, code = compiled(trellis_rows(bits)), codebook(bits).numpy()
        steps = np.array(steps_of(bits) * (self._stream.shape[1] // size), np.uint8)
        none = np.empty(0, np.float32)
        self._product = lambda rows, *packed: loop(rows, *packed[:3], steps, code, packed[3], packed[4][:, None])
        self._unpack = lambda rows, *packed: loop(rows, *packed[:3], steps, code, none, packed[3])

    def __call__(self, hidden: Tensor) -> Tensor:
        hidden = hidden.clone() if self._passes else hidden
        for one in self._passes:
            compiled(turn)(hidden.numpy(), *one)
        if len(hidden) <= _FEW:
            found = torch.empty(len(hidden), len(self._stream))
            for vector, out in zip(hidden.numpy(), found.numpy(), strict=True):
                self._in_threads(self._product, vector, out)
        else:
            weight = torch.empty(len(self._stream), hidden.shape[1])
            self._in_threads(self._unpack, weight.numpy())
            planes = hidden.view(len(hidden), -1, self._many).transpose(1, 2).flatten(1)
            found = planes @ weight.T
        return self._corrected(found, hidden) if self._correction else found

    def _in_threads(self, loop: Callable[..., None], *arguments: Any) -> None:
        rows, columns = self._stream.shape
        _in_threads(loop, rows, rows * columns, (*self._packed, *arguments))

    def _corrected(self, found: Tensor, hidden: Tensor) -> Tensor:
        """Add what the low-rank correction says."""
        right, left, factor_scale = self._correction
        return found.addmm_(hidden @ right.float().T * factor_scale, left.float().T)


class _Tiles:
    """Tiles of EXL3."""

    def __init__(self, tensors: Tensors, level: Level, in_features: int) -> None:
        words: Any = tensors["trellis"].numpy().view(np.uint16)
        self._suh, self._svh = (tensors[name].float().numpy() for name in ("suh", "svh"))
        self._packed = words, tuple(map(np.float32, value_line()))
        self._ones = tuple(np.full(n, BLOCK**-0.5, np.float32) for n in (in_features, len(self._svh)))
        bits = level.bits or 8
        self._product, self._unpack = compiled(exl3_product(bits)), compiled(exl3_values(bits))

    def __call__(self, hidden: Tensor) -> Tensor:
        if len(hidden) <= _FEW:
            found = torch.empty(len(hidden), len(self._svh))
            for vector, out in zip(hidden.numpy(), found.numpy(), strict=True):
                self._in_threads(self._product, self._suh, self._svh, vector, out)
            return found
        weight, turned = torch.empty(hidden.shape[1], len(self._svh)), hidden.clone()
        self._in_threads(self._unpack, weight.numpy())
        compiled(turn)(turned.numpy(), 0, BLOCK, self._suh, self._ones[0])
        found = turned @ weight
        compiled(turn)(found.numpy(), 0, BLOCK, self._ones[1], self._svh)
        return found

    def _in_threads(self, loop: Callable[..., None], *arguments: Any) -> None:
        blocks = len(self._svh) // BLOCK
        _in_threads(loop, blocks, len(self._svh) * len(self._suh), (*self._packed, *arguments))


def _symbols(tensors: Tensors, level: Level, in_features: int) -> FastProduct | None:
    many = UNITS[level.bits or 8][0]
    if "mask" in tensors or in_features % many or (level.group_size or many) % many:
        return None
    return _Symbols(tensors, level, in_features)


FAST_PRODUCTS: dict[str, Callable[[Tensors, Level, int], FastProduct | None]] = {
    "integer": _symbols,
    "trellis": _symbols,
    "exl3": _Tiles,
}
"""coding -> its weights to multiply with; codings that are not here have the plain path alone"""


@lru_cache
def _passes(columns: int) -> tuple[tuple[int, int, Any, Any], ...]:
    """Return first column, width, signs and normalisation of each pass of a rotation."""
    return tuple(
        (start, width, signs.flatten().numpy(), np.full(len(signs), width**-0.5, np.float32))
        for start, width, signs in rotation_passes(columns)
    )


def _in_threads(loop: Callable[..., None], count: int, weights: int, arguments: tuple[Any, ...]) -> None:
    """Run a loop over `count` parts, on as many threads as torch may use, if there are weights enough for them."""
    threads = min(torch.get_num_threads(), count, weights // _PER_THREAD)
    if threads <= 1:
        loop((0, count), *arguments)
        return
    edges = [count * i // threads for i in range(threads + 1)]
    list(_pool(os.getpid(), threads).map(lambda part: loop(part, *arguments), pairwise(edges)))


@lru_cache(maxsize=1)
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; a fork of it has none of them."""
    return ThreadPoolExecutor(threads, thread_name_prefix="tightfit")
