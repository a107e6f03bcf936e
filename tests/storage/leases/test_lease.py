"""Who is gone and who is only silent, without any wall clock; and a store that outlasts an outage."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from space.errors import LeaseLostError, OutageError, StateError
from storage.in_memory import MemoryStore
from storage.job_facts import JobFacts
from storage.leases import lease
from storage.leases.lease import Silence, holder_name, is_gone, keeping
from storage.leases.outage_retry import held_store
from storage.point_tasks import TaskLease
from storage.records import Job, JobState, Lease, TrialState, told_holder
from tests.storage.values import MEASURED, only, spec, trial

ALIVE = "elsewhere:7:70:0123456789ab"


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def running(beat: int, holder: str = ALIVE, token: int = 1) -> Job:
    """Return a RUNNING job."""
    return replace(
        MemoryStore().create_job("one", spec()), state=JobState.RUNNING, holder=holder, token=token, beat=beat
    )


def is_lapsed(silence: Silence, clock: Clock, seconds: float, job: Job) -> bool:
    """Look after some seconds."""
    clock.now += seconds
    return silence.lapsed([job]) == [job]


def test_own_process_is_not_gone() -> None:
    """And its name tells where it is."""
    name = holder_name()
    assert not is_gone(name)
    assert told_holder(name) == f"process {os.getpid()} on {os.uname().nodename}"


def test_ended_process_is_gone_and_a_stopped_one_is_not() -> None:
    """Also before its parent took note, and also where another process has its number."""
    code = "from storage.leases.lease import holder_name; print(holder_name(), flush=True); input()"
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    holder = process.stdout.readline().strip()
    assert not is_gone(holder)
    host, pid, start, machine = holder.rsplit(":", 3)
    assert is_gone(f"{host}:{pid}:{int(start) - 1}:{machine}")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert is_gone(holder)
    process.communicate(timeout=60)
    assert is_gone(holder)


@pytest.mark.parametrize("holder", [ALIVE, "a", "", "x:y:z:w", "a:b"])
def test_other_machines_cannot_be_judged(holder: str) -> None:
    """Whoever is not of this machine may live."""
    assert not is_gone(holder)


def test_hidden_process_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `/proc` hides other users' processes, that a file cannot be read is no death; that nobody is there is."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    monkeypatch.setattr(lease, "_machine", lambda: "m")

    def hidden(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", hidden)
    assert not is_gone(f"host:{os.getpid()}:1:m")
    assert not is_gone("host:1:1:m")  # another user's, in most places
    assert is_gone(f"host:{ended.pid}:1:m")


def test_job_of_an_older_program_has_nobody() -> None:
    """Nothing ever renews it."""
    assert is_gone(None)
    assert told_holder(None) == "nobody"


def test_silence_of_a_lease_lapses() -> None:
    """After the time of the lease, looked at often, and not before."""
    clock = Clock()
    silence = Silence(30.0, clock)
    looks = [is_lapsed(silence, clock, 5.0, running(beat=4)) for _ in range(8)]
    assert looks == [False] * 6 + [True] * 2


def test_beat_begins_the_time_anew() -> None:
    """One renewal is a sign of life, and so is another claim."""
    clock = Clock()
    silence = Silence(30.0, clock)
    assert not any(is_lapsed(silence, clock, 5.0, running(beat=0)) for _ in range(6))
    assert not any(is_lapsed(silence, clock, 5.0, running(beat=1)) for _ in range(6))
    assert not any(is_lapsed(silence, clock, 5.0, running(beat=1, token=2)) for _ in range(6))
    assert is_lapsed(silence, clock, 5.0, running(beat=1, token=2))


def test_time_without_a_look_is_no_silence() -> None:
    """A watcher that was stopped, or that had no database, may have missed beats."""
    clock = Clock()
    silence = Silence(30.0, clock)
    assert not is_lapsed(silence, clock, 1.0, running(beat=0))
    assert not is_lapsed(silence, clock, 3600.0, running(beat=0))
    assert not is_lapsed(silence, clock, 3600.0, running(beat=0))


def test_clock_on_the_wall_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back or forward by an hour, it neither keeps a dead controller's job nor takes a living one's."""
    import time

    now, clock = time.time(), Clock()
    silence = Silence(30.0, clock)
    for shift in (0.0, -3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda shift=shift: now + shift)
        beats = [is_lapsed(silence, clock, 5.0, running(beat=look)) for look in range(10)]
        assert not any(beats)
        assert [is_lapsed(silence, clock, 5.0, running(beat=99)) for _ in range(7)][-1]


