"""Controllers that die one after another at the same step of a job: after a few, nobody tries again by himself."""

from typing import Any

from space.errors import JobFailedError
from storage.records import Job, Lease, told_holder
from storage.store import Store

MAX_DEATHS = 5
"""In a row without any progress: fewer may be chance, such as a machine that was restarted."""
_FACT = "deaths"


def count_death(store: Store, job: Job, lease: Lease) -> None:
    """Count the death of a job's controller, after its job was taken over.

    Args:
        store: of the new holder.
        job: as the dead one left it.
        lease: the new holder's.

    Raises:
        JobFailedError: one too many; tells the step and who died last.

    """
    trials = store.list_trials(job.job_id)
    finished = sum(t.state.is_finished for t in trials)
    step = [job.phase.partition(";")[0], finished, sum(t.held_out is not None for t in trials)]
    before: dict[str, Any] = job.facts.get(_FACT, {})
    is_next = before.get("step") == step and before.get("token") == job.token
    count = before["count"] + 1 if is_next else 1
    store.update_job(job.job_id, facts={_FACT: {"step": step, "token": lease.token, "count": count}})
    if count >= MAX_DEATHS:
        raise JobFailedError(
            f"{count} controllers in a row ended or fell silent at the same step ({step[0]}, {finished} trials "
            f"finished); the last was {told_holder(job.holder)}. Look at its machine's memory and log; "
            f"`tightfit resume {job.job_id}` tries again."
        )
