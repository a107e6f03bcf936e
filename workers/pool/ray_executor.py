"""Ray as a controller sees it: workers that outlive what they stand on.

Ray's driver library has a process of its own (`ray_driver`). Where that ends, or the Ray under it, a private Ray is
started once more, and what had not ended is done again: tasks can be repeated, and give the same. On a cluster the job
ends with one sentence, and can be resumed.
"""

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from space.errors import JobFailedError, UsageError
from space.parsing.addresses import without_password
from workers.pool.driver_process import DriverLostError, DriverProcess
from workers.pool.executor import Executor, Handle, Outcome
from workers.pool.node_caches import cluster_address
from workers.tasks import Task, Workspace

_START_SECONDS = 180.0  # of a process, or of a private Ray: on a busy machine it takes 20
_CONNECT_SECONDS = 60.0
_OPEN_SECONDS = 900.0  # nodes of a cluster are asked one by one, and some may be on their way
_ANSWER_SECONDS = 300.0  # beyond what a question takes by itself
_MAX_DEATHS = 1  # of a private Ray that had started
_START_CHANCES = 3
_ADVICE = (
    "look after the machine's load, memory and disk (Ray's logs are in /tmp/ray/session_latest/logs), then resume the "
    "job."
)
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # without it a private Ray listens to the whole network
_log = logging.getLogger("tightfit.workers")


def cluster_has_gpus() -> bool:
    """Tell whether the cluster that RAY_ADDRESS names has GPUs; connects for as long as that takes.

    Raises:
        UsageError: no Ray answers there.

    """
    driver = _started(1)
    try:
        return float(driver.ask(_ANSWER_SECONDS, "count_gpus")) >= 1
    except DriverLostError as error:
        raise _gone(error) from error
    finally:
        driver.close()


class RayExecutor:
    """Runs tasks on Ray's workers, in a private Ray or on the cluster that RAY_ADDRESS names."""

    def __init__(self, workspace: Workspace, num_workers: int) -> None:
        """Start the workers.

        Raises:
            UsageError: no Ray answers at RAY_ADDRESS, or the cluster cannot work for this controller.
            JobFailedError: Ray cannot be started or has died.

        """
        self.num_workers, self._workspace = num_workers, workspace
        self.places: Mapping[str, str] = {}
        self._left: dict[Handle, tuple[Task, int, int]] = {}  # task, lane, and which tasks were submitted with it
        self._ours: dict[Handle, Handle] = {}  # handle of the driver -> ours
        self._num_submitted = self._count = self._num_deaths = 0
        self._driver: DriverProcess | None = None
        self._start()

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks for one worker: the lane's own, unless another one would have nothing to do."""
        handles = [Handle(self._count + index) for index in range(len(tasks))]
        self._count += len(tasks)
        self._num_submitted += 1
        self._left |= {handle: (task, lane, self._num_submitted) for handle, task in zip(handles, tasks, strict=True)}
        try:
            self._hand_over(handles)
        except DriverLostError as error:
            self._start_again(error)
        return handles

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Return what ended; waits for at least one end, at most `timeout_seconds`."""
        if self._driver is None:
            return []
        try:
            found: Sequence[Outcome] = self._ask("wait", timeout_seconds, limit=timeout_seconds + _ANSWER_SECONDS)
        except DriverLostError as error:
            self._start_again(error)
            return []
        outcomes = [Outcome(self._ours.pop(o.handle), o.value, o.error) for o in found]
        for outcome in outcomes:
            del self._left[outcome.handle]
        return outcomes

    def process_ids(self) -> list[int]:
        """Return the workers' process ids."""
        ids: list[int] = self._ask("process_ids")
        return ids

    def close(self) -> None:
        """Stop the workers, and a private Ray."""
        self._left, self._ours = {}, {}
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def _start(self) -> None:
        """Start the workers and give them what has not ended; what dies meanwhile is started again."""
        while True:
            self._driver = _started(self.num_workers)
            try:
                self.places = self._ask("open", self._workspace, self.num_workers, limit=_OPEN_SECONDS)
                for batch in self._batches():
                    self._hand_over(batch)
            except DriverLostError as error:
                self._bury(error)
            except BaseException:
                self.close()
                raise
            else:
                return

    def _start_again(self, error: DriverLostError) -> None:
        self._bury(error)
        self._start()

    def _bury(self, error: DriverLostError) -> None:
        """Count the death of a Ray. Raises JobFailedError where it was one too many, or no private one."""
        if self._driver is not None:
            self._driver.end()
            self._driver = None
        self._ours = {}
        self._num_deaths += 1
        if cluster_address() is not None:
            raise _gone(error) from error
        if self._num_deaths > _MAX_DEATHS:
            raise JobFailedError(f"The private Ray of this job is gone again ({error}): {_ADVICE}") from error
        _log.warning("The private Ray of this job is gone (%s); it is started again, once.", error)

    def _batches(self) -> list[list[Handle]]:
        """Return the tasks that have not ended, as they were submitted."""
        found: dict[int, list[Handle]] = {}
        for handle, (_, _, number) in self._left.items():
            found.setdefault(number, []).append(handle)
        return list(found.values())

    def _hand_over(self, handles: Sequence[Handle]) -> None:
        """Give tasks of one batch to the driver."""
        lane = self._left[handles[0]][1]
        theirs = self._ask("submit_all", [self._left[handle][0] for handle in handles], lane)
        self._ours |= zip(theirs, handles, strict=True)

    def _ask(self, verb: str, *arguments: Any, limit: float = _ANSWER_SECONDS) -> Any:
        assert self._driver is not None  # noqa: S101 (closed executors are asked nothing)
        return self._driver.ask(limit, verb, *arguments)


