"""Controllers that die one after another at the same step of a job: after a few, nobody tries again by himself."""

from space.errors import JobFailedError
from storage.job_facts import Deaths, JobFacts
from storage.point_tasks import PointTask
from storage.records import Job, Lease, told_holder
from storage.store import Store

MAX_DEATHS = 5
"""In a row without any progress: fewer may be chance, such as a machine that was restarted."""


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
    step = (job.phase.partition(";")[0], finished, sum(t.held_out is not None for t in trials))
    before = job.facts.deaths
    is_next = before is not None and (before.step, before.token) == (step, job.token)
    count = before.count + 1 if before is not None and is_next else 1
    store.update_job(job.job_id, facts=JobFacts(deaths=Deaths(step, lease.token, count)))
    if count >= MAX_DEATHS:
        raise JobFailedError(
            f"{count} controllers in a row ended or fell silent at the same step ({step[0]}, {finished} trials "
            f"finished); the last was {told_holder(job.holder)}. Look at its machine's memory and log; "
            f"`tightfit resume {job.job_id}` tries again."
        )


def check_task_deaths(task: PointTask) -> None:
    """Refuse to run a task again that all of its holders die of.

    Args:
        task: as the last one left it; its death is counted by who takes the task over.

    Raises:
        JobFailedError: one too many; tells the step and who died last.

    """
    if task.deaths + 1 >= MAX_DEATHS:
        raise JobFailedError(
            f"{task.deaths + 1} controllers in a row ended or fell silent at task {task.task_id} "
            f"({task.progress or 'before its first step'}); the last was {told_holder(task.holder)}. Look at its "
            f"machine's memory and log; `tightfit resume {task.task_id}` tries again."
        )
