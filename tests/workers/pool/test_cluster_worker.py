"""A worker of a cluster makes what it needs in its own folder, to the same content."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from space.errors import LevelDamagedError
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind
from workers.levels.level_store import LevelStore
from workers.pool.cluster_worker import Provident
from workers.pool.node_caches import CarriedText
from workers.tasks import BuildLevels, Evaluate, PrepareText
from workers.text.tokens import TextRequest
from workers.worker import _HANDLERS, Worker


@pytest.fixture
def at(bench: Callable[[TinyKind], Bench]) -> Bench:
    """Give a bench with a folder that the worker under test does not see."""
    return bench("tied")


@pytest.fixture
def worker(at: Bench, tmp_path: Path) -> Iterator[Provident]:
    """Give a worker with an empty folder; text comes from the bench."""
    workspace = replace(at.workspace, cache_folder=str(tmp_path / "own"))
    worker = Provident(workspace, Path(at.tokens.path).read_bytes)
    yield worker
    worker.close()


def content_digest(path: Path) -> str:
    """Return the digest of a level's tensors and metadata; the order of metadata in a file is chance."""
    with safe_open(path, framework="numpy") as file:
        return str(file.metadata()["digest"])


def own_levels(at: Bench, folder: Path) -> LevelStore:
    """Return the store in a folder."""
    return replace(at.store, folder=folder / "levels")


def test_first_evaluation_makes_levels_and_answers(at: Bench, worker: Provident, tmp_path: Path) -> None:
    """Levels of every kind have the content that they have elsewhere, and so has the measurement."""
    plan = at.plan(EVERY_KIND)
    at.build(plan)
    task = Evaluate(at.tokens, plan, "held_out")
    here, there = worker.run(task), at.worker.run(task)
    assert (here.kl_divergence, here.perplexity) == (there.kl_divergence, there.perplexity)
    own = own_levels(at, tmp_path / "own")
    packed = [(name, level) for name, level in plan.levels if not level.is_dense]
    assert packed
    for name, level in packed:
        assert content_digest(own.path(name, level)) == content_digest(at.store.path(name, level))


def test_damaged_level_is_made_again(at: Bench, worker: Provident, tmp_path: Path) -> None:
    """Where it is; nobody else could."""
    task = Evaluate(at.tokens, at.plan(("b4-g32",)), "search")
    before = worker.run(task)
    path = own_levels(at, tmp_path / "own").path(*task.plan.levels[-1])
    content, digest = path.read_bytes(), content_digest(path)
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert worker.run(replace(task, plan=at.plan(("b8-gch",)))).kl_divergence < before.kl_divergence  # lets it go
    assert worker.run(task).kl_divergence == before.kl_divergence
    assert path.read_bytes() != content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    assert content_digest(path) == digest


def test_disk_that_damages_on_and_on_is_told(at: Bench, worker: Provident, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many repairs as a plan has levels."""
    count, task = 0, Evaluate(at.tokens, at.plan(("b4-g32",)), "search")

    def damaged(*_: object) -> None:
        nonlocal count
        count += 1
        raise LevelDamagedError("damaged", at.workspace.inventory.modules[0].name)

    monkeypatch.setitem(_HANDLERS, Evaluate, damaged)
    monkeypatch.setattr(Worker, "lacks", lambda *_: False)
    with pytest.raises(LevelDamagedError):
        worker.run(task)
    assert count == 1 + len(at.workspace.inventory.modules)


def test_levels_are_built_without_an_earlier_calibration(at: Bench, worker: Provident) -> None:
    """It was another node's task."""
    name, level = next((n, v) for n, v in at.plan(("b4-g32",)).levels if not v.is_dense)
    task = BuildLevels(at.tokens, name, ((level, 100),), (level,))
    assert worker.run(task) == at.worker.run(task)


def test_text_is_carried(at: Bench, worker: Provident, text_file: Path, tmp_path: Path) -> None:
    """It comes with its content, and is the same one in the controller's folder."""
    request = TextRequest(str(text_file), 32, 8, 6, 6, 0)
    found = worker.run(PrepareText(request))
    assert isinstance(found, CarriedText)
    tokens = found.unpacked(str(tmp_path / "controller"))
    assert Path(tokens.path).parent == tmp_path / "controller"
    for split in ("calibration", "search", "held_out"):
        assert tokens.load(split).equal(found.tokens.load(split))