def test_gone_controllers_job_needs_no_waiting() -> None:
    """A process of this machine that has ended will not come back."""
    host, pid, start, machine = holder_name().rsplit(":", 3)
    assert Silence(30.0).lapsed([running(0, f"{host}:{pid}:{int(start) + 1}:{machine}")])


def test_only_running_jobs_lapse() -> None:
    """A job that waits or ended is nobody's."""
    assert Silence(30.0).lapsed([replace(running(0), state=JobState.QUEUED, holder=None)]) == []


def held() -> tuple[MemoryStore, Lease]:
    """Return a store and the lease of its one job, which has one trial."""
    store = MemoryStore()
    store.create_job("one", spec())
    store.create_trials([trial(0)])
    lease = store.claim_job("a", "one")
    assert lease is not None
    return store, lease


class CountingStore(MemoryStore):
    """Tells after some renewals, and fails as many before."""

    def __init__(self, num_failures: int) -> None:
        super().__init__()
        self.left, self.renewed = num_failures, Event()

    def renew(self, lease: Lease | TaskLease) -> None:
        if self.left:
            self.left -= 1
            raise OutageError("away")
        super().renew(lease)
        self.renewed.set()


@pytest.mark.parametrize("num_failures", [0, 3])
def test_kept_lease_beats(num_failures: int) -> None:
    """Also after the database was away."""
    store = CountingStore(num_failures)
    store.create_job("one", spec())
    lease = store.claim_job("a")
    assert lease is not None
    with keeping(store, lease, lease_seconds=0.06):
        assert store.renewed.wait(60)
    assert store.get_job("one").beat > 0


def failing(store: MemoryStore, verb: str, num_failures: int, *, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a verb meet outages, before or after it did its work."""
    real: Callable[..., Any] = getattr(MemoryStore, verb)
    left = [num_failures]

    def call(self: MemoryStore, *args: Any, **kwargs: Any) -> Any:
        if left[0] and not after:
            left[0] -= 1
            raise OutageError("away")
        found = real(self, *args, **kwargs)
        if left[0]:
            left[0] -= 1
            raise OutageError("away")
        return found

    monkeypatch.setattr(MemoryStore, verb, call)


@pytest.mark.parametrize("after", [False, True])
def test_writes_outlast_an_outage(after: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """Each write happens once, also where only its answer was lost."""
    monkeypatch.setattr("storage.leases.outage_retry._PAUSE_SECONDS", 0.01)
    store, lease = held()
    patient = held_store(store, lease)
    for verb, count in (("create_trials", 2), ("finish_trial", 2), ("update_job", 2), ("set_job_state", 1)):
        failing(store, verb, 1 if after else count, after=after, monkeypatch=monkeypatch)
    patient.create_trials([trial(1)])
    patient.finish_trial("one", 0, TrialState.COMPLETE, MEASURED)
    patient.update_job("one", facts=JobFacts(budget_bytes=1))
    assert patient.set_job_state("one", JobState.DONE).state is JobState.DONE
    assert store.list_trials("one") == [trial(0, TrialState.COMPLETE, measurement=MEASURED), trial(1)]
    assert (store.get_job("one").state, store.get_job("one").facts) == (JobState.DONE, JobFacts(budget_bytes=1))


def test_refusals_are_not_outlasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table of moves forbids is refused at once, and a lost lease after an outage too."""
    monkeypatch.setattr("storage.leases.outage_retry._PAUSE_SECONDS", 0.01)
    store, lease = held()
    patient = held_store(store, lease)
    patient.finish_trial("one", 0, TrialState.FAILED, reason="why")
    with pytest.raises(StateError, match="FAILED; it cannot become COMPLETE"):
        patient.finish_trial("one", 0, TrialState.COMPLETE, MEASURED)
    failing(store, "set_job_state", 1, after=False, monkeypatch=monkeypatch)
    assert store.take_over(store.get_job("one"), "b")
    with pytest.raises(LeaseLostError, match="but held by b"):
        patient.set_job_state("one", JobState.DONE)
    assert only(store).state is TrialState.FAILED


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that stays away is an error with its cause."""
    monkeypatch.setattr("storage.leases.outage_retry._PAUSE_SECONDS", 0.01)
    store, lease = held()
    failing(store, "update_job", 10**9, after=False, monkeypatch=monkeypatch)
    with pytest.raises(OutageError, match="away"):
        held_store(store, lease, patience_seconds=0.05).update_job("one", phase="x")
