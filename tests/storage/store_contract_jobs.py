"""The contract of a store, first part: jobs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest

from space.errors import NotFoundError, StateError, StoreError
from storage.job_facts import JobFacts, KeptText
from storage.job_summary import Overview, Summary
from storage.records import Job, JobState, Known
from storage.store import Store
from tests.storage.values import ASKED, DOCUMENT, FINISHED, MEASURED, PATH_TO, PLAN, SUMMARY, num_winners, spec, trial

EIGHT = [
    *(JobFacts(model_digest="m"), JobFacts(device="cpu"), JobFacts(budget_bytes=1), JobFacts(smallest_bytes=2)),
    *(JobFacts(warm=True), JobFacts(methods="1"), JobFacts(wall_seconds=0.5), JobFacts(nodes={"a": "b"})),
]


class JobContract:
    """One test per behaviour and per error of the verbs of a job."""

    def move(self, store: Store, states: Sequence[JobState]) -> None:
        """Lead job "one" through states."""
        for state in states:
            store.set_job_state("one", state)

    def test_new_job_is_queued_and_empty(self, store: Store) -> None:
        """A new job has its request, an instant in UTC and nothing else."""
        before = datetime.now(UTC)
        job = store.create_job("one", spec(seed=3))
        assert before - timedelta(seconds=1) <= job.created_at <= datetime.now(UTC) + timedelta(seconds=1)
        assert job == Job("one", spec(seed=3), JobState.QUEUED, job.created_at)

    def test_job_comes_back_equal(self, store: Store, job: Job) -> None:
        """What was created is what is read."""
        assert store.get_job("one") == job
        assert store.get_job("one").created_at.utcoffset() == timedelta(0)

    def test_second_job_of_the_same_id_is_refused(self, store: Store, job: Job) -> None:
        """An id names one job for ever."""
        with pytest.raises(StateError, match="one exists already"):
            store.create_job("one", spec(seed=1))
        assert store.list_jobs() == [job]

    def test_one_of_many_creators_wins(self, store: Store) -> None:
        """Of threads that create the same id at once, one succeeds."""
        assert num_winners(lambda: store.create_job("one", spec())) == 1

    def test_unknown_job_names_the_newest(self, store: Store) -> None:
        """The error for an unknown job lists the five newest ones, newest first."""
        for number in range(7):
            store.create_job(f"job{number}", spec())
        with pytest.raises(NotFoundError, match=r"'other'; the newest are job6, job5, job4, job3, job2\.$"):
            store.get_job("other")

    def test_unknown_job_of_an_empty_store(self, store: Store) -> None:
        """The error says that there is no job at all."""
        with pytest.raises(NotFoundError, match="no job was submitted yet"):
            store.get_job("other")

    def test_jobs_are_listed_newest_first(self, store: Store) -> None:
        """The order is that of creation, reversed."""
        made = [store.create_job(job_id, spec()) for job_id in ("b", "a", "c")]
        assert store.list_jobs() == made[::-1]

    def test_jobs_of_some_states_are_listed(self, store: Store) -> None:
        """Those of other states are left out."""
        for job_id in ("a", "b", "c"):
            store.create_job(job_id, spec())
        store.request_cancel("b")
        store.request_pause("c")
        listed = store.list_jobs([JobState.QUEUED, JobState.CANCELLED])
        assert [(job.job_id, job.state) for job in listed] == [("b", JobState.CANCELLED), ("a", JobState.QUEUED)]
        assert list(store.list_jobs([JobState.RUNNING])) == []

    def test_empty_store_lists_no_job(self, store: Store) -> None:
        """No job is an empty list."""
        assert list(store.list_jobs()) == []

    def test_overviews_are_jobs_in_short(self, store: Store) -> None:
        """Newest first, each with its last summary, or none; in whatever state they are."""
        made = [store.create_job(job_id, spec(model=f"org/{job_id}"), "ann") for job_id in ("b", "one", "c")]
        self.move(store, PATH_TO[JobState.FAILED][:-1])
        failed = store.set_job_state("one", JobState.FAILED, "why")
        store.update_job("one", phase="halfway")
        store.put_summary("one", replace(SUMMARY, num_points=0))
        store.put_summary("one", SUMMARY)
        store.put_summary("b", Summary(SUMMARY.updated_at))
        overviews = list(store.list_overviews())
        assert [o.job_id for o in overviews] == ["c", "one", "b"]
        times = (failed.created_at, failed.started_at, failed.finished_at)
        expected = Overview("one", JobState.FAILED, "org/one", "60%", *times, phase="halfway", error="why")
        assert overviews[1] == replace(expected, user="ann", holder=failed.holder, summary=SUMMARY)
        assert overviews[0] == Overview("c", JobState.QUEUED, "org/c", "60%", made[2].created_at, user="ann")
        assert [o.has_front for o in overviews] == [False, True, False]
        assert [store.overview(o.job_id) for o in overviews] == overviews

    def test_running_job_has_a_start(self, store: Store, job: Job) -> None:
        """RUNNING sets started_at and nothing else."""
        running = store.set_job_state("one", JobState.RUNNING)
        assert running.started_at is not None
        assert running.started_at >= job.created_at
        assert running == replace(job, state=JobState.RUNNING, started_at=running.started_at) == store.get_job("one")

    @pytest.mark.parametrize("state", FINISHED)
    @pytest.mark.usefixtures("job")
    def test_finished_job_has_an_end(self, store: Store, state: JobState) -> None:
        """Each end sets finished_at and keeps the error."""
        running = store.set_job_state("one", JobState.RUNNING)
        ended = store.set_job_state("one", state, error="why")
        assert ended.finished_at is not None
        assert ended == replace(running, state=state, finished_at=ended.finished_at, error="why")
        assert ended == store.get_job("one")

    def test_resumed_job_is_clean(self, store: Store, job: Job) -> None:
        """QUEUED clears error, finished_at and cancel_requested, and keeps facts and the last start."""
        running = store.set_job_state("one", JobState.RUNNING)
        store.update_job("one", facts=JobFacts(budget_bytes=1))
        store.request_cancel("one")
        store.set_job_state("one", JobState.FAILED, error="why")
        resumed = store.set_job_state("one", JobState.QUEUED)
        assert resumed == replace(job, started_at=running.started_at, facts=JobFacts(budget_bytes=1))

    @pytest.mark.parametrize(
        ("asked", "move", "state"),
        [
            ("", "QUEUED", "QUEUED"),
            ("pause", "QUEUED", "PAUSED"),
            ("pause", "PAUSED", "PAUSED"),
            ("cancel", "QUEUED", "CANCELLED"),
            ("cancel", "PAUSED", "CANCELLED"),
            ("cancel", "DONE", "DONE"),
            ("pause cancel", "QUEUED", "CANCELLED"),
        ],
    )
    @pytest.mark.usefixtures("job")
    def test_a_job_given_back_is_what_was_asked(self, store: Store, asked: str, move: str, state: str) -> None:
        """A controller that is told to go, or answers a pause, does not lose what somebody asked meanwhile."""
        store.set_job_state("one", JobState.RUNNING)
        for verb in asked.split():
            (store.request_pause if verb == "pause" else store.request_cancel)("one")
        found = store.set_job_state("one", JobState(move))
        assert (found.state, found.holder) == (JobState(state), None)
        assert (found.finished_at is not None) == found.state.is_finished
        assert store.claim_job("next", "one") is None or state == "QUEUED"

    @pytest.mark.parametrize("old", list(JobState))
    @pytest.mark.usefixtures("job")
    def test_illegal_job_move_changes_nothing(self, store: Store, old: JobState) -> None:
        """A move that the table forbids (to where the job is) is refused."""
        self.move(store, PATH_TO[old])
        before = store.get_job("one")
        with pytest.raises(StateError, match=f"one is {old}; it cannot become {old}"):
            store.set_job_state("one", old)
        assert store.get_job("one") == before

    @pytest.mark.usefixtures("job")
    def test_one_of_many_starters_wins(self, store: Store) -> None:
        """Of threads that start a job at once, one succeeds."""
        assert num_winners(lambda: store.set_job_state("one", JobState.RUNNING)) == 1

    @pytest.mark.usefixtures("job")
    def test_update_sets_what_is_given(self, store: Store) -> None:
        """Phase and document are set; an update of one leaves the other."""
        assert store.document("one") is None
        store.update_job("one", document=DOCUMENT)
        store.update_job("one", phase="building levels 12/57")
        assert store.document("one") == DOCUMENT
        found = store.get_job("one")
        assert (found.phase, found.document) == ("building levels 12/57", DOCUMENT)

    @pytest.mark.usefixtures("job")
    def test_a_glance_leaves_out_what_is_long(self, store: Store) -> None:
        """State, request and requests to stop are there; facts and document are not. An unknown job is an error."""
        store.update_job("one", phase="calibrating", facts=JobFacts(budget_bytes=1), document=DOCUMENT)
        self.move(store, [JobState.RUNNING])
        store.request_cancel("one")
        assert store.glance("one") == replace(store.get_job("one"), facts=JobFacts(), document=None)
        with pytest.raises(NotFoundError, match="the newest are one"):
            store.glance("two")

    @pytest.mark.usefixtures("job")
    def test_facts_are_merged_key_by_key(self, store: Store) -> None:
        """New keys are added, old ones replaced whole, others kept."""
        tokens = KeptText("tokens", "of a file", ("a", "b", "c"))
        store.update_job("one", facts=JobFacts(spent={"x": 1.0}, tokens=tokens, warm=False))
        store.update_job("one", facts=JobFacts(spent={"y": 0.0}, advice="text"))
        expected = JobFacts(spent={"y": 0.0}, tokens=tokens, warm=False, advice="text")
        assert store.get_job("one").facts == expected

    @pytest.mark.usefixtures("job")
    def test_no_fact_is_lost_between_threads(self, store: Store) -> None:
        """Threads that merge different keys at once all succeed."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda facts: store.update_job("one", facts=facts), EIGHT))
        assert store.get_job("one").facts == reduce(JobFacts.merged, EIGHT)

    @pytest.mark.usefixtures("job")
    def test_phase_can_be_emptied(self, store: Store) -> None:
        """An empty phase is given, not left out."""
        store.update_job("one", phase="searching")
        store.update_job("one", phase="")
        assert store.get_job("one").phase == ""

    @pytest.mark.usefixtures("job")
    def test_facts_that_are_not_json_are_refused(self, store: Store) -> None:
        """A number that is not finite would come back from no other program."""
        with pytest.raises(StoreError, match="finite numbers"):
            store.update_job("one", facts=JobFacts(wall_seconds=float("nan")))
        assert store.get_job("one").facts == JobFacts()

    @pytest.mark.usefixtures("job")
    def test_cancelling_a_queued_job_ends_it(self, store: Store) -> None:
        """Nobody works on it: it is CANCELLED at once, with an end."""
        store.request_cancel("one")
        found = store.get_job("one")
        assert (found.state, found.cancel_requested) == (JobState.CANCELLED, True)
        assert found.finished_at is not None

    def test_cancelling_a_running_job_asks(self, store: Store, job: Job) -> None:
        """Its controller reads the request, also when it was made twice."""
        running = store.set_job_state(job.job_id, JobState.RUNNING)
        store.request_cancel("one")
        store.request_cancel("one")
        assert store.get_job("one") == replace(running, cancel_requested=True)

    @pytest.mark.parametrize("state", FINISHED)
    @pytest.mark.usefixtures("job")
    def test_cancelling_a_finished_job_changes_nothing(self, store: Store, state: JobState) -> None:
        """There is nothing to stop any more."""
        self.move(store, PATH_TO[state])
        before = store.get_job("one")
        store.request_cancel("one")
        assert store.get_job("one") == before

    def test_a_job_that_rests_is_deleted_with_all_that_is_its_own(self, store: Store) -> None:
        """Trials, events, summary and tasks; what was measured, and other jobs, stay."""
        for job_id in ("one", "two"):
            store.create_job(job_id, spec())
            store.create_trials([trial(0, job_id=job_id)])
            store.put_summary(job_id, SUMMARY)
            store.create_task(f"t-{job_id}", replace(ASKED, job_id=job_id))
            store.request_cancel_task(f"t-{job_id}")
            store.request_cancel(job_id)
        known = Known(PLAN, "e", MEASURED)
        store.put_measurement(known)
        store.delete_job("one")
        assert [job.job_id for job in store.list_jobs()] == ["two"]
        assert [task.task_id for task in store.list_tasks()] == ["t-two"]
        assert store.find_measurements([(PLAN, "e")]) == [MEASURED]
        absent = (store.get_job, store.list_trials, store.list_events, store.overview, store.document, store.delete_job)
        for verb in absent:
            with pytest.raises(NotFoundError, match="no job 'one'"):
                verb("one")
        again = store.create_job("one", spec())
        assert (store.list_trials("one"), store.overview("one").summary, again.state) == ([], None, JobState.QUEUED)
        assert len(store.list_events("one")) == 1

    @pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
    def test_a_job_that_may_be_written_to_is_not_deleted(self, store: Store, state: JobState) -> None:
        """Nor is one with an export on its way."""
        store.create_job("one", spec())
        for step in PATH_TO[state]:
            store.set_job_state("one", step)
        with pytest.raises(StateError, match=f"is {state}; cancel it before"):
            store.delete_job("one")
        store.create_task("t1", ASKED)
        if state is JobState.RUNNING:
            store.set_job_state("one", JobState.DONE)
        else:
            store.request_cancel("one")
        with pytest.raises(StateError, match="has 1 exports that wait or run"):
            store.delete_job("one")
        assert store.get_task("t1").task_id == "t1"
