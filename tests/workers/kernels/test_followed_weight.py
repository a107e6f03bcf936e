"""Inputs of products with a followed weight are replaced, however the product is written."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from workers.kernels.followed_weight import put_followed, put_plain

_PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear, of one expert": lambda x, w: linear(x, w[1]),
    "matmul, turned": lambda x, w: x @ w[1].transpose(0, 1),
    "on the left": lambda x, w: (w[1] @ x.T).T,
    "addmm": lambda x, w: torch.addmm(torch.ones(()), x, w[1].t()),
    "all at once": lambda x, w: torch.bmm(x.expand(len(w), -1, -1), w.transpose(1, 2)),
    "all at once, added": lambda x, w: torch.baddbmm(torch.ones(()), x.expand(len(w), -1, -1), w.transpose(1, 2)),
}


@pytest.mark.parametrize("written", _PRODUCTS)
def test_inputs_are_replaced_and_nothing_else(written: str) -> None:
    """As if they had been given so; the plain weight is there again in the end, the same values."""
    product, inputs, owner = _PRODUCTS[written], torch.randn(5, 8), nn.Module()
    owner.stack = nn.Parameter(torch.randn(3, 4, 8), requires_grad=False)
    plain = owner.get_parameter("stack").clone()
    expected = product(inputs.round(), plain)
    put_followed(owner, "stack", owner.get_parameter("stack"), given=torch.round)
    assert torch.equal(product(inputs, owner.stack), expected)
    assert not torch.equal(product(inputs, plain), expected)
    put_plain(owner, "stack")
    assert torch.equal(product(inputs, owner.get_parameter("stack")), product(inputs, plain))
