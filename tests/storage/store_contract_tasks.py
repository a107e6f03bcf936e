"""The contract of a store, fifth part: tasks on a chosen point, who has them, and requests to stop them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from space.errors import LeaseLostError, NotFoundError, StateError, StoreError
from storage.point_tasks import PointTask, TaskLease, TaskState
from storage.records import JobState
from storage.store import Store
from tests.storage.values import ASKED, num_winners, spec

RESULT = {"path": "/out", "kl_divergence": 0.25}
ENDS = [TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED]
WRITES: dict[str, Callable[[Store], object]] = {
    "update_task": lambda store: store.update_task("t1", progress="late"),
    "set_task_state": lambda store: store.set_task_state("t1", TaskState.DONE),
    "request_cancel_task": lambda store: store.request_cancel_task("t1"),
    "resume_task": lambda store: store.resume_task("t1"),
    "create_task": lambda store: store.create_task("t2", ASKED),
    "claim_task": lambda store: store.claim_task("a", "here"),
}


def claimed(store: Store, holder: str = "a") -> TaskLease:
    """Create task "t1" and claim it."""
    task = store.create_task("t1", ASKED, holder)
    return TaskLease("t1", holder, task.token)


class TaskContract:
    """One test per behaviour and per error of the verbs of a task."""

    @pytest.mark.usefixtures("job")
    def test_new_task_is_queued_as_asked(self, store: Store) -> None:
        """With all that was asked, and nothing else; any state of its job will do."""
        task = store.create_task("t1", ASKED)
        assert task == replace(ASKED.queued("t1"), created_at=task.created_at) == store.get_task("t1")
        assert task.options == {"target": "packed", "refit": None}
        assert (task.state, task.token, task.holder, task.user) == (TaskState.QUEUED, 0, None, "ann")

    @pytest.mark.usefixtures("job")
    def test_task_may_be_born_claimed(self, store: Store) -> None:
        """Who does it at once has it from its first moment: nobody else can be faster."""
        task = store.create_task("t1", ASKED, "me")
        assert task.started_at is not None
        assert (task.state, task.holder, task.token) == (TaskState.RUNNING, "me", 1)
        assert store.claim_task("other", "here") is None
        store.renew(TaskLease("t1", "me", 1))
        assert store.get_task("t1") == replace(task, beat=1)

    @pytest.mark.usefixtures("job")
    def test_unknown_task_names_the_newest(self, store: Store) -> None:
        """Every verb does; a second task of the same id is refused."""
        with pytest.raises(NotFoundError, match="no task 't0'; no point was exported yet"):
            store.get_task("t0")
        for task_id in ("t1", "t2"):
            store.create_task(task_id, ASKED)
        verbs: list[Callable[[], object]] = [
            lambda: store.get_task("t0"),
            lambda: store.claim_task("a", "here", "t0"),
            lambda: store.update_task("t0", progress="x"),
            lambda: store.update_task("t0"),
            lambda: store.set_task_state("t0", TaskState.DONE),
            lambda: store.request_cancel_task("t0"),
            lambda: store.resume_task("t0"),
        ]
        for verb in verbs:
            with pytest.raises(NotFoundError, match=r"no task 't0'; the newest are t2, t1\."):
                verb()
        with pytest.raises(StateError, match="Task t1 exists already"):
            store.create_task("t1", ASKED)

    @pytest.mark.usefixtures("job")
    def test_tasks_are_listed_newest_first(self, store: Store) -> None:
        """All, those of a job, and those in some states."""
        store.create_job("two", spec())
        for task_id, job_id in (("t1", "one"), ("t2", "two"), ("t3", "one")):
            store.create_task(task_id, replace(ASKED, job_id=job_id))
        store.request_cancel_task("t3")
        assert [task.task_id for task in store.list_tasks()] == ["t3", "t2", "t1"]
        assert [task.task_id for task in store.list_tasks("one")] == ["t3", "t1"]
        assert [task.task_id for task in store.list_tasks(states=[TaskState.QUEUED])] == ["t2", "t1"]
        assert list(store.list_tasks("two", [TaskState.DONE])) == []

    @pytest.mark.usefixtures("job")
    def test_oldest_task_of_this_host_is_claimed_first(self, store: Store) -> None:
        """One that must run elsewhere is passed over, unless it is named."""
        for task_id, host in (("t1", "there"), ("t2", None), ("t3", "here")):
            store.create_task(task_id, replace(ASKED, host=host))
        leases = [store.claim_task("a", "here") for _ in range(3)]
        assert leases == [TaskLease("t2", "a", 1), TaskLease("t3", "a", 1), None]
        assert store.claim_task("a", "here", "t1") == TaskLease("t1", "a", 1)
        assert store.claim_task("a", "here", "t1") is None

    @pytest.mark.usefixtures("job")
    def test_each_task_has_one_claimer(self, store: Store) -> None:
        """Of threads that claim at once, as many get one as there are."""
        for number in range(5):
            store.create_task(f"t{number}", ASKED)
        leases: list[TaskLease] = []

        def claim() -> None:
            lease = store.claim_task("a", "here")
            if lease is None:
                raise StateError("none left")
            leases.append(lease)

        assert num_winners(claim) == 5
        assert sorted(lease.task_id for lease in leases) == ["t0", "t1", "t2", "t3", "t4"]

    @pytest.mark.usefixtures("job")
    def test_progress_and_result_are_kept(self, store: Store) -> None:
        """What is not given stays; the end of a task clears what it was doing, and keeps what came of it."""
        held = store.holding(claimed(store))
        held.update_task("t1", progress="refit: block 3 of 8", share_done=0.25)
        held.update_task("t1", result=RESULT)
        task = store.get_task("t1")
        assert (task.progress, task.share_done, task.result) == ("refit: block 3 of 8", 0.25, RESULT)
        done = held.set_task_state("t1", TaskState.DONE)
        assert done.finished_at is not None
        assert (done.state, done.holder, done.progress, done.share_done) == (TaskState.DONE, None, "", 1.0)
        assert done.result == RESULT
        with pytest.raises(StoreError, match="finite"):
            store.update_task("t1", result={"kl_divergence": float("nan")})

    @pytest.mark.parametrize("state", [*ENDS, TaskState.QUEUED])
    @pytest.mark.usefixtures("job")
    def test_only_a_running_task_is_let_go(self, store: Store, state: TaskState) -> None:
        """To each end, or back to the queue; a second time is refused."""
        claimed(store)
        moved = store.set_task_state("t1", state, "why" if state is TaskState.FAILED else None)
        assert (moved.state, moved.error) == (state, "why" if state is TaskState.FAILED else None)
        with pytest.raises(StateError, match=f"t1 is {state}; only a RUNNING one is let go"):
            store.set_task_state("t1", TaskState.DONE)
        assert store.get_task("t1") == moved

    @pytest.mark.usefixtures("job")
    def test_cancelling(self, store: Store) -> None:
        """A queued one ends at once, a running one is asked, one that rests is left alone; each once."""
        store.create_task("t0", ASKED)
        held = store.holding(claimed(store))
        for _ in range(2):
            store.request_cancel_task("t0")
            store.request_cancel_task("t1")
        waits, runs = store.get_task("t0"), store.get_task("t1")
        assert waits.state is TaskState.CANCELLED
        assert waits.finished_at is not None
        assert (runs.state, runs.cancel_requested) == (TaskState.RUNNING, True)
        assert held.set_task_state("t1", TaskState.QUEUED).state is TaskState.CANCELLED
        before = store.get_task("t1")
        store.request_cancel_task("t1")
        assert store.get_task("t1") == before

    @pytest.mark.parametrize("end", ENDS)
    @pytest.mark.usefixtures("job")
    def test_resuming(self, store: Store, end: TaskState) -> None:
        """What failed or was cancelled waits again, clean; what is done stays so."""
        claimed(store)
        store.take_over_task(store.get_task("t1"), "b")
        ended = store.set_task_state("t1", end, "why")
        again = store.resume_task("t1")
        if end is TaskState.DONE:
            assert again == ended
        else:
            assert (again.state, again.error, again.finished_at, again.deaths) == (TaskState.QUEUED, None, None, 0)
        assert store.resume_task("t1") == again

    @pytest.mark.usefixtures("job")
    def test_resuming_a_running_task(self, store: Store) -> None:
        """Takes back a request to stop; queues it only where its controller was silent since it was seen."""
        lease = claimed(store)
        seen = store.get_task("t1")
        store.request_cancel_task("t1")
        store.renew(lease)
        assert store.resume_task("t1", seen) == replace(seen, beat=1)
        again = store.resume_task("t1", store.get_task("t1"))
        assert (again.state, again.holder) == (TaskState.QUEUED, None)
        with pytest.raises(LeaseLostError, match="no longer held by a but QUEUED"):
            store.renew(lease)

    @pytest.mark.usefixtures("job")
    def test_silent_task_is_taken_over_once(self, store: Store) -> None:
        """The token rises, and a death is counted; one that was renewed goes on."""
        lease = claimed(store)
        seen = store.get_task("t1")
        store.renew(lease)
        assert store.take_over_task(seen, "b") is None
        seen = store.get_task("t1")

        def take() -> None:
            if store.take_over_task(seen, "b") is None:
                raise StateError("somebody was faster")

        assert num_winners(take) == 1
        found = store.get_task("t1")
        assert (found.holder, found.token, found.beat, found.deaths) == ("b", 2, 0, 1)
        store.set_task_state("t1", TaskState.DONE)
        assert store.take_over_task(store.get_task("t1"), "c") is None

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.usefixtures("job")
    def test_holder_of_a_task_writes(self, store: Store, write: Callable[[Store], object]) -> None:
        """While its lease holds, whatever its job is."""
        lease = claimed(store)
        store.request_cancel("one")
        write(store.holding(lease))

    @pytest.mark.parametrize("lost", ["taken over", "ended", "queued again"])
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.usefixtures("job")
    def test_former_holder_of_a_task_writes_nothing(
        self, store: Store, write: Callable[[Store], object], lost: str
    ) -> None:
        """Every write is refused, and nothing has changed."""
        held = store.holding(claimed(store))
        if lost == "taken over":
            assert store.take_over_task(store.get_task("t1"), "b")
        else:
            store.set_task_state("t1", TaskState.FAILED if lost == "ended" else TaskState.QUEUED)
        before = (store.list_tasks(), store.list_events("one"))
        with pytest.raises(LeaseLostError, match=r"Task t1 is no longer held by a but .*: this controller stops"):
            write(held)
        assert (store.list_tasks(), store.list_events("one")) == before

    @pytest.mark.usefixtures("job")
    def test_a_task_is_told_with_its_job(self, store: Store) -> None:
        """Each state and each step, by the few facts that tell it."""
        store.set_job_state("one", JobState.RUNNING)
        claimed(store)
        store.update_task("t1", progress="writing", share_done=0.5)
        store.set_task_state("t1", TaskState.FAILED, "disk full")
        found = [event.facts for event in store.list_events("one") if event.kind == "task"]
        named = {"task": "t1", "kind": "export", "point": "p1"}
        assert found == [
            {**named, "state": "RUNNING"},
            {**named, "state": "RUNNING", "progress": "writing", "share_done": 0.5},
            {**named, "state": "FAILED", "progress": "writing", "share_done": 0.5, "error": "disk full"},
        ]

    @pytest.mark.usefixtures("job")
    def test_values_of_tasks_go_in_and_out_by_copy(self, store: Store) -> None:
        """What a caller does to a dict changes no record."""
        options = {"a": {"b": 1}}
        store.create_task("t1", replace(ASKED, options=options))
        options["a"]["b"] = 2
        store.get_task("t1").options["a"]["b"] = 3
        found: PointTask = store.get_task("t1")
        assert found.options == {"a": {"b": 1}}
