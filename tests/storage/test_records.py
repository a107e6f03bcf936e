"""The table of moves: every move that is not listed here is refused."""

from datetime import UTC, datetime
from itertools import product

import pytest

from space.errors import StateError, StoreError
from storage.records import (
    JobState,
    TrialState,
    check_job_move,
    check_trial_finish,
    check_trial_move,
    job_move_values,
    json_copy,
)

JOB_MOVES = {
    *{"QUEUED RUNNING", "QUEUED PAUSED", "QUEUED CANCELLED", "QUEUED FAILED"},
    *{"RUNNING DONE", "RUNNING FAILED", "RUNNING CANCELLED", "RUNNING PAUSED", "RUNNING QUEUED"},
    *{"PAUSED QUEUED", "PAUSED CANCELLED"},
    *{"DONE QUEUED", "FAILED QUEUED", "CANCELLED QUEUED"},
}
TRIAL_MOVES = {
    *{"WAITING RUNNING", "WAITING STOPPED", "STOPPED WAITING"},
    *{"RUNNING COMPLETE", "RUNNING FAILED", "RUNNING STOPPED", "RUNNING WAITING"},
}
FINISHES = TRIAL_MOVES | {"WAITING COMPLETE", "WAITING FAILED"}


@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_job_moves(old: JobState, new: JobState) -> None:
    """A job moves as listed."""
    if f"{old} {new}" in JOB_MOVES:
        check_job_move("one", old, new)
    else:
        with pytest.raises(StateError, match=f"Job one is {old}; it cannot become {new}"):
            check_job_move("one", old, new)


@pytest.mark.parametrize(("old", "new"), list(product(TrialState, TrialState)))
def test_trial_moves(old: TrialState, new: TrialState) -> None:
    """A trial moves as listed."""
    if f"{old} {new}" in TRIAL_MOVES:
        check_trial_move("one", 3, old, new)
    else:
        with pytest.raises(StateError, match=f"Trial 3 of job one is {old}; it cannot become {new}"):
            check_trial_move("one", 3, old, new)


@pytest.mark.parametrize(("old", "new"), list(product(TrialState, TrialState)))
def test_trial_finishes(old: TrialState, new: TrialState) -> None:
    """A WAITING trial may also end as if it were RUNNING; nothing else is new."""
    if f"{old} {new}" in FINISHES:
        check_trial_finish("one", 3, old, new)
    else:
        with pytest.raises(StateError, match=f"is {old}; it cannot become {new}"):
            check_trial_finish("one", 3, old, new)


def test_finished_states() -> None:
    """Nothing happens any more in these."""
    assert [s for s in JobState if s.is_finished] == [JobState.DONE, JobState.FAILED, JobState.CANCELLED]
    assert [s for s in TrialState if not s.is_finished] == [TrialState.WAITING, TrialState.RUNNING]


def test_only_ends_keep_an_error() -> None:
    """RUNNING leaves the error alone, QUEUED clears it, an end sets it."""
    now = datetime.now(UTC)
    assert "error" not in job_move_values(JobState.RUNNING, now, "why")
    assert job_move_values(JobState.QUEUED, now, "why")["error"] is None
    assert job_move_values(JobState.FAILED, now, "why")["error"] == "why"


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), {1, 2}, b"bytes", object()])
def test_what_json_cannot_keep_is_refused(value: object) -> None:
    """A record that could not be read again is never written."""
    with pytest.raises(StoreError, match="finite numbers"):
        json_copy({"key": [value]})
