"""A kernel that cuts its input into patches tells the inputs of its products, and lets their output be replaced."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workers.run.watched_weights import watching


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        (nn.Conv2d(3, 5, (4, 2), stride=(4, 2)), (2, 3, 9, 6)),  # a row of values lies in no patch
        (nn.Conv3d(3, 5, (2, 4, 4), stride=(2, 4, 4), bias=False), (7, 3, 2, 4, 4)),  # one patch a row
    ],
    ids=["images", "frames"],
)
@torch.no_grad()
def test_patches_times_the_matrix_is_what_comes_out(kernel: Any, shape: tuple[int, ...]) -> None:
    """As of a linear layer; what is given back goes on in the output's place."""
    inputs, matrix, seen = torch.randn(shape), kernel.weight.detach().flatten(1), list[Tensor]()

    def told(patches: Tensor, output: Tensor, expert: int | None) -> Tensor:
        assert expert is None
        product = patches @ matrix.T
        seen.append(product if kernel.bias is None else product + kernel.bias)
        assert torch.allclose(seen[0], output, atol=1e-5)
        return 2 * output

    expected = kernel(inputs)
    with watching({"k": (kernel, "weight")}, lambda _: told):
        found = kernel(inputs)
    assert torch.equal(found, 2 * expected)
    assert seen[0].shape == expected.movedim(1, -1).shape
