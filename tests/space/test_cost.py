"""Cost: the bytes of tensors as the container's docstring lists them, counted one by one."""

from dataclasses import replace
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.codings.coding import BITS
from space.cost import PlanBytes, cache_layers, key_value_bytes, module_bytes, plan_bytes
from space.inventory import Inventory, ModuleInfo
from space.level import DENSE, Level
from space.plan import Plan
from tests.space.values import inventory, module, semi_structured, unstructured

Tensors = list[tuple[tuple[int, ...], int]]  # (shape, bytes per item)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 400))


def _bytes(tensors: Tensors) -> int:
    return sum(prod(shape) * item for shape, item in tensors)


def _packed_bytes_of_bits(num_bits: int) -> int:
    return len(range(0, num_bits, 8))


def _packed(rows: int, columns: int, level: Level) -> Tensors:
    """Return the tensors of the `packed` container; what is kept is counted column by column."""
    assert level.bits is not None
    if level.pattern == "2:4":
        kept, mask_bits = columns // 2, 3 * (columns // 4)
    else:
        blocks = [range(columns)[start : start + 128] for start in range(0, columns, 128)]
        kept, mask_bits = sum(len(b) - int(len(b) * level.sparsity) for b in blocks), columns
    groups = len({column // (level.group_size or columns) for column in range(columns)})
    tensors: Tensors = [((rows, _packed_bytes_of_bits(kept * level.bits)), 1), ((rows, groups), 2)]
    if level.sparsity:
        tensors.append(((rows, _packed_bytes_of_bits(mask_bits)), 1))
    if level.rank:
        tensors += [((rows, level.rank), 1), ((level.rank, columns), 1), ((level.rank,), 4)]
    return tensors


@given(shapes, unstructured)
def test_packed_bytes(shape: tuple[int, int], level: Level) -> None:
    """Every stored byte is counted, whatever the shape."""
    assert module_bytes(module("m", *shape), level) == _bytes(_packed(*shape, level))


@given(st.integers(1, 40), st.integers(1, 100).map(lambda quarter: 4 * quarter), semi_structured)
def test_packed_bytes_of_two_in_four(rows: int, columns: int, level: Level) -> None:
    """The 2:4 mask takes three bits per four columns."""
    assert module_bytes(module("m", rows, columns), level) == _bytes(_packed(rows, columns, level))


@given(shapes, st.sampled_from(BITS), st.none() | st.integers(1, 128))
def test_compressed_tensors_bytes(shape: tuple[int, int], bits: int, group_size: int | None) -> None:
    """Rows of int32 words, float16 scales and an int64 pair."""
    rows, columns = shape
    words = len(range(0, columns * bits, 32))
    groups = len(range(0, columns, group_size or columns))
    tensors: Tensors = [((rows, words), 4), ((rows, groups), 2), ((2,), 8)]
    assert module_bytes(module("m", *shape), Level(bits, group_size), "compressed-tensors") == _bytes(tensors)


@pytest.mark.parametrize("target", ["packed", "compressed-tensors"])
def test_dense_module_keeps_its_bytes(target: str) -> None:
    """A dense module takes what it takes in the checkpoint."""
    dense: ModuleInfo = module("m", 3, 5)
    assert module_bytes(dense, DENSE, "packed" if target == "packed" else "compressed-tensors") == 30


def test_plan_bytes_add_up() -> None:
    """Modules, other tensors and the cache are told apart; only the sum counts against the budget."""
    model = inventory()
    plan = Plan.of({m.name: DENSE for m in model.modules})
    cost = plan_bytes(model, plan, context=100, batch=3)
    dense, embedding = model.dense_bytes - model.others_bytes, 50 * 64 * 2
    assert cost == PlanBytes(0, 0, 0, 0, dense, 64 * 4 + 14, 64 * 2 * 100 * 3, embedding, 0)
    assert cost.weight_bytes == model.dense_bytes
    assert cost.size_bytes == model.dense_bytes + 38_400


def test_cache_bytes() -> None:
    """No context, no cache; a model that does not tell its shape has none either."""
    model = inventory()
    assert key_value_bytes(model, 0, 8) == 0
    assert key_value_bytes(model, 10, 2) == 2 * key_value_bytes(model, 10, 1) == 2 * key_value_bytes(model, 5, 2)
    assert key_value_bytes(Inventory(model.modules, model.others, None, 2), 10, 2) == 0


def test_every_part_of_a_module_is_counted_once() -> None:
    """Values, scales, masks and factors of every target; a head outside the blocks is told apart."""
    model = inventory()
    model = Inventory((*model.modules, module("head", 50, 64)), model.others, model.key_value, 2)
    level = Level(4, 32, 0.5, rank=3)
    found = plan_bytes(model, Plan.of({m.name: level if m.kind == "linear" else DENSE for m in model.modules}))
    linear = [m for m in model.modules if m.kind == "linear"]
    assert found.values == sum(m.out_features * 32 // 2 for m in linear)
    assert found.scales == sum(m.out_features * 2 * 2 for m in linear)
    assert found.masks == sum(m.out_features * 8 for m in linear)
    assert found.factors == sum(3 * (m.out_features + 64 + 4) for m in linear)
    assert (found.embeddings, found.heads) == (50 * 64 * 2, module_bytes(linear[-1], level))
    assert found.weight_bytes == found.embeddings + sum(module_bytes(m, level) for m in linear) + found.others
    plain = Plan.of({m.name: Level(4, 32) if m.kind == "linear" else DENSE for m in model.modules})
    for target in ("packed", "compressed-tensors", "vllm"):
        assert plan_bytes(model, plain, target).scales == sum(m.out_features * 2 * 2 for m in linear)


def test_the_cache_is_the_runtimes() -> None:
    """llama.cpp's is float16 and ONNX Runtime's float32, whatever the model computes in."""
    model = inventory()
    wide = replace(model, key_value=tuple(replace(c, token_bytes=128, value_bytes=4) for c in model.key_value or ()))
    sizes = {t: key_value_bytes(wide, 10, 1, t) for t in ("packed", "vllm", "gguf", "onnx")}
    assert sizes == {"packed": 1280, "vllm": 1280, "gguf": 640, "onnx": 1280}
    assert key_value_bytes(model, 10, 1, "onnx") == 2 * key_value_bytes(model, 10, 1)
    assert cache_layers(Inventory(model.modules, model.others, None, 2), "gguf") is None
