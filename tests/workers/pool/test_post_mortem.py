"""What is told of a worker that died: the signal, its last words, its memory peak."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from space.errors import TrialError
from tests.workers.pool.deadly_tasks import Die
from tests.workers.pool.executor_contract import ends
from tests.workers.tiny_models import TinyKind, make_workspace
from workers.pool.post_mortem import evidence, is_node_death
from workers.pool.ray_pool import RayPool


@pytest.fixture(scope="module")
def pool(
    tiny: Callable[[TinyKind], Path], tmp_path_factory: pytest.TempPathFactory, ray_of_two: None
) -> Iterator[RayPool]:
    """Give one worker."""
    pool = RayPool(make_workspace(tiny("tied"), tmp_path_factory.mktemp("evidence")), 1)
    yield pool
    pool.close()


def died(pool: RayPool, task: Die) -> str:
    """Return the error of a task that kills its workers."""
    pool.submit(task)  # type: ignore[arg-type]
    (outcome,) = ends(pool, 1)
    assert isinstance(outcome.error, TrialError)
    return str(outcome.error)


def test_fatal_signal_is_named_with_the_last_words(pool: RayPool, tmp_path: Path) -> None:
    """Tried twice, not for ever; the stack shows where."""
    told = died(pool, Die(signal.SIGSEGV, str(tmp_path), 9))
    assert len(list(tmp_path.iterdir())) == 2
    assert told.startswith("Die lost its worker 2 times: ended by SIGSEGV, process ")
    assert "memory peak " in told
    assert "deadly_tasks.py" in told


def test_killed_worker_left_no_words(pool: RayPool, tmp_path: Path) -> None:
    """SIGKILL cannot be caught: its absence of words says so."""
    told = died(pool, Die(signal.SIGKILL, str(tmp_path), 9))
    assert re.search(
        r"killed from outside \(SIGKILL\) or ended without a word, process \d+, memory peak [\d.]+ MiB", told
    )


def test_task_that_killed_one_worker_has_a_second_chance(pool: RayPool, tmp_path: Path) -> None:
    """Its value comes from another process."""
    pool.submit(Die(signal.SIGKILL, str(tmp_path), 1))  # type: ignore[arg-type]
    (outcome,) = ends(pool, 1)
    assert (outcome.error, [outcome.value]) == (None, pool.process_ids())


def test_what_is_not_known_is_not_told(tmp_path: Path) -> None:
    """Without witness files, and for errors that name no process."""
    assert evidence(str(tmp_path), RuntimeError("lost\nand more")) == "lost"
    assert evidence(str(tmp_path), RuntimeError("raised in its creation task\nat\nOSError: why")) == "OSError: why"
    assert evidence(str(tmp_path), RuntimeError()) == "RuntimeError()"
    told = evidence(str(tmp_path), RuntimeError("died\n\tpid: 4194999\n"))
    assert told == "killed from outside (SIGKILL) or ended without a word, process 4194999; it left no words"


def test_death_of_a_node_is_no_task_s_fault() -> None:
    """Ray's words for it are known."""
    assert is_node_death(RuntimeError("The actor died because its node has died. Node Id: 12"))
    assert not is_node_death(RuntimeError("The actor is dead because its worker process has died."))
