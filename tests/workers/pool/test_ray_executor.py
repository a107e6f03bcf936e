"""Workers outlive the Ray that they stand on: a private one is started again, and a cluster's end is one sentence."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from space.errors import JobFailedError, TrialError, UsageError
from tests.chaos.world import two_nodes
from tests.workers.pool.executor_contract import ExecutorContract, ends, odd
from tests.workers.pool.odd_tasks import Misbehave, Sleep
from tests.workers.tiny_models import TinyKind, make_workspace
from workers.pool import ray_executor
from workers.pool.driver_process import DriverLostError, DriverProcess
from workers.pool.executor import Executor
from workers.pool.ray_executor import RayExecutor
from workers.tasks import Workspace


@pytest.fixture(scope="module")
def workspace(tiny: Callable[[TinyKind], Path], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Give a workspace on a tiny model."""
    return make_workspace(tiny("tied"), tmp_path_factory.mktemp("ray-executor"))


@pytest.fixture(scope="module")
def shared(workspace: Workspace) -> Iterator[RayExecutor]:
    """Give workers on a private Ray for all tests here; they must survive each of them."""
    executor = RayExecutor(workspace, 2)
    yield executor
    executor.close()


def family(pid: int) -> dict[int, str]:
    """Return the processes under one: id -> command line."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except OSError:
            continue
    found, left = {}, [pid]
    while left:
        for child in parents.get(left.pop(), []):
            left.append(child)
            found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def driver_of(executor: RayExecutor) -> int:
    """Return the process of an executor's driver."""
    assert executor._driver is not None
    return executor._driver._process.pid


def one_of(executor: RayExecutor, name: str) -> int:
    """Return a process of an executor's Ray."""
    return next(pid for pid, line in family(driver_of(executor)).items() if name in line.split(" ")[0])


class TestRayExecutor(ExecutorContract):
    """On a private Ray."""

    @pytest.fixture
    def executor(self, shared: RayExecutor) -> Executor:
        """Give the shared one."""
        return shared

    def test_nobody_else_can_reach_a_private_ray(self, shared: RayExecutor) -> None:
        """Every port of every process listens on loopback."""
        ours = {driver_of(shared), *family(driver_of(shared))}
        lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
        mine = [line.split() for line in lines if any(f"pid={pid}," in line for pid in ours)]
        assert len(mine) >= 4
        assert {parts[3].rpartition(":")[0] for parts in mine} <= {"127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"}

    def test_killed_raylet_costs_nothing(self, shared: RayExecutor, caplog: pytest.LogCaptureFixture) -> None:
        """A second Ray does what had not ended; every task ends once, under its handle."""
        victims = family(driver_of(shared))
        handles = [shared.submit(odd(Sleep(1.5))) for _ in range(3)]
        handles += shared.submit_all([odd(Misbehave("here")), odd(Sleep(0.1))], lane=1)
        time.sleep(1.0)
        os.kill(one_of(shared, "raylet"), signal.SIGKILL)
        found = ends(shared, 5, limit_seconds=400)
        assert [outcome.handle for outcome in found] == handles
        assert [type(outcome.error) for outcome in found] == [type(None)] * 3 + [TrialError, type(None)]
        assert "private Ray of this job is gone (its raylet (process " in caplog.text
        assert "was ended by SIGKILL); it is started again, once" in caplog.text
        deadline = time.monotonic() + 30
        while (alive := [v for v in victims if Path(f"/proc/{v}").exists()]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert alive == []

    def test_second_death_is_one_sentence(self, shared: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        """The head this time, and nobody waits for ever."""
        monkeypatch.setattr(ray_executor, "_MAX_DEATHS", shared._num_deaths)
        shared.submit(odd(Sleep(600)))
        os.kill(one_of(shared, "gcs_server"), signal.SIGKILL)
        with pytest.raises(JobFailedError, match=r"gone again \(its GCS server .* SIGKILL\): .* resume"):
            ends(shared, 1, limit_seconds=400)


def test_mistake_of_ours_is_no_death_of_ray() -> None:
    """It comes back with where it was, and the driver goes on."""
    driver = DriverProcess({})
    with pytest.raises(RuntimeError, match=r"(?s)ray_driver\.py.*AssertionError"):
        driver.ask(120, "wait", 1.0)  # nothing is open
    assert driver.ask(60, "is_there")
    driver.close()


def test_driver_that_dies_by_itself_is_told() -> None:
    """As Ray's library does where it is out of its depth: with its last line."""
    driver = DriverProcess({})
    os.kill(driver._process.pid, signal.SIGABRT)
    with pytest.raises(DriverLostError, match="its driver ended by signal 6"):
        driver.ask(60, "count_gpus")
    driver.close()


def test_driver_that_hangs_is_ended() -> None:
    """Whatever it is stuck in."""
    driver = DriverProcess({})
    os.kill(driver._process.pid, signal.SIGSTOP)
    with pytest.raises(DriverLostError, match="no answer for 1 s"):
        driver.ask(1, "count_gpus")
    driver.end()
    assert driver._process.poll() == -signal.SIGKILL


def test_cluster_that_dies_is_one_sentence(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The raylet that the driver is connected to: Ray itself would wait for ever."""
    with two_nodes() as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        executor = RayExecutor(workspace, 1)
        executor.submit(odd(Sleep(600)))
        assert list(executor.wait(1.0)) == []
        os.kill(cluster.head_node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        with pytest.raises(JobFailedError, match=r"RAY_ADDRESS=.* is gone \(the raylet .* does not answer.*resume"):
            ends(executor, 1, limit_seconds=400)
        executor.close()


@pytest.fixture
def mute() -> Iterator[str]:
    """Give an address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def refused() -> str:
    """Return an address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("address", ["refused", "mute", "nonsense", "ray://me:secret@127.0.0.1:9", "127.0.0.1:99999"])
def test_cluster_that_does_not_answer_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, mute: str, address: str
) -> None:
    """Within the time that a connection may take, in one sentence without a password."""
    monkeypatch.setattr(ray_executor, "_CONNECT_SECONDS", 9.0)
    monkeypatch.setenv("RAY_ADDRESS", {"refused": refused(), "mute": mute}.get(address, address))
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"No Ray answers at RAY_ADDRESS=.*: start the cluster") as caught:
        RayExecutor(workspace, 1)
    assert time.monotonic() - began < 40
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ray_that_cannot_start_is_one_sentence(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """After its chances: here its folder is a file."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    monkeypatch.setattr(ray_executor, "_START_CHANCES", 2)
    with pytest.raises(JobFailedError, match=r"No private Ray could be started \(.*\): look after .* resume the job"):
        RayExecutor(workspace, 1)
    assert caplog.text.count("could be started") == 1
