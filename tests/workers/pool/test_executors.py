"""Both executors keep the contract, and the Ray one survives its workers."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from space.errors import TrialError, UsageError
from tests.workers.pool.executor_contract import ExecutorContract, ends, odd
from tests.workers.pool.odd_tasks import Sleep
from tests.workers.tiny_models import TinyKind, make_workspace
from workers.pool.executor import Executor, InlineExecutor
from workers.pool.ray_pool import RayPool
from workers.tasks import Workspace


@pytest.fixture(scope="session")
def workspace(tiny: Callable[[TinyKind], Path], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Give a workspace on a tiny model."""
    return make_workspace(tiny("tied"), tmp_path_factory.mktemp("executors"))


class TestInlineExecutor(ExecutorContract):
    """In this process."""

    @pytest.fixture
    def executor(self, workspace: Workspace) -> Iterator[Executor]:
        """Give a new executor."""
        executor = InlineExecutor(workspace)
        yield executor
        executor.close()

    def test_close_drops_what_is_queued(self, executor: Executor) -> None:
        """Nothing runs after the end."""
        executor.submit(odd(Sleep(60)))
        executor.close()
        assert list(executor.wait(0)) == []


@pytest.fixture(scope="module")
def pool(workspace: Workspace, ray_of_two: None) -> Iterator[RayPool]:
    """Give two workers for all tests here; they must survive each of them."""
    pool = RayPool(workspace, 2)
    yield pool
    pool.close()


class TestRayPool(ExecutorContract):
    """On Ray's workers."""

    @pytest.fixture
    def executor(self, pool: RayPool) -> Executor:
        """Give the pool."""
        return pool

    def test_both_workers_work(self, pool: RayPool) -> None:
        """Two tasks run at the same time in two processes that are not this one."""
        for _ in range(4):
            pool.submit(odd(Sleep(0.3)))
        used = {outcome.value for outcome in ends(pool, 4)}
        assert used == set(pool.process_ids())
        assert len(used) == 2
        assert os.getpid() not in used

    def test_dead_worker_costs_one_retry(self, pool: RayPool) -> None:
        """A worker killed amid its task is replaced; its task ends, and so do the others."""
        victims = pool.process_ids()
        for _ in range(3):
            pool.submit(odd(Sleep(2)))
        time.sleep(0.7)
        os.kill(victims[0], signal.SIGKILL)
        found = ends(pool, 3)
        assert [outcome.error for outcome in found] == [None] * 3
        assert victims[0] not in pool.process_ids()

    def test_task_past_its_deadline_is_stopped(self, pool: RayPool, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stuck task ends with an error after two attempts; the workers go on."""
        pool.process_ids()  # both are up
        monkeypatch.setattr(pool, "_deadline_seconds", 1.0)
        pool.submit(odd(Sleep(600)))
        (stuck,) = ends(pool, 1)
        assert isinstance(stuck.error, TrialError)
        assert "Sleep lost its worker 2 times: it was stopped after 1 s" in str(stuck.error)
        monkeypatch.setattr(pool, "_deadline_seconds", 60.0)
        pool.submit(odd(Sleep(0)))
        assert ends(pool, 1)[0].error is None

    def test_too_many_workers_are_refused(self, pool: RayPool, workspace: Workspace) -> None:
        """The message says what exists, and the runtime that was there stays."""
        with pytest.raises(UsageError, match="--workers 3: Ray has 2 CPUs"):
            RayPool(workspace, 3)
        assert ray.is_initialized()

    def test_close_leaves_no_workers(self, pool: RayPool) -> None:
        """The processes end, and what was queued is dropped; runs last, since the pool is used up."""
        ids = pool.process_ids()
        pool.submit(odd(Sleep(600)))
        pool.close()
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{i}").exists() for i in ids) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [i for i in ids if Path(f"/proc/{i}").exists()] == []
        assert list(pool.wait(0.1)) == []
