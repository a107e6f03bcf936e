"""ggml's types: codes where ggml reads them, and rounding that loses less than ggml's own."""

import pytest
import torch
from torch import Tensor

from space.codings.coding_table import CODINGS
from space.codings.ggml_types import GGML_TYPES
from space.level import Level, parse_level
from workers.compress.build import build_levels
from workers.compress.ggml_codes import SCALAR_TYPES, block_codes
from workers.compress.gptq import output_energy
from workers.compress.module_statistics import Statistics
from workers.compress.screen import screen_levels
from workers.kernels.ggml.ggml_library import dequantize, quantize
from workers.kernels.inputs.input_table import ROUNDED
from workers.kernels.unpack import unpack

FAST = [name for name, entry in GGML_TYPES.items() if entry.is_default]


def _level(name: str) -> Level:
    return parse_level(name)


@pytest.fixture(scope="module")
def material() -> tuple[Tensor, Tensor]:
    """Give a (96, 512) weight and the Hessian of inputs that lean on one another."""
    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(2048, 64, generator=random) @ torch.randn(64, 512, generator=random)
    inputs += 2 * torch.randn(2048, 512, generator=random)
    return torch.randn(96, 512, generator=random), inputs.T @ inputs


@pytest.mark.parametrize("name", SCALAR_TYPES)
def test_codes_are_where_ggml_reads_them(name: str) -> None:
    """Any codes under the head of a block: what ggml reads is what the grid says."""
    random, codes, width = torch.Generator().manual_seed(1), block_codes(name), GGML_TYPES[name].columns
    heads = quantize(torch.randn(16, width, generator=random), name, torch.ones(width))
    ranks = torch.randint(0, codes.num_codes, (16, width), generator=random)
    offset, step = codes.grid(heads)
    wanted = (dequantize(codes.write(heads, ranks), name) - offset) / step
    found, values = codes.nearest(wanted)
    assert torch.equal(found, ranks)
    assert torch.allclose(values, wanted, atol=0.02)
    again = codes.write(codes.write(heads, ranks), ranks)
    assert torch.equal(again, codes.write(heads, ranks))


@pytest.mark.parametrize("name", FAST)
def test_levels_lose_less_than_ggmls_own_rounding(name: str, material: tuple[Tensor, Tensor]) -> None:
    """A scalar type loses far less with feedback, one of codebooks no more; bytes are those of the layout."""
    weight, hessian = material
    (built,) = build_levels(weight, Statistics(hessian), [_level(name)])
    (info,) = CODINGS[name].layout(96, 512, _level(name).bits or 0)
    assert built.tensors["blocks"].shape == info.shape
    own = dequantize(quantize(weight, name, hessian.diagonal()), name)
    lost = output_energy(weight - own, hessian) / output_energy(weight, hessian)
    assert built.output_error < (0.75 if name in SCALAR_TYPES else 1.02) * lost
    rows = torch.tensor([90, 3, 3])
    whole = unpack(built.tensors, built.level, 512)
    assert torch.equal(unpack(built.tensors, built.level, 512, rows), whole[rows])


def test_weights_without_values_and_dead_columns() -> None:
    """Rows of zeros stay zeros, and inputs that are never there do no harm."""
    weight = torch.zeros(32, 256)
    weight[3] = torch.linspace(-1, 1, 256)
    hessian = torch.eye(256)
    hessian[7, 7] = 0
    built = build_levels(weight, Statistics(hessian), [_level(name) for name in FAST])
    for level in built:
        found = unpack(level.tensors, level.level, 256)
        assert torch.isfinite(found).all()
        assert float(found[[0, 31]].abs().max()) == 0
        assert level.output_error < 0.3


def test_screening_keeps_what_a_search_may_choose(material: tuple[Tensor, Tensor]) -> None:
    """The K types stay; of two of one size the worse goes unseen."""
    weight, hessian = material
    levels = [_level(name) for name in FAST]
    sizes = {v: GGML_TYPES[v.coding].row_bytes(512) * 96 for v in levels}
    kept, _ = screen_levels(weight, Statistics(hessian), sizes)
    names = {level.coding for level in kept}
    assert {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0", "iq2_xxs", "iq4_xs"} <= names
    assert not {"iq3_s", "q4_0"} & names


@pytest.mark.parametrize(("name", "worst"), [("q4_K", 1.0), ("q8_0", 0.5), ("q4_1", 0.5)])
def test_inputs_are_rounded_to_eight_bits(name: str, worst: float) -> None:
    """By less than so many steps of the block; zeros stay, and rounding again changes next to nothing."""
    width = GGML_TYPES[name].columns
    inputs = torch.randn(3, 2, 512, generator=torch.Generator().manual_seed(2))
    inputs[0] = 0
    round_inputs = ROUNDED[CODINGS[name].inputs]
    found = round_inputs(inputs)
    blocks, rounded = inputs.view(-1, width), found.view(-1, width)
    step = blocks.abs().amax(1, keepdim=True) / 127
    assert float(((blocks - rounded).abs() - (worst + 0.07) * step).max()) <= 0
    assert float(found[0].abs().max()) == 0
    assert float((round_inputs(found) - found).abs().max()) < 2e-3