def _started(num_workers: int) -> DriverProcess:
    """Return a connected process; a private Ray has a few chances to start, since Ray waits for itself 30 s only.

    Raises:
        UsageError: see `_connected`.
        JobFailedError: a private Ray does not start.

    """
    num_failures = 0
    while True:
        try:
            return _connected(num_workers)
        except DriverLostError as error:
            num_failures += 1
            if num_failures == _START_CHANCES:
                raise JobFailedError(f"No private Ray could be started ({error}): {_ADVICE}") from error
            _log.warning("No private Ray could be started (%s); trying again.", error)


def _connected(num_workers: int) -> DriverProcess:
    """Return a process that is connected to Ray: the cluster, or a private one that it has started.

    Raises:
        UsageError: no Ray answers at RAY_ADDRESS, or it has fewer CPUs than workers.
        DriverLostError: a private Ray did not start.

    """
    address = cluster_address()
    if address is not None:
        _check_answers(address)
    driver = DriverProcess({} if address else _LOOPBACK)
    try:
        driver.ask(_START_SECONDS, "is_there")
        driver.ask(_CONNECT_SECONDS if address else _START_SECONDS, "connect", num_workers)
    except DriverLostError as error:
        driver.end()
        if address is None:
            raise
        raise _no_answer(address, str(error)) from error
    except BaseException:
        driver.end()
        raise
    return driver


def _check_answers(address: str) -> None:
    """Look whether anybody listens at an address, before Ray waits for an answer. Raises UsageError."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS / 6).close()
        except (OSError, OverflowError) as error:
            raise _no_answer(address, str(error)) from error


def _no_answer(address: str, reason: str) -> UsageError:
    return UsageError(
        f"No Ray answers at RAY_ADDRESS={without_password(address)} ({without_password(reason)}): start the cluster "
        "(`ray start --head`), or unset RAY_ADDRESS for a private Ray."
    )


def _gone(error: DriverLostError) -> JobFailedError:
    address = without_password(os.environ.get("RAY_ADDRESS", ""))
    return JobFailedError(
        f"Ray at RAY_ADDRESS={address} is gone ({error}): see that it runs again (`ray status`), then resume the job."
    )


_: type[Executor] = RayExecutor
