"""Packing loses nothing, and stores exactly the bytes that were counted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from space.codings.masks import PRUNING_BLOCK
from space.cost import module_bytes
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level
from space.targets.target_table import is_legal
from workers.compress.bit_packing import pack_bits, pack_mask
from workers.compress.packing import Codes, pack
from workers.compress.prune import prune_mask
from workers.kernels.bit_streams import unpack_bits, unpack_mask
from workers.kernels.rotation import rotate_back
from workers.kernels.trellis_code import SEGMENT_ROWS, codebook
from workers.kernels.unpack import column_scale, unpack
from workers.runtime.packed_values import packed_shapes

properties = settings(max_examples=60, deadline=None, database=None)
levels = st.builds(
    lambda bits, group, zeros, rank, coding, rotated: Level(bits, group, zeros[0], zeros[1], rank, coding, rotated),
    st.integers(2, 8),
    st.none() | st.integers(1, 70),
    st.sampled_from([(0.0, "unstructured"), (0.5, "unstructured"), (0.13, "unstructured"), (0.5, "2:4")]),
    st.sampled_from([0, 0, 1, 3]),
    st.sampled_from(("integer", "trellis")),
    st.booleans(),
)


def _module(rows: int, columns: int) -> ModuleInfo:
    return ModuleInfo("m", "linear", TensorInfo("m.weight", (rows, columns), "BF16"), 0)


def _random_codes(level: Level, rows: int, columns: int, seed: int) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    assert level.bits is not None
    half = 2 ** (level.bits - 1)
    values = torch.randint(-half, half, (rows, columns), generator=generator).to(torch.int16)
    groups = 1 if level.group_size is None else -(-columns // level.group_size)
    scale = torch.randn(rows, groups, generator=generator).half()
    mask = None
    if level.sparsity:
        weight = torch.randn(rows, columns, generator=generator)
        mask = prune_mask(weight, torch.eye(columns), level, "magnitude")
        values = values * mask
    if not level.rank:
        return Codes(values, scale, mask)
    left = torch.randint(-127, 128, (rows, level.rank), generator=generator).to(torch.int8)
    right = torch.randint(-127, 128, (level.rank, columns), generator=generator).to(torch.int8)
    return Codes(values, scale, mask, left, right, torch.rand(level.rank, generator=generator))


def _trellis_values(codes: Codes, level: Level) -> Tensor:
    """Walk each column down its segments, one row after the other, as the trellis is drawn."""
    assert level.bits is not None
    values, symbols = codebook(level.bits), codes.values.long() + 2 ** (level.bits - 1)
    symbols = symbols if codes.mask is None else symbols * codes.mask
    found = torch.zeros(symbols.shape)
    for start in range(0, len(symbols), SEGMENT_ROWS):
        part = symbols[start : start + SEGMENT_ROWS]
        for column in range(part.shape[1]):
            steps = [int(s) & 1 for s in part[:, column]]
            for row in range(len(part)):
                now, one, two, three = (steps[(row - k) % len(part)] for k in range(4))
                subset = 2 * (now ^ one ^ three) + two
                found[start + row, column] = values[4 * (int(part[row, column]) >> 1) + subset]
    return found if codes.mask is None else found * codes.mask


def _dequantized(codes: Codes, level: Level, columns: int) -> Tensor:
    values = _trellis_values(codes, level) if level.coding == "trellis" else codes.values.float()
    weight = values * column_scale(codes.scale, level, columns)
    if codes.left is not None and codes.right is not None and codes.factor_scale is not None:
        weight += (codes.left.float() * codes.factor_scale) @ codes.right.float()
    return rotate_back(weight) if level.rotated else weight


@properties
@given(bits=st.integers(1, 8), rows=st.integers(1, 4), count=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_bits_come_back(bits: int, rows: int, count: int, seed: int) -> None:
    """Any values of any width and number fit into exactly the bytes they need."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2**bits, (rows, count), generator=generator)
    stream = pack_bits(values, bits)
    assert stream.shape == (rows, -(-count * bits // 8))
    assert unpack_bits(stream, bits, count).equal(values)


@pytest.mark.parametrize("bits", range(1, 9))
def test_bits_are_one_little_endian_stream(bits: int) -> None:
    """The least significant bit comes first, across bytes."""
    values = torch.arange(11) * 37 % 2**bits
    number = sum(int(v) << (bits * i) for i, v in enumerate(values))
    assert bytes(pack_bits(values[None], bits)[0].tolist()) == number.to_bytes(-(-11 * bits // 8), "little")


@properties
@given(level=levels, rows=st.integers(4, 70), columns=st.integers(4, 300), seed=st.integers(0, 2**31))
def test_levels_come_back_in_the_counted_bytes(level: Level, rows: int, columns: int, seed: int) -> None:
    """Every kind of level in every shape takes the bytes of `space.cost` and unpacks to its dequantized codes."""
    module = _module(rows, columns)
    if not is_legal(module, level, "packed"):
        return
    codes = _random_codes(level, rows, columns, seed)
    tensors = pack(codes, level)
    assert sum(t.nbytes for t in tensors.values()) == module_bytes(module, level)
    assert {n: (tuple(t.shape), t.dtype) for n, t in tensors.items()} == packed_shapes(level, rows, columns)
    assert unpack(tensors, level, columns).equal(_dequantized(codes, level, columns))


@properties
@given(level=levels, rows=st.integers(4, 70), columns=st.integers(4, 150), seed=st.integers(0, 2**31))
def test_rows_unpack_alone(level: Level, rows: int, columns: int, seed: int) -> None:
    """Any rows of a level are the same rows of the whole, to the bit, as an embedding looks them up."""
    if not is_legal(_module(rows, columns), level, "packed"):
        return
    tensors = pack(_random_codes(level, rows, columns, seed), level)
    picks = torch.randint(0, rows, (3,), generator=torch.Generator().manual_seed(seed))
    part, whole = unpack(tensors, level, columns, picks), unpack(tensors, level, columns)[picks]
    if level.rank:  # a matrix product may sum in another order
        torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-2)
    else:
        assert part.equal(whole)


@pytest.mark.parametrize("level", [Level(4, None, 0.5), Level(4, None, 0.3), Level(4, None, 0.5, "2:4")])
def test_masks_come_back(level: Level) -> None:
    """A mask is one bit per column, or a code of three bits per four columns."""
    mask = prune_mask(torch.randn(6, PRUNING_BLOCK + 44), torch.eye(PRUNING_BLOCK + 44), level, "magnitude")
    assert unpack_mask(pack_mask(mask, level), level, mask.shape[1]).equal(mask)
