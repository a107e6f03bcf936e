"""A small installation in which anything may be killed: two Ray nodes, a database, MLflow, and controllers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.open_store import open_store
from storage.records import JobState
from storage.tracking.mlflow_server import find_server, start_server, stop_server
from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
LEASE_SECONDS = 10.0
_BETWEEN_ACTORS_SECONDS = 8.0  # a task that loses two workers in a row has failed, by right


@dataclass
class Installation:
    """Where the controllers of one job run.

    Attributes:
        home: their folder.
        database_url: their database.
        processes: the controllers.

    """

    home: Path
    database_url: str
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)


class World:
    """Everything that can die."""

    def __init__(self, folder: Path, cluster: Any, postgres: Postgres | None, *, with_mlflow: bool) -> None:
        """Take what runs; the second node and MLflow are started here."""
        self._folder, self._cluster, self._postgres = folder, cluster, postgres
        self._node = cluster.add_node(**NODE)
        self._mlflow = folder / "mlflow-home" if with_mlflow else None
        self._last_actor = 0.0
        if self._mlflow is not None:
            start_server(self._mlflow, _free_port())

    def kinds(self, at: Installation) -> list[str]:
        """Return what can be killed in an installation."""
        found = ["controller", "actor", "raylet"]
        found += ["postgres"] if self._postgres and at.database_url.startswith("postgresql") else []
        return found + (["mlflow"] if self._mlflow else [])

    def keep_controllers(self, at: Installation, count: int) -> None:
        """Start controllers until so many run."""
        at.processes = [process for process in at.processes if process.poll() is None]
        while len(at.processes) < count:
            at.processes.append(self._start_controller(at))

    def kill(self, kind: str, at: Installation) -> bool:
        """Kill one thing and bring back what nobody else would; return whether there was one."""
        killers: dict[str, Callable[[Installation], bool]] = {
            "controller": self._kill_controller,
            "actor": self._kill_actor,
            "raylet": self._kill_raylet,
            "postgres": self._kill_postgres,
            "mlflow": self._kill_mlflow,
        }
        return killers[kind](at)

    def close(self) -> None:
        """Stop the servers."""
        if self._mlflow is not None:
            stop_server(self._mlflow)

    def _start_controller(self, at: Installation) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "TIGHTFIT_HOME": str(at.home),
            "TIGHTFIT_DATABASE_URL": at.database_url,
            "TIGHTFIT_LEASE_SECONDS": str(LEASE_SECONDS),
            "RAY_ADDRESS": self._cluster.address,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        if self._mlflow is not None and (server := find_server(self._mlflow)) is not None:
            environment["MLFLOW_TRACKING_URI"] = server.url
        command = [sys.executable, "-m", "tightfit", "work"]
        with (self._folder / "controllers.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def _kill_controller(self, at: Installation) -> bool:
        """Kill the one that holds the job, if it is known, or else any."""
        holders = []
        with suppress(Exception):  # the database may be starting
            store = open_store(at.database_url)
            holders = [str(job.holder).split(":")[1] for job in store.list_jobs([JobState.RUNNING]) if job.holder]
            store.close()
        alive = [process for process in at.processes if process.poll() is None]
        for process in sorted(alive, key=lambda p: str(p.pid) not in holders):
            process.kill()
            process.wait(60)
            return True
        return False

    def _kill_actor(self, _: Installation) -> bool:
        if time.monotonic() < self._last_actor + _BETWEEN_ACTORS_SECONDS:
            return False
        raylets = {pid for node in self._cluster.list_all_nodes() for pid in _raylets(node)}
        for pid in sorted(_actors(raylets)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._last_actor = time.monotonic()
                return True
        return False

    def _kill_raylet(self, _: Installation) -> bool:
        """Kill the second node's, and give the cluster another node."""
        if time.monotonic() < self._last_actor + _BETWEEN_ACTORS_SECONDS:
            return False
        for pid in _raylets(self._node):
            os.kill(pid, signal.SIGKILL)
        self._last_actor = time.monotonic()
        self._cluster.remove_node(self._node, allow_graceful=False)
        self._node = self._cluster.add_node(**NODE)
        return True

    def _kill_postgres(self, _: Installation) -> bool:
        assert self._postgres is not None
        self._postgres.kill()
        time.sleep(1.0)
        self._postgres.start()
        return True

    def _kill_mlflow(self, _: Installation) -> bool:
        assert self._mlflow is not None
        server = find_server(self._mlflow)
        if server is None:
            return False
        os.killpg(server.pid, signal.SIGKILL)
        time.sleep(0.5)
        start_server(self._mlflow, int(server.url.rpartition(":")[2]), wait=False)
        return True


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Give a Ray cluster with its head; a world adds the second node."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def stop(at: Installation) -> None:
    """End the controllers of an installation."""
    for process in at.processes:
        process.kill()
        process.wait(60)


def _raylets(node: Any) -> list[int]:
    return [info.process.pid for info in node.all_processes.get("raylet", []) if info.process.poll() is None]


def _actors(parents: set[int]) -> list[int]:
    """Return the processes of our actors under some raylets."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            name = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if name.startswith(b"ray::_Actor") and parent in parents:
                found.append(int(folder.name))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
