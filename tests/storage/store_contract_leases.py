"""The contract of a store, third part: who holds a job, and requests to pause and resume it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from space.errors import LeaseLostError, StateError
from storage.job_facts import JobFacts
from storage.records import JOB_MOVES, Job, JobState, Known, Lease, TrialState
from storage.store import Store
from tests.storage.values import (
    ASKED,
    DOCUMENT,
    FINISHED,
    MEASURED,
    PATH_TO,
    PLAN,
    SUMMARY,
    num_winners,
    only,
    spec,
    trial,
)

WRITES: dict[str, Callable[[Store], object]] = {
    "create_job": lambda store: store.create_job("two", spec()),
    "set_job_state": lambda store: store.set_job_state("one", JobState.DONE),
    "update_job": lambda store: store.update_job(
        "one", phase="late", facts=JobFacts(budget_bytes=1), document=DOCUMENT
    ),
    "request_cancel": lambda store: store.request_cancel("one"),
    "request_pause": lambda store: store.request_pause("one"),
    "resume_job": lambda store: store.resume_job("one"),
    "create_trials": lambda store: store.create_trials([trial(1)]),
    "finish_trial": lambda store: store.finish_trial("one", 0, TrialState.COMPLETE, MEASURED),
    "set_held_out": lambda store: store.set_held_out("one", 2, MEASURED),
    "put_summary": lambda store: store.put_summary("one", SUMMARY),
    "create_task": lambda store: store.create_task("t1", ASKED),
    "put_measurement": lambda store: store.put_measurement(Known(PLAN, "e" * 64, MEASURED)),
}


def claimed(store: Store, holder: str = "a") -> Lease:
    """Claim job "one"."""
    lease = store.claim_job(holder, "one")
    assert lease is not None
    return lease


class LeaseContract:
    """One test per behaviour of claims, leases and requests."""

    def test_claimed_job_runs_and_names_its_holder(self, store: Store, job: Job) -> None:
        """A claim is the first of its token, and the job has a start."""
        assert claimed(store) == Lease("one", "a", 1)
        found = store.get_job("one")
        assert found.started_at is not None
        expected = replace(job, state=JobState.RUNNING, holder="a", token=1, started_at=found.started_at)
        assert found == expected

    def test_oldest_queued_job_is_claimed_first(self, store: Store) -> None:
        """Jobs that do not wait are passed over; where none waits, there is nothing to claim."""
        for job_id in ("zero", "one", "two"):
            store.create_job(job_id, spec())
        store.request_cancel("zero")
        leases = [store.claim_job("a") for _ in range(3)]
        assert leases == [Lease("one", "a", 1), Lease("two", "a", 1), None]

    @pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.QUEUED])
    @pytest.mark.usefixtures("job")
    def test_named_job_is_claimed_only_from_the_queue(self, store: Store, state: JobState) -> None:
        """No other state can be claimed, and nothing changes."""
        for move in PATH_TO[state]:
            store.set_job_state("one", move)
        before = store.get_job("one")
        assert store.claim_job("a", "one") is None
        assert store.get_job("one") == before

    def test_users_take_turns(self, store: Store) -> None:
        """Two users with many jobs each alternate, whoever came first; a third one need not wait for all of these."""
        for number in range(3):
            store.create_job(f"ann{number}", spec(), "ann")
        for number in range(3):
            store.create_job(f"bob{number}", spec(), "bob")
        begun = []
        for turn in range(7):
            lease = store.claim_job("a")
            assert lease is not None
            begun.append(lease.job_id)
            store.holding(lease).set_job_state(lease.job_id, JobState.DONE)
            if turn == 2:
                store.create_job("eve0", spec(), "eve")
        assert begun == ["ann0", "bob0", "ann1", "eve0", "bob1", "ann2", "bob2"]

    def test_who_has_fewer_running_jobs_is_first(self, store: Store) -> None:
        """Turns count what runs: several controllers do not all work for one user while another one waits."""
        for job_id, user in (("ann0", "ann"), ("ann1", "ann"), ("bob0", "bob"), ("bob1", "bob"), ("none", None)):
            store.create_job(job_id, spec(), user)
        leases = [store.claim_job("a") for _ in range(5)]
        assert [lease and lease.job_id for lease in leases] == ["ann0", "bob0", "none", "ann1", "bob1"]
        assert store.claim_job("a") is None

    def test_each_job_has_one_claimer(self, store: Store) -> None:
        """Of threads that claim at once, as many get a job as there are jobs, each another one."""
        for number in range(5):
            store.create_job(str(number), spec())
        leases: list[Lease] = []

        def claim() -> None:
            lease = store.claim_job("a")
            if lease is None:
                raise StateError("none left")
            leases.append(lease)

        assert num_winners(claim) == 5
        assert sorted(lease.job_id for lease in leases) == list("01234")

    @pytest.mark.usefixtures("job")
    def test_renewed_lease_is_not_taken_over(self, store: Store) -> None:
        """Who saw the job before the renewal takes nothing."""
        lease = claimed(store)
        seen = store.get_job("one")
        store.renew(lease)
        assert store.get_job("one") == replace(seen, beat=1)
        assert store.take_over(seen, "b") is None
        assert store.get_job("one").holder == "a"

    @pytest.mark.usefixtures("job")
    def test_silent_lease_is_taken_over_once(self, store: Store) -> None:
        """The token rises; of many that saw the same silence one wins."""
        claimed(store)
        seen = store.get_job("one")

        def take() -> None:
            if store.take_over(seen, "b") is None:
                raise StateError("somebody was faster")

        assert num_winners(take) == 1
        found = store.get_job("one")
        assert (found.state, found.holder, found.token, found.beat) == (JobState.RUNNING, "b", 2, 0)

    @pytest.mark.usefixtures("job")
    def test_only_running_jobs_are_taken_over(self, store: Store) -> None:
        """A job that ended meanwhile stays as it is."""
        lease = claimed(store)
        seen = store.get_job("one")
        store.holding(lease).set_job_state("one", JobState.DONE)
        assert store.take_over(seen, "b") is None
        assert store.get_job("one").state is JobState.DONE

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.usefixtures("job")
    def test_holder_writes(self, store: Store, write: Callable[[Store], object]) -> None:
        """While its lease holds, a controller's store does what any other does."""
        lease = claimed(store)
        store.create_trials([trial(0), trial(2, TrialState.COMPLETE, measurement=MEASURED)])
        write(store.holding(lease))

    @pytest.mark.parametrize("lost", ["taken over", "ended", "queued again", "claimed again by the same"])
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.usefixtures("job")
    def test_former_holder_writes_nothing(self, store: Store, write: Callable[[Store], object], lost: str) -> None:
        """Whatever happened to its job, every write of a former holder is refused, and nothing has changed."""
        held = store.holding(claimed(store))
        store.create_trials([trial(0), trial(2, TrialState.COMPLETE, measurement=MEASURED)])
        if lost == "ended":
            store.set_job_state("one", JobState.FAILED, "why")
        elif lost == "taken over":
            assert store.take_over(store.get_job("one"), "b")
        else:
            store.set_job_state("one", JobState.QUEUED)
            assert lost == "queued again" or claimed(store)
        before = (store.list_jobs(), store.list_trials("one"), store.list_events("one"), store.list_tasks())
        with pytest.raises(LeaseLostError, match=r"Job one is no longer held by a but .*: this controller stops"):
            write(held)
        after = (store.list_jobs(), store.list_trials("one"), store.list_events("one"), store.list_tasks())
        assert after == before
        assert list(store.find_measurements([(PLAN, "e" * 64)])) == [None]

    @pytest.mark.usefixtures("job")
    def test_former_holder_renews_nothing(self, store: Store) -> None:
        """The error names the one who holds the job now; the new lease beats on."""
        old = claimed(store)
        new = store.take_over(store.get_job("one"), "b")
        assert new is not None
        with pytest.raises(LeaseLostError, match="but held by b"):
            store.renew(old)
        store.renew(new)
        assert store.get_job("one").beat == 1

    @pytest.mark.usefixtures("job")
    def test_former_holder_can_read(self, store: Store) -> None:
        """Nothing is lost by looking."""
        held = store.holding(claimed(store))
        store.set_job_state("one", JobState.DONE)
        assert held.get_job("one").state is JobState.DONE
        assert list(held.list_trials("one")) == []

    @pytest.mark.usefixtures("job")
    def test_pausing_a_queued_job_rests_it(self, store: Store) -> None:
        """Nobody works on it: it is PAUSED at once, also when asked twice."""
        store.request_pause("one")
        store.request_pause("one")
        found = store.get_job("one")
        assert (found.state, found.pause_requested, found.finished_at) == (JobState.PAUSED, False, None)

    @pytest.mark.usefixtures("job")
    def test_pausing_a_running_job_asks(self, store: Store) -> None:
        """Its controller reads the request and answers it by PAUSED."""
        held = store.holding(claimed(store))
        before = store.get_job("one")
        store.request_pause("one")
        store.request_pause("one")
        assert store.get_job("one") == replace(before, pause_requested=True)
        held.set_job_state("one", JobState.PAUSED)
        assert store.get_job("one") == replace(before, state=JobState.PAUSED, holder=None)

    @pytest.mark.parametrize("state", FINISHED)
    @pytest.mark.usefixtures("job")
    def test_pausing_a_finished_job_changes_nothing(self, store: Store, state: JobState) -> None:
        """There is nothing to pause any more."""
        for move in PATH_TO[state]:
            store.set_job_state("one", move)
        before = store.get_job("one")
        store.request_pause("one")
        assert store.get_job("one") == before

    @pytest.mark.usefixtures("job")
    def test_paused_job_can_be_cancelled(self, store: Store) -> None:
        """It ends at once: nobody works on it."""
        store.request_pause("one")
        store.request_cancel("one")
        found = store.get_job("one")
        assert found.state is JobState.CANCELLED
        assert found.finished_at is not None

    @pytest.mark.parametrize("state", [s for s in JobState if s.rests])
    @pytest.mark.usefixtures("job")
    def test_resting_job_is_queued_again(self, store: Store, state: JobState) -> None:
        """From every state in which nobody works on it, and only once."""
        for move in PATH_TO[state]:
            store.set_job_state("one", move)
        first = store.resume_job("one")
        assert (first.state, first.finished_at, first.cancel_requested) == (JobState.QUEUED, None, False)
        assert store.resume_job("one") == first

    @pytest.mark.usefixtures("job")
    def test_resuming_a_running_job_takes_requests_back(self, store: Store) -> None:
        """It goes on under its controller; its trials are left alone."""
        lease = claimed(store)
        store.create_trials([trial(0, TrialState.STOPPED)])
        before = store.get_job("one")
        store.request_pause("one")
        store.request_cancel("one")
        assert store.resume_job("one") == before
        assert only(store).state is TrialState.STOPPED
        store.renew(lease)

    @pytest.mark.usefixtures("job")
    def test_running_job_is_queued_where_its_controller_is_silent(self, store: Store) -> None:
        """One that was renewed since it was seen goes on instead."""
        lease = claimed(store)
        seen = store.get_job("one")
        store.renew(lease)
        assert store.resume_job("one", seen).state is JobState.RUNNING
        resumed = store.resume_job("one", store.get_job("one"))
        assert (resumed.state, resumed.holder) == (JobState.QUEUED, None)
        with pytest.raises(LeaseLostError, match="but QUEUED"):
            store.renew(lease)

    @pytest.mark.parametrize("old", list(JobState))
    @pytest.mark.parametrize("new", list(JobState))
    @pytest.mark.usefixtures("job")
    def test_table_of_moves_is_the_law(self, store: Store, old: JobState, new: JobState) -> None:
        """Every move that the table allows succeeds, and every other one is refused."""
        for move in PATH_TO[old]:
            store.set_job_state("one", move)
        if new in JOB_MOVES[old]:
            assert store.set_job_state("one", new).state is new
        else:
            with pytest.raises(StateError, match=f"one is {old}; it cannot become {new}"):
                store.set_job_state("one", new)
            assert store.get_job("one").state is old
