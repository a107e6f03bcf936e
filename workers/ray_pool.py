"""Workers as long-lived Ray actors: one torch thread each on CPU, a GPU or a fraction of one where there is one.

A dead actor costs one retry of its task, which is not counted where its whole node died; a task past its deadline has
its actor killed, which is the only way to stop a running actor method. A dead actor is replaced by a new one, which
takes tasks once it is up: where nodes have gone, there may be no place for it for a while. With cluster.py the only
importer of Ray.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from space.errors import TrialError, UsageError
from workers.cluster import check_nodes, check_resources
from workers.evidence import bear_witness, evidence, is_node_death
from workers.executor import Executor, Handle, Outcome, run_task
from workers.tasks import Task, Workspace

DEADLINE_SECONDS = 1800.0
_MAX_ATTEMPTS = 2
_MAX_STARTS = 5  # of a new actor that dies before it is up; then a task meets its error
_MAX_LOST_NODES = 5  # of one task; more than that is no chance
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray asks for 15, and starves beside any other work
_WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class _Actor:
    """The actor's side: one worker, made before its first task."""

    def __init__(self, workspace: Workspace) -> None:
        import torch  # noqa: PLC0415 (in the actor's process only)

        from workers.worker import Worker  # noqa: PLC0415 (torch)

        torch.set_num_threads(1)
        bear_witness(workspace.cache_folder)
        self._worker = Worker(workspace)
        self._worker.warm_up()

    def run(self, number: int, task: Task) -> Outcome:
        return run_task(self._worker, Handle(number), task)

    def process_id(self) -> int:
        return os.getpid()


@dataclass(slots=True)
class _Flight:
    """A task on its way."""

    handle: Handle
    task: Task
    attempts: int
    lost_nodes: int = 0
    worker: int = -1
    deadline: float = field(default=float("inf"))


class RayPool:
    """Runs tasks on `num_workers` actors of a local Ray runtime, or of the cluster that RAY_ADDRESS names."""

    def __init__(self, workspace: Workspace, num_workers: int, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Start Ray where it is not running, and the actors.

        Raises:
            UsageError: the cluster has fewer CPUs than workers, or a node of it has other code or other files.

        """
        self._owns_ray = start_ray(num_workers)
        if os.environ.get("RAY_ADDRESS"):
            check_nodes(workspace)
        self.num_workers = num_workers
        self._deadline_seconds = deadline_seconds
        gpus = ray.cluster_resources().get("GPU", 0.0)
        actor_class: Any = ray.remote(_Actor)
        self._actor_class = actor_class.options(
            num_cpus=1,
            num_gpus=min(1.0, gpus / num_workers),
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": _WORKER_ENVIRONMENT},
        )
        self._workspace = workspace
        self._actors = [self._actor_class.remote(workspace) for _ in range(num_workers)]
        self._idle = deque(range(num_workers))
        self._queue: deque[_Flight] = deque()
        self._in_flight: dict[Any, _Flight] = {}
        self._starting: dict[Any, int] = {}
        self._num_starts = [0] * num_workers
        self._count = 0

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        handle = Handle(self._count)
        self._count += 1
        self._queue.append(_Flight(handle, task, attempts=0))
        self._dispatch()
        return handle

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Return what ended; waits for at least one end, at most `timeout_seconds`."""
        self._dispatch()
        if not self._in_flight and not (self._queue and self._starting):
            return []
        done, _ = ray.wait([*self._in_flight, *self._starting], num_returns=1, timeout=timeout_seconds)
        for ref in set(done) & set(self._starting):
            self._welcome(ref)
        outcomes = [outcome for ref in done if ref in self._in_flight and (outcome := self._collect(ref)) is not None]
        self._kill_overdue()
        self._dispatch()
        return outcomes

    def process_ids(self) -> list[int]:
        """Return the actors' process ids."""
        ids: list[int] = ray.get([actor.process_id.remote() for actor in self._actors], timeout=120)
        return ids

    def close(self) -> None:
        """Kill the actors, and Ray where this pool started it."""
        self._queue.clear()
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._in_flight, self._starting = [], {}, {}
        if self._owns_ray:
            ray.shutdown()

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            flight = self._queue.popleft()
            flight.worker = self._idle.popleft()
            flight.attempts += 1
            flight.deadline = time.monotonic() + self._deadline_seconds
            ref = self._actors[flight.worker].run.remote(flight.handle.number, flight.task)
            self._in_flight[ref] = flight

    def _collect(self, ref: Any) -> Outcome | None:
        """Return the end of a task, or None where it is queued again because its worker died."""
        flight = self._in_flight.pop(ref)
        try:
            outcome: Outcome = ray.get(ref, timeout=60)
        except (RayActorError, GetTimeoutError) as error:
            self._replace(flight.worker)
            flight.lost_nodes += is_node_death(error)
            if flight.attempts - min(flight.lost_nodes, _MAX_LOST_NODES) < _MAX_ATTEMPTS:
                self._queue.appendleft(flight)
                return None
            reason = evidence(self._workspace.cache_folder, error)
            name = type(flight.task).__name__
            return Outcome(flight.handle, error=TrialError(f"{name} lost its worker {flight.attempts} times: {reason}"))
        except RayError as error:
            outcome = Outcome(flight.handle, error=TrialError(f"Ray: {str(error).splitlines()[0]}"))
        self._idle.append(flight.worker)
        return outcome

    def _welcome(self, ref: Any) -> None:
        """Give tasks to a new actor that is up; one that died before is replaced, a few times in a row."""
        worker = self._starting.pop(ref)
        self._num_starts[worker] += 1
        try:
            ray.get(ref, timeout=60)
        except RayError:
            if self._num_starts[worker] < _MAX_STARTS:
                self._replace(worker)
                return
        self._num_starts[worker] = 0
        self._idle.append(worker)

    def _replace(self, worker: int) -> None:
        ray.kill(self._actors[worker])  # it may live and only be out of reach
        self._actors[worker] = self._actor_class.remote(self._workspace)
        self._starting[self._actors[worker].process_id.remote()] = worker

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for flight in self._in_flight.values():
            if now > flight.deadline:
                flight.deadline = float("inf")
                ray.kill(self._actors[flight.worker])


def start_ray(num_workers: int) -> bool:
    """Connect to Ray, starting a private local runtime unless RAY_ADDRESS names one; tell whether one was started.

    Raises:
        UsageError: there are fewer CPUs than workers.

    """
    if ray.is_initialized():
        started = False
    else:
        address = os.environ.get("RAY_ADDRESS")
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "tightfit"}
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(num_cpus=num_workers, include_dashboard=False, object_store_memory=256 * 2**20, **quiet)
            _protect_token()
        started = True
    try:
        check_resources(num_workers)
    except UsageError:
        if started:
            ray.shutdown()
        raise
    return started


def _protect_token() -> None:
    """Make Ray's token readable by its owner only: Ray writes it with open permissions."""
    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        token.chmod(0o600)


_: type[Executor] = RayPool
