"""A level file that is not what was written is found, named and deleted, so that it is built again."""

import pickle
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from space.errors import LevelDamagedError
from space.level import Level
from tests.workers.tiny_models import Bench, TinyKind
from workers.levels.level_store import LevelStore

LEVEL = Level(4, 32)
Benches = Callable[[TinyKind], Bench]


@pytest.fixture
def stored(bench: Benches) -> tuple[LevelStore, str]:
    """Give a store and a module with a level that is whole."""
    at = bench("tied")
    name = at.workspace.inventory.modules[1].name
    at.plan(("b4-g32",))
    at.store.tensors(name, LEVEL)
    return at.store, name


def test_every_flipped_bit_is_found(stored: tuple[LevelStore, str]) -> None:
    """Anywhere in the file: header, metadata or tensors; nothing that differs is ever returned."""
    store, name = stored
    path = store.path(name, LEVEL)
    whole, expected = path.read_bytes(), store.tensors(name, LEVEL)
    num_found, rng = 0, random.Random(0)
    positions = [*range(8, 200, 7), *(rng.randrange(len(whole)) for _ in range(60))]
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        found = _read(store, name)
        if isinstance(found, LevelDamagedError):
            told = f"Level b4-g32 of {name} was damaged and is deleted ({path})"
            assert (found.module_name, told in str(found), path.exists()) == (name, True, False)
            num_found += 1
        else:  # a space of the header became another one, say
            assert found.keys() == expected.keys()
            assert all(tensor.equal(expected[key]) for key, tensor in found.items())
    path.write_bytes(whole)
    assert num_found > 0.9 * len(positions)


def _read(store: LevelStore, name: str) -> "dict[str, Tensor] | LevelDamagedError":
    try:
        return store.tensors(name, LEVEL)
    except LevelDamagedError as error:
        return error


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_level_is_found(stored: tuple[LevelStore, str], size: int) -> None:
    """At any length."""
    store, name = stored
    path = store.path(name, LEVEL)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with pytest.raises(LevelDamagedError, match="was damaged and is deleted"):
        store.tensors(name, LEVEL)
    with pytest.raises(LevelDamagedError, match="is not there"):
        store.tensors(name, LEVEL)
    path.write_bytes(whole)
    assert store.tensors(name, LEVEL)


def test_error_comes_whole_out_of_another_process() -> None:
    """A worker's error crosses the wire."""
    error = pickle.loads(pickle.dumps(LevelDamagedError("what", "module")))  # noqa: S301 (our own)
    assert (str(error), error.module_name) == ("what", "module")


@pytest.mark.parametrize("text", ["b3-g32", "b4-gch-t-h", "b3-gch-s0.5-r4"])
def test_a_large_weight_is_unpacked_in_parts(bench: Benches, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows at a time, to the same bits; not where a low rank is added, whose bits would differ."""
    at = bench("tied")
    plan = at.plan([text])
    for module in [m for m in at.workspace.inventory.modules if not plan[m.name].is_dense]:
        shape = torch.Size(module.weight.shape)
        monkeypatch.setattr("workers.levels.level_store._WHOLE_VALUES", 2**24)
        whole = at.store.weight(module.name, plan[module.name], shape)
        monkeypatch.setattr("workers.levels.level_store._WHOLE_VALUES", 7 * shape[1])
        assert at.store.weight(module.name, plan[module.name], shape).equal(whole)
