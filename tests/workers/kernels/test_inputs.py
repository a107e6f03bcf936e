"""Inputs rounded as runtimes round them, by hooks on layers."""

import torch
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp
from torch import nn

from space.codings.float4_coding import INPUT_UNIT
from space.level import DENSE, parse_level
from workers.kernels.inputs.block_inputs import block_int8
from workers.kernels.inputs.float4_inputs import group_float4
from workers.kernels.inputs.input_rounding import InputRounding
from workers.kernels.inputs.token_inputs import token_float8, token_int8


def test_tokens_are_rounded_each_by_its_largest() -> None:
    """To 127 steps on each side of zero, ties to even; zeros stay, and what is rounded rounds to itself."""
    inputs = torch.tensor([[[12.7, -0.05, 0.15, 6.349], [0.0, 0.0, 0.0, 0.0], [-1e-3, 1e-4, 0.0, 5e-4]]])
    rounded = token_int8(inputs)
    torch.testing.assert_close(rounded[0, 0], torch.tensor([12.7, -0.0, 0.2, 6.3]))
    assert float(rounded[0, 1].abs().max()) == 0
    steps = rounded[0, 2] / (1e-3 / 127)
    torch.testing.assert_close(steps, torch.tensor([-127.0, 13.0, 0.0, 64.0]))
    torch.testing.assert_close(token_int8(rounded), rounded)
    assert token_int8(inputs.bfloat16()).dtype == torch.bfloat16


def test_tokens_are_rounded_to_floats() -> None:
    """Three bits of mantissa on each side of zero, the largest to the bit; zeros stay, and the tiniest do no harm."""
    inputs = torch.zeros(3, 5)
    inputs[0], inputs[2, 0] = torch.tensor([448.0, 1.0, -1.0625, 1.07, 0.001]), 1e-30
    rounded = token_float8(inputs)
    torch.testing.assert_close(rounded[0], torch.tensor([448.0, 1.0, -1.0, 1.125, 2.0**-9 * 1]))
    assert float(rounded[1:].abs().max()) == 0
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(8, 64, generator=generator) * 10.0 ** torch.arange(-4, 4)[:, None]
    found = token_float8(spread)
    assert float(((found - spread).abs() / spread.abs().amax(-1, keepdim=True)).max()) <= 2**-4
    torch.testing.assert_close(token_float8(found), found)


def test_blocks_are_rounded_each_by_its_largest() -> None:
    """To 127 steps on each side of zero; without a size a row is one block, and zeros stay."""
    inputs = torch.tensor([[12.7, -0.06, 1.27, 0.004], [0.0, 0.0, -0.0127, 0.0127]])
    rounded = block_int8(inputs, 2)
    torch.testing.assert_close(rounded, torch.tensor([[12.7, -0.1, 1.27, 0.0], [0.0, 0.0, -0.0127, 0.0127]]))
    torch.testing.assert_close(block_int8(inputs, None), token_int8(inputs))
    assert block_int8(inputs.bfloat16(), 2).dtype == torch.bfloat16


def test_groups_are_rounded_to_floats_of_four_bits() -> None:
    """To the even neighbour where two are as near; what no scale of 8 bits reaches is cut off, or gone."""
    steps = torch.tensor([0.25, 0.26, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 5.1, -0.25, -0.75, -2.6, 0.0, 6.0, -6.0, 4.9])
    wanted = torch.tensor([0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, -0.0, -1.0, -3.0, 0.0, 6.0, -6.0, 4.0])
    inputs = torch.stack((steps, steps * 2, steps * 1e6, steps * 1e-6, torch.zeros(16)))
    rounded = group_float4(inputs)
    torch.testing.assert_close(rounded[:2], torch.stack((wanted, wanted * 2)))
    assert float(rounded[2].abs().max()) == 672
    assert float(rounded[3:].abs().max()) == 0
    torch.testing.assert_close(group_float4(rounded), rounded)
    assert group_float4(inputs.bfloat16()).dtype == torch.bfloat16


def test_groups_are_rounded_as_compressed_tensors_rounds_them() -> None:
    """Its own emulation of NVFP4's inputs, given our factor, finds the same values."""
    args = preset_name_to_scheme("NVFP4", []).input_activations
    values = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
    values = values * 10.0 ** torch.arange(-2, 2).repeat(2)[:, None]
    factor = torch.tensor([1 / INPUT_UNIT])
    scale, zero = compute_dynamic_scales_and_zp(values, args, nn.Identity(), factor)
    theirs = fake_quantize(values, scale, zero, args, factor)
    torch.testing.assert_close(group_float4(values), theirs)


def test_layers_meet_rounded_inputs_while_their_level_says_so() -> None:
    """Embeddings and levels that take inputs as they are are left alone; another level takes the place of the first."""
    layer, table = nn.Linear(8, 4, bias=False), nn.Embedding(8, 8)
    inputs, rounding = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), InputRounding()
    plain, rounded = layer(inputs), layer(token_int8(inputs))
    rounding.begin("layer", [(layer, "weight"), (table, "weight")], parse_level("b8-gch-a8"))
    assert layer(inputs).equal(rounded)
    assert not rounded.equal(plain)
    assert table(torch.tensor([1])).equal(table.weight[1:2])
    rounding.begin("layer", [(layer, "weight")], parse_level("b8-gch"))
    assert layer(inputs).equal(plain)
    rounding.begin("layer", [(layer, "weight")], parse_level("b8-gch-a8"))
    rounding.end("layer")
    rounding.begin("layer", [(layer, "weight")], DENSE)
    assert layer(inputs).equal(plain)
