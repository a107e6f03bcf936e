"""Inputs rounded as runtimes round them, by hooks on layers."""

import torch
from torch import nn

from space.level import DENSE, parse_level
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
