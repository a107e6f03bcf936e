"""Compiled loops against the plain path: every coding, one vector, few and many, on one thread and on two."""

import copy

import pytest
import torch
from torch import Tensor, nn

from space.level import parse_level
from tests.workers.weights import random_weight
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics
from workers.kernels.fast import fast_product
from workers.runtime.fast_check import fast_strays
from workers.runtime.packed_modules import PackedEmbedding, PackedLinear, TiedHead, use_fast_kernels
from workers.runtime.packed_values import packed_shapes

LEVELS = ("b3-g32", "b4-g32", "b5-gch", "b3-gch-r4", "b4-gch-h", "b3-gch-t-h", "b4-gch-t-h-r2")
RARER = ("b2-g16", "b6-g16", "b7-gch", "b8-g32", "b2-gch-t", "b5-g32-t", "b6-gch-t-h", "b7-gch-t", "b8-gch-t-h")
ROWS, COLUMNS = 40, 96


def _linear(text: str) -> PackedLinear:
    level = parse_level(text)
    (built,) = build_levels(random_weight(ROWS, COLUMNS), Statistics(torch.eye(COLUMNS)), [level])
    module = PackedLinear(level, ROWS, COLUMNS, torch.float32, nn.Parameter(torch.randn(ROWS)))
    module.load_state_dict(built.tensors, strict=False)
    return module


def _tiles(text: str) -> PackedLinear:
    """Return a module of any words: all of them stand for something."""
    level, generator = parse_level(text), torch.Generator().manual_seed(2)
    module = PackedLinear(level, 256, 128, torch.float32)
    for name, (shape, dtype) in packed_shapes(level, 256, 128).items():
        words = torch.randint(-(2**15), 2**15, shape, generator=generator)
        module.get_buffer(name).copy_(words.to(dtype) if name == "trellis" else words / 2**15)
    return module


def _hidden(count: int, columns: int) -> Tensor:
    return torch.randn(1, count, columns, generator=torch.Generator().manual_seed(count))


def _check(module: PackedLinear) -> None:
    with torch.no_grad():
        for count in (1, 3, 21):
            hidden = _hidden(count, module.columns)
            kept = hidden.clone()
            module.is_fast = False
            plain = module(hidden)
            module.is_fast = True
            found = module(hidden)
            assert torch.equal(hidden, kept)
            assert found.shape == plain.shape
            assert module._known[1] is not None
            assert (found - plain).abs().max() < 1e-5 * plain.abs().max()


@pytest.mark.parametrize("text", [*LEVELS, *(pytest.param(text, marks=pytest.mark.slow) for text in RARER)])
def test_symbols_are_multiplied_as_unpacked_ones_are(text: str) -> None:
    """Groups, rotations and corrections included; the inputs are left as they are."""
    _check(_linear(text))


@pytest.mark.parametrize("bits", [3, 4, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (1, 2, 5, 6, 7, 8))])
def test_tiles_are_multiplied_as_unpacked_ones_are(bits: int) -> None:
    """Every bit-width of EXL3."""
    _check(_tiles(f"exl3-{bits}"))


@pytest.mark.parametrize("text", ["b3-g32", "b4-gch-t-h", "exl3-3"])
def test_threads_share_a_weight(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads give the bits of one."""
    module, hidden = (_tiles if text.startswith("exl3") else _linear)(text), None
    module.is_fast, hidden = True, _hidden(1, module.columns)
    with torch.no_grad():
        alone, threads = module(hidden), torch.get_num_threads()
        monkeypatch.setattr(fast_product, "_PER_THREAD", 1)
        torch.set_num_threads(2)
        try:
            assert torch.equal(module(hidden), alone)
        finally:
            torch.set_num_threads(threads)


def test_the_plain_path_is_taken_where_loops_cannot_be() -> None:
    """For zeros by a mask, and for gradients; a copy and a converted module find their own loops."""
    hidden = _hidden(2, COLUMNS)
    for text, is_grad in (("b4-g32-s0.5", False), ("b4-g32", True)):
        module = _linear(text)
        module.is_fast = True
        with torch.set_grad_enabled(is_grad):
            found = module(hidden.clone().requires_grad_(is_grad))
        assert torch.equal(found, nn.functional.linear(hidden, module.dense_weight(), module.bias))
    module = _linear("b4-g32")
    module.is_fast = True
    with torch.no_grad():
        expected = module(hidden)
        other = copy.deepcopy(module)
        other.load_state_dict({**module.state_dict(), "scale": module.get_buffer("scale") * 2})
        assert torch.allclose(other(hidden) - module.bias, 2 * (expected - module.bias), atol=1e-5)
        assert module.to(torch.bfloat16)(hidden.bfloat16()).dtype is torch.bfloat16


def test_a_tied_head_is_fast_and_strays_are_told() -> None:
    """A model of an embedding and its head: fast logits differ a little, and the check says by how much."""
    level = parse_level("b4-g32")
    (built,) = build_levels(random_weight(ROWS, COLUMNS), Statistics(torch.eye(COLUMNS)), [level])
    embedding = PackedEmbedding(level, ROWS, COLUMNS, torch.float32)
    embedding.load_state_dict(built.tensors)
    model = nn.Sequential(embedding, TiedHead(embedding))
    strays = fast_strays(model, model, torch.arange(12).view(2, 6))
    assert strays is not None
    assert 0 < strays[0] < 1e-5
    assert abs(strays[1]) < 1e-9
    assert not embedding.is_fast
    use_fast_kernels(model, fast=True)
    assert embedding.is_fast
    assert fast_strays(nn.Linear(2, 2), nn.Linear(2, 2), torch.zeros(1, 2)) is None
