"""Workers as long-lived Ray actors: one torch thread each on CPU, a GPU or a fraction of one where there is one.

Each actor has a lane: the batch that was sent to it, so that it waits for the controller once per batch and not once
per task; what was not sent yet goes to whoever is free first. A dead actor costs one retry of the task that it was
doing, which is not counted where its whole node died; the others of its lane are not blamed. A task past its deadline
has its actor killed, which is the only way to stop a running actor method. A dead actor is replaced by a new one, which
takes tasks once it is up: where nodes have gone, there may be no place for it for a while. With cluster.py the only
importer of Ray.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from space.errors import TrialError
from workers.devices import gpu_share
from workers.pool.batch_queue import WaitingBatches
from workers.pool.cluster import check_nodes, count_gpus, start_ray
from workers.pool.executor import Executor, Handle, Outcome, run_task
from workers.pool.node_caches import CarriedText, cluster_address, folder_here, leave_marker
from workers.pool.post_mortem import bear_witness, evidence, is_node_death
from workers.tasks import Task, TextlessTask, Workspace

DEADLINE_SECONDS = 1800.0
_SECONDS_PER_BYTE = 1 / 2e6  # more of it for large models: one that is streamed reads its weights for every batch
_MAX_ATTEMPTS = 2
_MAX_STARTS = 5  # of a new actor that dies before it is up; then a task meets its error
_MAX_LOST_NODES = 5  # of one task; more than that is no chance
_APART_FACTOR = 4  # of the deadline, where a worker's first tasks make what it has no other way to get
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray asks for 15, and starves beside any other work
_WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class _Actor:
    """The actor's side: one worker, made before its first task."""

    def __init__(self, workspace: Workspace, marker: str) -> None:
        import torch  # in the actor's process only

        from workers.pool.cluster_worker import Provident
        from workers.worker import Worker

        torch.set_num_threads(1)
        here = folder_here(workspace.cache_folder, marker) or workspace.cache_folder
        bear_witness(here)
        self._text: list[Any] = []
        own = replace(workspace, cache_folder=here)
        self._worker = Provident(own, self._fetch) if marker else Worker(workspace)
        self._worker.warm_up()

    def run(self, number: int, task: Task, text: list[Any]) -> Outcome:
        self._text = text
        return run_task(self._worker, Handle(number), task)

    def _fetch(self) -> bytes:
        content: bytes = ray.get(self._text[0], timeout=60)
        return content

    def process_id(self) -> int:
        return os.getpid()


@dataclass(slots=True)
class _Flight:
    """A task on its way."""

    handle: Handle
    task: Task
    attempts: int = 0
    lost_nodes: int = 0
    worker: int = -1
    deadline: float = float("inf")
    stopped_seconds: float = 0.0

    def blame(self, error: Exception) -> bool:
        """Count a death of this task's worker; tell whether it was one too many."""
        self.attempts += 1
        self.lost_nodes += is_node_death(error)
        return self.attempts - min(self.lost_nodes, _MAX_LOST_NODES) >= _MAX_ATTEMPTS

    def lost(self, reason: str) -> Outcome:
        """Return the end of a task that its workers died of."""
        if self.stopped_seconds:
            reason = f"it was stopped after {self.stopped_seconds:,.0f} s, the most that a task on this model may take"
        text = f"{type(self.task).__name__} lost its worker {self.attempts} times: {reason}"
        return Outcome(self.handle, error=TrialError(text))


