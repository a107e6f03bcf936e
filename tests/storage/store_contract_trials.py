"""The contract of a store, second part: trials."""

from dataclasses import replace

import pytest

from space.errors import NotFoundError, StateError, StoreError
from storage.records import Asking, Job, JobState, Known, TrialState
from storage.sampler_state import SamplerState
from storage.store import Store
from tests.storage.values import ENDS, MEASURED, PLAN, num_winners, only, trial


class TrialContract:
    """One test per behaviour and per error of the verbs of a trial."""

    @pytest.mark.usefixtures("job")
    def test_trials_come_back_equal_by_number(self, store: Store) -> None:
        """Every field of a trial is kept, whatever the order of creation."""
        full = trial(2, TrialState.COMPLETE, measurement=MEASURED, held_out=replace(MEASURED, seconds=9.0))
        full = replace(
            full,
            sampler_state=SamplerState(base=PLAN.to_json(), system_attrs={"generation": [1, {"a": None}]}),
            reason="evidence\nof two lines",
        )
        store.create_trials([full, trial(0)])
        store.create_trials([trial(1, TrialState.FAILED, reason="too big")])
        assert store.list_trials("one") == [trial(0), trial(1, TrialState.FAILED, reason="too big"), full]

    @pytest.mark.usefixtures("job")
    def test_trials_are_added_all_or_none(self, store: Store) -> None:
        """One number that exists refuses the whole batch."""
        store.create_trials([trial(1)])
        with pytest.raises(StateError, match="nothing was added"):
            store.create_trials([trial(0), trial(1, origin="refine"), trial(2)])
        assert store.list_trials("one") == [trial(1)]

    @pytest.mark.usefixtures("job")
    def test_number_twice_in_a_batch_is_refused(self, store: Store) -> None:
        """A batch is checked against itself too."""
        with pytest.raises(StateError, match="nothing was added"):
            store.create_trials([trial(0), trial(0)])
        assert list(store.list_trials("one")) == []

    @pytest.mark.usefixtures("job")
    def test_no_trials_are_no_change(self, store: Store) -> None:
        """An empty batch is allowed."""
        store.create_trials([])
        assert list(store.list_trials("one")) == []

    def test_numbers_are_per_job(self, store: Store, job: Job) -> None:
        """Two jobs may have a trial 0 each, and see their own only."""
        store.create_job("two", job.spec)
        store.create_trials([trial(0)])
        store.create_trials([replace(trial(0), job_id="two", origin="nsga2")])
        assert store.list_trials("one") == [trial(0)]
        assert [found.origin for found in store.list_trials("two")] == ["nsga2"]

    @pytest.mark.parametrize("state", ENDS)
    @pytest.mark.parametrize("old", [TrialState.WAITING, TrialState.RUNNING])
    @pytest.mark.usefixtures("job")
    def test_trial_ends_with_its_evidence(self, store: Store, old: TrialState, state: TrialState) -> None:
        """From WAITING or RUNNING to every end, with measurement and reason."""
        store.create_trials([trial(0, old)])
        store.finish_trial("one", 0, state, measurement=MEASURED, reason="why")
        assert only(store) == trial(0, state, measurement=MEASURED, reason="why")

    @pytest.mark.usefixtures("job")
    def test_end_of_a_trial_is_known_to_all_jobs_at_once(self, store: Store) -> None:
        """Its answer is put with it; where the end is refused, the answer is not known either."""
        known = Known(PLAN, "e" * 64, MEASURED, Asking("uniform"))
        store.create_trials([trial(0), trial(1, TrialState.FAILED)])
        with pytest.raises(StateError, match="it cannot become COMPLETE"):
            store.finish_trial("one", 1, TrialState.COMPLETE, MEASURED, known=known)
        assert list(store.list_measurements(["e" * 64])) == []
        store.finish_trial("one", 0, TrialState.COMPLETE, MEASURED, known=known)
        assert list(store.list_measurements(["e" * 64])) == [known]
        again = replace(known, measurement=replace(MEASURED, seconds=99.0))
        assert list(store.find_measurements([(PLAN, "e" * 64), (PLAN, "f" * 64)])) == [MEASURED, None]
        store.put_measurement(again)
        assert list(store.list_measurements(["e" * 64])) == [known]

    @pytest.mark.usefixtures("job")
    def test_trial_can_be_marked_running(self, store: Store) -> None:
        """WAITING becomes RUNNING."""
        store.create_trials([trial(0)])
        store.finish_trial("one", 0, TrialState.RUNNING)
        assert only(store).state is TrialState.RUNNING

    @pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAILED])
    @pytest.mark.usefixtures("job")
    def test_ended_trial_is_not_moved(self, store: Store, state: TrialState) -> None:
        """A second end is refused and changes nothing."""
        store.create_trials([trial(0, state, measurement=MEASURED)])
        with pytest.raises(StateError, match=f"Trial 0 of job one is {state}; it cannot become FAILED"):
            store.finish_trial("one", 0, TrialState.FAILED, reason="late")
        assert only(store) == trial(0, state, measurement=MEASURED)

    @pytest.mark.usefixtures("job")
    def test_waiting_trial_cannot_wait_again(self, store: Store) -> None:
        """The step through RUNNING leads to ends only."""
        store.create_trials([trial(0)])
        with pytest.raises(StateError, match="WAITING; it cannot become WAITING"):
            store.finish_trial("one", 0, TrialState.WAITING)

    @pytest.mark.usefixtures("job")
    def test_one_of_many_finishers_wins(self, store: Store) -> None:
        """Of threads that finish a trial at once, one succeeds."""
        store.create_trials([trial(0)])
        assert num_winners(lambda: store.finish_trial("one", 0, TrialState.COMPLETE, MEASURED)) == 1

    @pytest.mark.usefixtures("job")
    def test_reason_may_hold_any_character(self, store: Store) -> None:
        """A worker's last words may hold what a database cannot; the rest of them is kept."""
        store.create_trials([trial(0)])
        store.finish_trial("one", 0, TrialState.FAILED, reason="header \x00\udcff of shard 2")
        reason = only(store).reason
        assert reason is not None
        assert (reason[:7], reason[-11:]) == ("header ", " of shard 2")

    @pytest.mark.usefixtures("job")
    def test_measurement_that_is_not_finite_is_refused(self, store: Store) -> None:
        """A trial without a number is FAILED, not COMPLETE; the store is the last to see it."""
        store.create_trials([trial(0)])
        with pytest.raises(StoreError, match="finite numbers"):
            store.finish_trial("one", 0, TrialState.COMPLETE, replace(MEASURED, kl_divergence=float("nan")))
        assert only(store) == trial(0)

    @pytest.mark.usefixtures("job")
    def test_held_out_measurement_is_recorded(self, store: Store) -> None:
        """It stands beside the measurement of the search."""
        store.create_trials([trial(0, TrialState.COMPLETE, measurement=MEASURED)])
        held_out = replace(MEASURED, kl_divergence=0.5)
        store.set_held_out("one", 0, held_out)
        assert only(store) == trial(0, TrialState.COMPLETE, measurement=MEASURED, held_out=held_out)

    @pytest.mark.parametrize("state", [s for s in TrialState if s is not TrialState.COMPLETE])
    @pytest.mark.usefixtures("job")
    def test_only_complete_trials_are_held_out(self, store: Store, state: TrialState) -> None:
        """A trial without a result has no place on a front."""
        store.create_trials([trial(0, state)])
        with pytest.raises(StateError, match=f"is {state}; only COMPLETE"):
            store.set_held_out("one", 0, MEASURED)
        assert only(store) == trial(0, state)

    def test_unfinished_trials_wait_again(self, store: Store, job: Job) -> None:
        """RUNNING and STOPPED trials of a resumed job, and no others, are WAITING, their reason gone."""
        store.create_job("two", job.spec)
        store.create_trials([replace(trial(0, TrialState.RUNNING), job_id="two")])
        store.create_trials([trial(number, state, reason="r") for number, state in enumerate(TrialState)])
        store.set_job_state("one", JobState.CANCELLED)
        store.resume_job("one")
        again = {TrialState.RUNNING, TrialState.STOPPED}
        assert store.list_trials("one") == [
            trial(number) if state in again else trial(number, state, reason="r")
            for number, state in enumerate(TrialState)
        ]
        assert store.list_trials("two")[0].state is TrialState.RUNNING

    @pytest.mark.usefixtures("job")
    def test_trials_come_in_pages(self, store: Store) -> None:
        """By number, each once, and how many there are."""
        store.create_trials([trial(number) for number in (4, 0, 2, 1)])
        assert [t.number for t in store.page_trials("one", -1, 3)[0]] == [0, 1, 2]
        assert store.page_trials("one", 2, 3) == (list(store.list_trials("one"))[3:], 4)
        assert store.page_trials("one", 4, 3) == ([], 4)
        with pytest.raises(NotFoundError, match="no job 'none'"):
            store.page_trials("none", -1, 3)
