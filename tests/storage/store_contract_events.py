"""The contract of a store, fourth part: what happens to a job is told in order, with what it tells, and once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from space.errors import LeaseLostError, StateError
from storage.events import EventKind
from storage.job_facts import JobFacts
from storage.records import Job, JobState, TrialState
from storage.store import Store
from tests.storage.values import ASKED, DOCUMENT, MEASURED, SUMMARY, spec, trial


def told(store: Store, after: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """Return kinds and facts of the events of job "one"."""
    return [(str(event.kind), event.facts) for event in store.list_events("one", after)]


class EventContract:
    """One test per kind of event, and for their order."""

    def test_a_job_tells_its_states(self, store: Store, job: Job) -> None:
        """From its creation to its end, with the holder and the error; numbers from 1, instants in UTC."""
        store.claim_job("host:7:70:abc", "one")
        store.set_job_state("one", JobState.FAILED, "why")
        store.resume_job("one")
        store.request_cancel("one")
        assert told(store) == [
            ("job", {"state": "QUEUED"}),
            ("job", {"state": "RUNNING", "holder": "process 7 on host"}),
            ("job", {"state": "FAILED", "error": "why"}),
            ("job", {"state": "QUEUED"}),
            ("job", {"state": "CANCELLED"}),
        ]
        events = store.list_events("one")
        assert [event.seq for event in events] == [1, 2, 3, 4, 5]
        assert {event.job_id for event in events} == {"one"}
        assert all(abs(event.at - datetime.now(UTC)) < timedelta(minutes=1) for event in events)
        assert events[0].at >= job.created_at - timedelta(seconds=1)

    @pytest.mark.usefixtures("job")
    def test_requests_to_a_running_job_are_told_once(self, store: Store) -> None:
        """The second of the same kind changes nothing and tells nothing; neither does resuming what goes on anyway."""
        store.claim_job("a", "one")
        for request in (store.request_pause, store.request_pause, store.request_cancel, store.request_cancel):
            request("one")
        store.resume_job("one")
        store.resume_job("one")
        requests = [facts["request"] for kind, facts in told(store) if kind == "request"]
        assert requests == ["pause", "cancel", "resume"]

    @pytest.mark.usefixtures("job")
    def test_phases_and_fronts_are_told_where_they_are_others(self, store: Store) -> None:
        """The same words or the same front again are no news; facts alone are none."""
        for phase in ("reading", "reading", "building"):
            store.update_job("one", phase=phase)
        better = replace(DOCUMENT, front=(replace(DOCUMENT.front[0], kl_divergence=0.04),))
        for document in (DOCUMENT, DOCUMENT, better):
            store.update_job("one", document=document, facts=JobFacts(budget_bytes=1))
        store.update_job("one", phase="reading")
        found = told(store, 1)
        assert [kind for kind, _ in found] == ["phase", "phase", "front", "front", "phase"]
        assert found[1][1] == {"phase": "building"}
        front = found[3][1]
        assert front["recommended"] == {"point": "p1", "size_bytes": 10**10, "kl_divergence": 0.04}
        assert (front["num_points"], front["measured_on"], front["hypervolume"]) == (1, "held_out", 0.5)
        assert front["digest"] != found[2][1]["digest"]

    @pytest.mark.usefixtures("job")
    def test_ends_of_trials_are_told(self, store: Store) -> None:
        """Where each lies, or why it lies nowhere; not that it was asked."""
        store.create_trials([trial(0), trial(1, origin="uniform")])
        store.finish_trial("one", 1, TrialState.COMPLETE, MEASURED)
        store.finish_trial("one", 0, TrialState.FAILED, reason="w" * 600)
        found = [facts for kind, facts in told(store) if kind == "trial"]
        assert found[0] == {
            "trial": 1,
            "state": "COMPLETE",
            "origin": "uniform",
            "size_bytes": 10**10,
            "kl_divergence": MEASURED.kl_divergence,
        }
        assert (found[1]["trial"], found[1]["state"], found[1]["reason"]) == (0, "FAILED", "w" * 500 + "...")

    @pytest.mark.usefixtures("job")
    def test_what_was_refused_is_not_told(self, store: Store) -> None:
        """An event and what it tells are one transaction."""
        lease = store.claim_job("a", "one")
        assert lease is not None
        store.create_trials([trial(0, TrialState.COMPLETE)])
        before = told(store)
        with pytest.raises(StateError):
            store.finish_trial("one", 0, TrialState.COMPLETE, MEASURED)
        with pytest.raises(StateError):
            store.set_job_state("one", JobState.RUNNING)
        assert told(store) == before
        store.set_job_state("one", JobState.DONE)
        before = told(store)
        with pytest.raises(LeaseLostError):
            store.holding(lease).update_job("one", phase="late", document=DOCUMENT)
        assert told(store) == before

    @pytest.mark.usefixtures("job")
    def test_events_are_read_from_a_number_on(self, store: Store) -> None:
        """Who has some reads the rest, in parts; other jobs have numbers of their own."""
        store.create_job("two", spec())
        for number in range(5):
            store.update_job("one", phase=str(number))
        store.put_summary("one", SUMMARY)
        assert [event.seq for event in store.list_events("one", 2)] == [3, 4, 5, 6]
        assert [event.seq for event in store.list_events("one", 2, limit=2)] == [3, 4]
        assert list(store.list_events("one", 6)) == []
        assert [event.seq for event in store.list_events("two")] == [1]

    @pytest.mark.usefixtures("job")
    def test_many_writers_leave_no_gap(self, store: Store) -> None:
        """A reader that always goes on from the last number it saw misses nothing, whoever writes at once."""
        store.create_trials([trial(number) for number in range(24)])

        def write(worker: int) -> None:
            for number in range(worker, 24, 4):
                store.finish_trial("one", number, TrialState.COMPLETE, MEASURED)
                store.update_job("one", phase=f"{worker} {number}")
            store.create_task(f"t{worker}", ASKED)

        seen: list[int] = []
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(write, worker) for worker in range(4)]
            while not all(done.done() for done in running):
                seen += [event.seq for event in store.list_events("one", seen[-1] if seen else 0)]
        for done in running:
            done.result()
        seen += [event.seq for event in store.list_events("one", seen[-1] if seen else 0)]
        assert seen == list(range(1, 1 + 1 + 24 + 24 + 4))
        kinds = [event.kind for event in store.list_events("one")]
        assert kinds.count(EventKind.TRIAL) == kinds.count(EventKind.PHASE) == 24
