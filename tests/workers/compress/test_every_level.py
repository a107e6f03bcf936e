"""A level from weight to loaded module: every kind and every composition, in any shape, by the bytes and the bit."""

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from space.codings.float4_coding import FLOAT4_GROUPS
from space.cost import module_bytes
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level, parse_level
from space.targets.target_table import is_legal
from tests.workers.weights import correlated_hessian, random_weight
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics
from workers.kernels.inputs.float4_inputs import nearest_float4
from workers.kernels.unpack import unpack
from workers.levels.level_store import LevelStore
from workers.runtime.packed_modules import install_packed

KINDS = tuple(product(("integer", "trellis"), (False, True)))
ZEROS = ((0.0, "unstructured"), (0.5, "unstructured"), (0.3, "unstructured"), (0.5, "2:4"))
levels = st.builds(
    lambda bits, group, kind, zeros, rank: Level(bits, group, zeros[0], zeros[1], rank, kind[0], kind[1]),
    st.integers(2, 8),
    st.sampled_from((None, 5, 16, 32, 64)),
    st.sampled_from(KINDS),
    st.sampled_from(ZEROS),
    st.sampled_from((0, 0, 1, 3)),
)


def _info(kind: str, rows: int, columns: int) -> ModuleInfo:
    return ModuleInfo("part", kind, TensorInfo("part.weight", (rows, columns), "BF16"), 0)  # type: ignore[arg-type]


def _stored(level: Level, rows: int, columns: int, folder: str, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Build and store a level; return the tensors of its file, and the weight that a search measures."""
    (built,) = build_levels(
        random_weight(rows, columns, seed), Statistics(correlated_hessian(columns, seed + 1)), [level]
    )
    store = LevelStore(Path(folder), "model", "text")
    store.write("part", built)
    return load_file(store.path("part", level)), store.weight("part", level, torch.Size((rows, columns)))


def _loaded(module: nn.Module, level: Level, tensors: dict[str, Tensor]) -> nn.Module:
    """Return a packed module in the place of a dense one, as loading a checkpoint does it."""
    model = nn.ModuleDict({"part": module})
    install_packed(model, {"part": str(level)}, {})
    model.load_state_dict({f"part.{name}": tensor for name, tensor in tensors.items()}, strict=True)
    return model["part"]


def _check(level: Level, kind: str, rows: int, columns: int, seed: int) -> None:
    with TemporaryDirectory() as folder:
        tensors, searched = _stored(level, rows, columns, folder, seed)
    assert sum(t.nbytes for t in tensors.values()) == module_bytes(_info(kind, rows, columns), level)
    generator = torch.Generator().manual_seed(seed)
    if kind == "linear":
        module = _loaded(nn.Linear(columns, rows, bias=False), level, tensors)
        hidden = torch.randn(2, 3, columns, generator=generator)
        found, expected = module(hidden), nn.functional.linear(hidden, searched)
    else:
        module = _loaded(nn.Embedding(rows, columns), level, tensors)
        ids = torch.randint(0, rows, (2, 9), generator=generator)
        found, expected = module(ids), nn.functional.embedding(ids, searched)
    assert found.isfinite().all()
    assert float((found - expected).abs().max()) == 0.0


@settings(max_examples=60, deadline=None, database=None)
@given(
    level=levels, kind=st.sampled_from(("linear", "linear", "embedding")), rows=st.integers(4, 40),
    columns=st.integers(4, 100), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_level_of_any_shape_is_loaded_as_it_was_searched(
    level: Level, kind: str, rows: int, columns: int, seed: int
) -> None:
    """Stored bytes are the predicted ones, and a loaded module computes what the searched weight does, to the bit."""
    if is_legal(_info(kind, rows, columns), level, "packed"):
        _check(level, kind, rows, columns, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_every_composition_is_loaded_as_it_was_searched(kind: tuple[str, bool]) -> None:
    """Each coding and rotation with each way of pruning, with and without groups and a low rank; 33 rows of 20."""
    for group, zeros, rank in product((None, 16), ZEROS, (0, 2)):
        _check(Level(3, group, *zeros, rank, *kind), "linear", 33, 20, 7)


def test_floats_of_eight_bits_are_loaded_as_they_were_searched() -> None:
    """Whole, pruned, turned and corrected; of less error than half a step of the mantissa, and of zeros zeros."""
    for rotated, zeros, rank in product((False, True), ZEROS, (0, 2)):
        _check(Level(8, None, *zeros, rank, "float8", rotated), "linear", 33, 20, 7)
    weight = random_weight(16, 96, 3) * 10.0 ** torch.arange(-8, 8)[:, None].clamp(-6, 5).float()
    weight[5] = 0
    level = Level(8, None, coding="float8")
    (built,) = build_levels(weight, Statistics(torch.eye(96)), [level])
    found = unpack(built.tensors, level, 96)
    assert float(found[5].abs().max()) == 0
    normal = weight.abs() > weight.abs().amax(1, keepdim=True) / 2**10
    assert float(((found - weight).abs() / weight.abs())[normal].max()) <= 2**-4


@pytest.mark.parametrize("text", ["nvfp4", "mxfp4"])
def test_floats_of_four_bits_are_loaded_as_they_were_searched(text: str) -> None:
    """Groups of zeros too, and of values that no scale reaches; searched scales lose less than usual ones."""
    level = parse_level(text)
    assert not is_legal(_info("linear", 33, 72), level, "packed")
    _check(level, "linear", 33, 96, 7)
    _check(level, "embedding", 33, 96, 7)
    weight = random_weight(64, 256, 3) * 0.05
    weight[0], weight[1] = 0, 1e-9
    weight[2] *= 1000
    (built,) = build_levels(weight, Statistics(torch.eye(256)), [level])
    found = unpack(built.tensors, level, 256)
    assert float(found[0].abs().max()) == 0
    assert float(found[1].abs().max()) <= 1e-6
    assert found.isfinite().all()
    groups, rows = weight[3:].view(61, -1, FLOAT4_GROUPS[text]), found[3:]
    usual = groups.abs().amax(-1, keepdim=True) / 6
    scale = usual.log2().ceil().exp2() if text == "mxfp4" else usual
    plain = nearest_float4(groups / scale).mul(scale).view_as(rows)
    assert float((rows - weight[3:]).square().sum()) < 0.9 * float((plain - weight[3:]).square().sum())


@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_tiles_of_exl3_are_loaded_as_they_were_searched(kind: str) -> None:
    """Widths of whole blocks of 128 alone can be stored; an embedding's rows are read a few at a time."""
    level = Level(5, coding="exl3")
    assert not is_legal(_info(kind, 130, 128), level, "packed")
    assert not is_legal(_info(kind, 128, 200), level, "packed")
    assert is_legal(_info(kind, 128, 128), level, "packed")
    _check(level, kind, 128, 128, 3)
