"""The EXL3 coding against a decoder that is written from the file layout alone, in plain Python."""

import struct

import pytest
import torch
from torch import Tensor

from space.level import Level
from tests.workers.exl3_rings import ring_states
from workers.kernels.exl3.exl3_code import codebook, pack_rings, tile_values, unpack_states
from workers.kernels.exl3.exl3_format import MULTIPLIER
from workers.kernels.exl3.exl3_kernel import EXL3_KERNEL

FIXED = [-3.453125, 0.6410751342773438, -0.448455810546875, 0.8373260498046875, -0.6514739990234375]
"""values of the states 0, 1, 2, 255 and 65535"""


def _half(bits: int) -> float:
    return float(struct.unpack("<e", struct.pack("<H", bits))[0])


def _value(state: int) -> float:
    """Return the value of a state: four bytes of a product, in the last bits of a float16 from 1024 on."""
    total = sum((state * 0x83DCD12D % 2**32).to_bytes(4, "little"))
    return _half(0x6400 + total) * _half(0x1EEE) + _half(0xC931)


def _plain_tile(words: list[int], bits: int) -> list[list[float]]:
    """Return a tile from its unsigned words, by a string of its bits."""
    pairs = zip(words[1::2], words[::2], strict=True)
    ring = "".join(f"{word:016b}" for pair in pairs for word in pair)
    tile = [[0.0] * 16 for _ in range(16)]
    for i in range(256):
        end = (i + 1) * bits
        value = _value(int((ring + ring)[len(ring) + end - 16 : len(ring) + end], 2))
        thread, part = divmod(i, 8)
        row = 2 * (thread % 4) + part % 2 + 8 * (part // 2 % 2)
        tile[row][thread // 4 + 8 * (part // 4)] = value
    return tile


def _words(bits: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**15), 2**15, (*shape, 16 * bits), generator=generator).to(torch.int16)


def test_values_of_states() -> None:
    """The codebook is the one of `mul1` files: all values, and a few by number."""
    assert codebook().tolist() == [torch.tensor(_value(state)).item() for state in range(65536)]
    assert codebook()[[0, 1, 2, 255, 65535]].tolist() == FIXED
    assert MULTIPLIER == 0x83DCD12D
    assert codebook().std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("bits", range(1, 9))
def test_tiles_are_read_as_their_bits_stand(bits: int) -> None:
    """Random words give the plain decoder's tile, to the bit; and what is packed is read again."""
    words = _words(bits, (3,))
    plain = [_plain_tile([w % 65536 for w in ring], bits) for ring in words.tolist()]
    assert torch.equal(tile_values(words, bits), torch.tensor(plain))
    states = unpack_states(words, bits)
    symbols = states & (1 << bits) - 1
    assert torch.equal(pack_rings(symbols, bits), words)
    assert torch.equal(ring_states(symbols, bits), states.long())


def test_a_weight_is_its_tiles_turned_on_both_sides() -> None:
    """Against sums over Hadamard signs, in double precision; asked for some rows, it gives the same bits."""
    bits, inputs, outputs = 3, 256, 128
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "trellis": _words(bits, (inputs // 16, outputs // 16)),
        "suh": torch.randn(inputs, generator=generator).half(),
        "svh": torch.randn(outputs, generator=generator).half(),
    }
    level = Level(bits)
    weight = EXL3_KERNEL.values(tensors, level, inputs, None)
    tiles = tile_values(tensors["trellis"].view(-1, 16 * bits), bits).view(inputs // 16, outputs // 16, 16, 16)
    inner = tiles.permute(0, 2, 1, 3).reshape(inputs, outputs).double()
    signs = torch.tensor([[(-1.0) ** (i & j).bit_count() for j in range(128)] for i in range(128)]).double() / 128**0.5
    turned = (signs @ inner.view(-1, 128, outputs)).view(inputs, outputs) @ signs
    expected = (turned * tensors["suh"].double()[:, None] * tensors["svh"].double()).T
    assert (weight - expected).abs().max() < 1e-5 * expected.abs().max()
    rows = torch.tensor([127, 3, 3, 64])
    assert torch.equal(EXL3_KERNEL.values(tensors, level, inputs, rows), weight[rows])