class RayPool:
    """Runs tasks on `num_workers` actors of a local Ray runtime, or of the cluster that RAY_ADDRESS names."""

    def __init__(
        self,
        workspace: Workspace,
        num_workers: int,
        deadline_seconds: float = DEADLINE_SECONDS,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """Start Ray where it is not running, and the actors.

        `doubt` is called at each error of Ray's own, and returns where that is a worker's and not the end of Ray.

        Raises:
            UsageError: the cluster has fewer CPUs than workers, or a node of it has other code or other files.

        """
        self._owns_ray = start_ray(num_workers)
        self._doubt = doubt
        self._deadline_seconds = deadline_seconds + workspace.inventory.dense_bytes * _SECONDS_PER_BYTE
        self._marker: Path | None = None
        self._texts: dict[str, Any] = {}
        self.places: Mapping[str, str] = {}
        if cluster_address() is not None:
            self._marker = leave_marker(workspace.cache_folder)
            try:
                views = check_nodes(workspace, self._marker)
            except BaseException:
                self._marker.unlink(missing_ok=True)
                raise
            self.places = {name: view.place for name, view in views.items()}
            if not all(view.is_shared for view in views.values()):
                self._deadline_seconds *= _APART_FACTOR
        self.num_workers = num_workers
        share = gpu_share(count_gpus(), num_workers) if workspace.device == "cuda" else 0.0
        actor_class: Any = ray.remote(_Actor)
        self._actor_class = actor_class.options(
            num_cpus=1,
            num_gpus=share,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": _WORKER_ENVIRONMENT},
        )
        self._workspace = replace(workspace, gpu_share=share)
        self._actors = [self._new_actor() for _ in range(num_workers)]
        self._starting = {actor.process_id.remote(): worker for worker, actor in enumerate(self._actors)}
        self._lanes: list[list[_Flight]] = [[] for _ in range(num_workers)]
        self._waiting: WaitingBatches[list[_Flight]] = WaitingBatches()
        self._in_flight: dict[Any, _Flight] = {}
        self._num_starts = [0] * num_workers
        self._count = 0

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks for one worker: the lane's own, unless another one would have nothing to do."""
        flights = [_Flight(Handle(self._count + i), task) for i, task in enumerate(tasks)]
        self._count += len(flights)
        self._waiting.put(lane, flights)
        self._dispatch()
        return [flight.handle for flight in flights]

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Return what ended; waits for at least one end, at most `timeout_seconds`."""
        self._dispatch()
        if not self._in_flight and not (self._waiting and self._starting):
            return []
        done, _ = ray.wait([*self._in_flight, *self._starting], num_returns=1, timeout=timeout_seconds)
        for ref in set(done) & set(self._starting):
            self._welcome(ref)
        outcomes = [outcome for ref in done for outcome in self._collect(ref)]
        self._kill_overdue()
        self._dispatch()
        return outcomes

    def process_ids(self) -> list[int]:
        """Return the actors' process ids."""
        ids: list[int] = ray.get([actor.process_id.remote() for actor in self._actors], timeout=120)
        return ids

    def close(self) -> None:
        """Kill the actors, and Ray where this pool started it."""
        self._waiting.clear()
        self._lanes = []
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._in_flight, self._starting = [], {}, {}
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)
        if self._owns_ray:
            ray.shutdown()

    def _dispatch(self) -> None:
        """Send the next batches to the actors that have nothing to do."""
        while self._waiting and (worker := self._next_worker()) is not None:
            lane = self._lanes[worker]
            for flight in self._waiting.take(worker):
                flight.worker = worker
                lane.append(flight)
                sent = self._actors[worker].run.remote(flight.handle.number, flight.task, self._text(flight.task))
                self._in_flight[sent] = flight
            self._start_clock(worker)

    def _next_worker(self) -> int | None:
        """Return an actor that is up and has nothing to do."""
        starting = set(self._starting.values())
        idle = (index for index, lane in enumerate(self._lanes) if not lane and index not in starting)
        return next(idle, None)

    def _start_clock(self, worker: int) -> None:
        """Give the task at the head of a lane its deadline: the others still wait."""
        if self._lanes[worker] and self._lanes[worker][0].deadline == float("inf"):
            self._lanes[worker][0].deadline = time.monotonic() + self._deadline_seconds

    def _collect(self, ref: Any) -> list[Outcome]:
        """Return the end of a task; where its worker died, what else that one has ended or died of."""
        if (flight := self._in_flight.pop(ref, None)) is None:
            return []  # its worker's death was seen at another task, or its worker is a new one
        outcome = self._outcome(ref, flight)
        if not isinstance(outcome, Outcome):
            self._in_flight[ref] = flight
            return self._replace_worker(flight.worker, outcome)
        self._lanes[flight.worker].remove(flight)
        self._start_clock(flight.worker)
        return [outcome]

    def _replace_worker(self, worker: int, error: Exception) -> list[Outcome]:
        """Make a new actor and queue what the dead one had left; return what it had ended, or died of twice."""
        self._renew(worker)
        self._lanes[worker] = []
        sent = {ref: flight for ref, flight in self._in_flight.items() if flight.worker == worker}
        ready, _ = ray.wait(list(sent), num_returns=len(sent), timeout=1.0)
        ended, left = [], []
        for ref, flight in sent.items():
            del self._in_flight[ref]
            flight.deadline = float("inf")
            found = self._outcome(ref, flight) if ref in ready else error
            if isinstance(found, Outcome):
                ended.append(found)
            else:
                left.append(flight)
        if left and left[0].blame(error):
            ended.append(left.pop(0).lost(evidence(self._workspace.cache_folder, error)))
        if left:
            self._waiting.put_first(worker, left)
        return ended

    def _new_actor(self) -> Any:
        return self._actor_class.remote(self._workspace, str(self._marker or ""))

    def _text(self, task: Task) -> list[Any]:
        """Return a reference to the content of a task's text, for workers that do not see it; none on one machine."""
        if self._marker is None or isinstance(task, TextlessTask):
            return []
        path = task.tokens.path
        if path not in self._texts:
            self._texts[path] = ray.put(Path(path).read_bytes())
        return [self._texts[path]]

    def _renew(self, worker: int) -> None:
        ray.kill(self._actors[worker])  # it may live and only be out of reach
        self._actors[worker] = self._new_actor()
        self._starting[self._actors[worker].process_id.remote()] = worker

    def _welcome(self, ref: Any) -> None:
        """Let a new actor that is up have tasks; one that died before is replaced, a few times in a row."""
        worker = self._starting.pop(ref)
        self._num_starts[worker] += 1
        try:
            ray.get(ref, timeout=60)
        except RayError:
            if self._num_starts[worker] < _MAX_STARTS:
                self._renew(worker)
                return
        self._num_starts[worker] = 0

    def _outcome(self, ref: Any, flight: _Flight) -> Outcome | RayError:
        """Return the end of a task, or the error that tells that its worker is gone."""
        try:
            outcome: Outcome = ray.get(ref, timeout=60)
        except (RayActorError, GetTimeoutError) as error:
            self._doubt()
            return error
        except RayError as error:
            self._doubt()
            return Outcome(flight.handle, error=TrialError(f"Ray: {str(error).splitlines()[0]}"))
        if isinstance(outcome.value, CarriedText):
            return replace(outcome, value=outcome.value.unpacked(self._workspace.cache_folder))
        return outcome

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for flight in [lane[0] for lane in self._lanes if lane]:
            if now > flight.deadline:
                flight.deadline, flight.stopped_seconds = float("inf"), self._deadline_seconds
                ray.kill(self._actors[flight.worker])


_: type[Executor] = RayPool
