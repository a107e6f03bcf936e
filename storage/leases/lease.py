"""Leases in use: who a controller is, how it keeps its job, and when others may judge that it is gone.

No wall clock takes part. A holder renews its lease by counting; whoever waits for a job measures on its own monotonic
clock how long the count has stood still. A clock that is set back or forward changes nothing, and a holder that was
judged too early does no harm: the store refuses its writes (see `Store.holding`).
"""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

from space.errors import LeaseLostError, StoreError
from storage.point_tasks import PointTask, TaskLease, TaskState
from storage.records import Job, JobState, Lease
from storage.store import Store

LEASE_SECONDS = 30.0
"""A holder that is silent for so long may be replaced."""
_BEATS = 6  # renewals in that time
_HIDDEN = -1
_Held = TypeVar("_Held", Job, PointTask)


def host_name() -> str:
    """Return this host's name: the first part of a holder's."""
    return socket.gethostname()


def holder_name() -> str:
    """Return this process's name: host, process id, start time of the process, and which machine counts so."""
    return f"{host_name()}:{os.getpid()}:{_start_of(os.getpid()) or 0}:{_machine()}"


def is_gone(holder: str | None) -> bool:
    """Tell whether a holder has certainly ended, which only processes of the same machine can see of each other."""
    if holder is None:
        return True  # an older tightfit ran the job
    try:
        _, pid, start, machine = holder.rsplit(":", 3)
        return machine == _machine() != "" and _start_of(int(pid)) not in (int(start), _HIDDEN)
    except ValueError:
        return False


@contextmanager
def keeping(store: Store, lease: Lease | TaskLease, lease_seconds: float = LEASE_SECONDS) -> Iterator[None]:
    """Renew a lease from a thread until the end; it ends by itself once the lease is lost.

    A database that is away for a while is asked again: nobody else can claim the job there either.
    """
    done = Event()

    def renew() -> None:
        while not done.wait(lease_seconds / _BEATS):
            try:
                store.renew(lease)
            except LeaseLostError:
                return  # the next write or look of the controller says so
            except StoreError:
                continue

    thread = Thread(target=renew, name="tightfit-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=lease_seconds)


@dataclass(slots=True)
class _Seen:
    count: tuple[int, int]
    silent_seconds: float
    at: float


class Silence:
    """How long the holders of jobs and tasks have been silent, as far as this process has looked.

    Time in which it did not look (it was stopped, or the database was away) counts as one look, not as silence.
    """

    def __init__(self, lease_seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        """See nobody yet."""
        self._lease_seconds, self._clock = lease_seconds, clock
        self._seen: dict[type, dict[str, _Seen]] = {Job: {}, PointTask: {}}

    def lapsed(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the RUNNING jobs whose holders are gone or were silent for the time of a lease; call it often."""
        return self._lapsed(Job, {job.job_id: job for job in jobs if job.state is JobState.RUNNING})

    def lapsed_tasks(self, tasks: Iterable[PointTask]) -> list[PointTask]:
        """Return the RUNNING tasks of which the same is true."""
        return self._lapsed(PointTask, {task.task_id: task for task in tasks if task.state is TaskState.RUNNING})

    def _lapsed(self, kind: type[_Held], running: Mapping[str, _Held]) -> list[_Held]:
        now, found, seen = self._clock(), [], {}
        for name, held in running.items():
            count, before = (held.token, held.beat), self._seen[kind].get(name)
            silent = 0.0
            if before is not None and before.count == count:
                silent = before.silent_seconds + min(now - before.at, self._lease_seconds / _BEATS)
            seen[name] = _Seen(count, silent, now)
            if silent >= self._lease_seconds or is_gone(held.holder):
                found.append(held)
        self._seen[kind] = seen
        return found


def _start_of(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot; None for one that ended, reaped or not.

    Another user's may be hidden (`hidepid`, systemd's `ProtectProc`): it is there, and that is all that can be told.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return _HIDDEN if _exists(pid) else None
    return None if fields[0] in "ZX" else int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # not ours to signal, so it is there
        return True
    return True


def _machine() -> str:
    """Return which boot and which space of process ids this is; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.sha256(f"{boot}{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:12]
    except OSError:
        return ""
