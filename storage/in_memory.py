"""A store in memory: the reference of the contract, for tests and for searches that nobody asks about later."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from space.errors import StateError
from space.measurement import Measurement
from space.plan import Plan
from space.results.document import FrontDocument
from storage.events import front_news, job_news, phase_news, request_news, trial_news
from storage.in_memory_people import MemoryPeople
from storage.in_memory_tasks import MemoryTasks, copied_facts, copied_measurement, copied_trial
from storage.job_facts import JobFacts
from storage.job_summary import Overview, Summary, Wanted, page_of
from storage.records import (
    Job,
    JobState,
    Known,
    Lease,
    Trial,
    TrialState,
    check_deletion,
    check_job_move,
    check_trial_finish,
    granted,
    job_move_values,
    json_copy,
    trial_not_found,
)

if TYPE_CHECKING:
    from space.spec import JobSpec


_NEVER = datetime.min.replace(tzinfo=UTC)


class MemoryStore(MemoryTasks, MemoryPeople):
    """Keeps every record in dicts, under one lock; see `Store` for the verbs. Nothing outlives the process."""

    def __init__(self) -> None:
        """Make an empty store."""
        super().__init__()
        MemoryPeople.__init__(self)
        self._trials: dict[str, dict[int, Trial]] = {}
        self._summaries: dict[str, Summary] = {}
        self._measurements: dict[tuple[str, str], Known] = {}

    def create_job(self, job_id: str, spec: "JobSpec", user: str | None = None) -> Job:
        """Create a QUEUED job. Raises StateError if the id exists."""
        with self._writing():
            if job_id in self._jobs:
                raise StateError(f"Job {job_id} exists already; choose another id.")
            self._jobs[job_id] = Job(job_id, spec, JobState.QUEUED, datetime.now(UTC), user=user)
            self._trials[job_id] = {}
            self._add_event(job_id, job_news(JobState.QUEUED))
            return self.get_job(job_id)

    def get_job(self, job_id: str) -> Job:
        """Return a job. Raises NotFoundError, naming the newest jobs."""
        with self._lock:
            job = self._job(job_id)
            return replace(job, facts=copied_facts(job.facts))

    def glance(self, job_id: str) -> Job:
        """Return a job without its facts and document. Raises NotFoundError."""
        with self._lock:
            return replace(self._job(job_id), facts=JobFacts(), document=None)

    def list_jobs(self, states: Collection[JobState] | None = None) -> Sequence[Job]:
        """Return all jobs, or those in some states, newest first."""
        with self._lock:
            jobs = reversed(self._jobs.values())
            return [self.get_job(job.job_id) for job in jobs if states is None or job.state in states]

    def overview(self, job_id: str) -> Overview:
        """Return a job in short. Raises NotFoundError."""
        with self._lock:
            job = self._job(job_id)
            names = ("job_id", "state", "created_at", "started_at", "finished_at", "phase", "error", "user", "holder")
            told = {name: getattr(job, name) for name in (*names, "label", "note")}
            return Overview(**told, model=job.spec.model, budget=job.spec.budget, summary=self._summaries.get(job_id))

    def list_overviews(self) -> Sequence[Overview]:
        """Return all jobs in short, newest first."""
        with self._lock:
            return [self.overview(job_id) for job_id in reversed(self._jobs)]

    def page_overviews(self, wanted: Wanted, after: str | None, limit: int) -> tuple[Sequence[Overview], int]:
        """Return the jobs that are wanted, newest first, behind one of them, and how many there are together."""
        return page_of(self.list_overviews(), wanted, after, limit)

    def document(self, job_id: str) -> FrontDocument | None:
        """Return a job's front, None where there is none yet. Raises NotFoundError."""
        with self._lock:
            return self._job(job_id).document

    def put_summary(self, job_id: str, summary: Summary) -> None:
        """Keep how far a job is. Raises NotFoundError."""
        with self._writing():
            self._job(job_id)
            self._summaries[job_id] = Summary.from_json(json_copy(summary.to_json()))

    def set_job_state(self, job_id: str, state: JobState, error: str | None = None) -> Job:
        """Move a job. Raises NotFoundError, StateError."""
        with self._writing():
            job = self._job(job_id)
            check_job_move(job_id, job.state, state)
            asked = {"cancel_requested": job.cancel_requested, "pause_requested": job.pause_requested}
            state = granted(state, job.state, **asked)
            self._jobs[job_id] = replace(job, **job_move_values(state, datetime.now(UTC), error))
            self._add_event(job_id, job_news(state, error=self._jobs[job_id].error))
            return self.get_job(job_id)

    def update_job(
        self,
        job_id: str,
        *,
        phase: str | None = None,
        facts: JobFacts | None = None,
        document: FrontDocument | None = None,
    ) -> None:
        """Set what is given; the facts that are given replace those of before. Raises NotFoundError."""
        with self._writing():
            job = self._job(job_id)
            self._jobs[job_id] = replace(
                job,
                phase=job.phase if phase is None else phase,
                facts=job.facts if facts is None else job.facts.merged(copied_facts(facts)),
                document=job.document if document is None else FrontDocument.from_json(json_copy(document.to_json())),
            )
            if phase is not None:
                self._add_event_if_new(job_id, phase_news(phase))
            if document is not None:
                self._add_event_if_new(job_id, front_news(document))

    def request_cancel(self, job_id: str) -> None:
        """Ask a job to stop; a QUEUED or PAUSED one is CANCELLED at once. Raises NotFoundError."""
        with self._writing():
            job = self._job(job_id)
            if job.state in (JobState.QUEUED, JobState.PAUSED):
                moved = job_move_values(JobState.CANCELLED, datetime.now(UTC), None)
                self._jobs[job_id] = replace(job, cancel_requested=True, **moved)
                self._add_event(job_id, job_news(JobState.CANCELLED))
            elif job.state is JobState.RUNNING and not job.cancel_requested:
                self._jobs[job_id] = replace(job, cancel_requested=True)
                self._add_event(job_id, request_news("cancel"))

    def request_pause(self, job_id: str) -> None:
        """Ask a job to stop for a while; a QUEUED one is PAUSED at once. Raises NotFoundError."""
        with self._writing():
            job = self._job(job_id)
            if job.state is JobState.QUEUED:
                self._jobs[job_id] = replace(job, **job_move_values(JobState.PAUSED, datetime.now(UTC), None))
                self._add_event(job_id, job_news(JobState.PAUSED))
            elif job.state is JobState.RUNNING and not job.pause_requested:
                self._jobs[job_id] = replace(job, pause_requested=True)
                self._add_event(job_id, request_news("pause"))

    def resume_job(self, job_id: str, seen: Job | None = None) -> Job:
        """Queue a job that rests or whose controller has gone. Raises NotFoundError."""
        with self._writing():
            job = self._job(job_id)
            if job.state.rests or (seen and _is_as_seen(job, seen)):
                self._jobs[job_id] = replace(job, **job_move_values(JobState.QUEUED, datetime.now(UTC), None))
                trials = self._trials[job_id]
                again = [t for t in trials.values() if t.state in (TrialState.RUNNING, TrialState.STOPPED)]
                trials.update({t.number: replace(t, state=TrialState.WAITING, reason=None) for t in again})
                self._add_event(job_id, job_news(JobState.QUEUED))
            elif job.cancel_requested or job.pause_requested:
                self._jobs[job_id] = replace(job, cancel_requested=False, pause_requested=False)
                self._add_event(job_id, request_news("resume"))
            return self.get_job(job_id)

    def delete_job(self, job_id: str) -> None:
        """Delete a job that rests, with its trials, events and tasks. Raises NotFoundError, StateError."""
        with self._writing():
            state, tasks = self._job(job_id).state, self.list_tasks(job_id)
            check_deletion(job_id, state, sum(not task.state.rests for task in tasks))
            for task in tasks:
                del self._tasks[task.task_id]
            del self._jobs[job_id], self._trials[job_id]
            self._events.pop(job_id, None)
            self._summaries.pop(job_id, None)

    def claim_job(self, holder: str, job_id: str | None = None) -> Lease | None:
        """Claim a QUEUED job, the one whose turn it is unless one is named. Raises NotFoundError."""
        with self._lock:
            jobs = self._jobs.values() if job_id is None else [self._job(job_id)]
            queued = [job for job in jobs if job.state is JobState.QUEUED]
            return self._claimed(min(queued, key=self._turn), holder) if queued else None

    def take_over(self, job: Job, holder: str) -> Lease | None:
        """Claim a RUNNING job whose lease was not renewed since it was read."""
        with self._lock:
            now = self._job(job.job_id)
            return self._claimed(now, holder) if _is_as_seen(now, job) else None

    def create_trials(self, trials: Sequence[Trial]) -> None:
        """Add trials of one job, all or none. Raises NotFoundError, StateError if a number exists."""
        if not trials:
            return
        with self._writing():
            job_id = trials[0].job_id
            assert all(trial.job_id == job_id for trial in trials)  # noqa: S101 (the controller has one job)
            self._job(job_id)
            known = dict(self._trials[job_id])
            for trial in trials:
                if trial.number in known:
                    raise StateError(f"Job {job_id} has a trial {trial.number} already; nothing was added.")
                known[trial.number] = copied_trial(trial)
            self._trials[job_id] = known

    def finish_trial(
        self,
        job_id: str,
        number: int,
        state: TrialState,
        measurement: Measurement | None = None,
        reason: str | None = None,
        known: Known | None = None,
    ) -> None:
        """Move a trial (WAITING trials start through RUNNING). Raises NotFoundError, StateError."""
        with self._writing():
            trial = self._trial(job_id, number)
            check_trial_finish(job_id, number, trial.state, state)
            self._trials[job_id][number] = replace(
                trial, state=state, measurement=copied_measurement(measurement), reason=reason
            )
            if known is not None:
                self.put_measurement(known)
            self._add_event(job_id, trial_news(number, state, trial.origin, trial.size_bytes, measurement, reason))

    def set_held_out(self, job_id: str, number: int, measurement: Measurement) -> None:
        """Record a COMPLETE trial's held-out measurement. Raises NotFoundError, StateError."""
        with self._writing():
            trial = self._trial(job_id, number)
            if trial.state is not TrialState.COMPLETE:
                raise StateError(f"Trial {number} of job {job_id} is {trial.state}; only COMPLETE ones are held out.")
            self._trials[job_id][number] = replace(trial, held_out=copied_measurement(measurement))

    def list_trials(self, job_id: str) -> Sequence[Trial]:
        """Return a job's trials by number. Raises NotFoundError."""
        with self._lock:
            self._job(job_id)
            return [copied_trial(trial) for _, trial in sorted(self._trials[job_id].items())]

    def page_trials(self, job_id: str, after: int, limit: int) -> tuple[Sequence[Trial], int]:
        """Return a job's trials of higher numbers, at most so many, and how many it has. Raises NotFoundError."""
        trials = self.list_trials(job_id)
        return [trial for trial in trials if trial.number > after][:limit], len(trials)

    def put_measurement(self, known: Known) -> None:
        """Remember a measurement under its key for all jobs, and who asked for it; an existing one is kept."""
        copied = copied_measurement(known.measurement)
        assert copied is not None  # noqa: S101 (a measurement was given)
        with self._writing():
            key = known.evaluation_digest, known.plan.digest
            self._measurements.setdefault(key, replace(known, measurement=copied))

    def find_measurements(self, keys: Sequence[tuple[Plan, str]]) -> Sequence[Measurement | None]:
        """Return the known answer to each (plan, evaluation digest), whoever measured it."""
        with self._lock:
            found = [self._measurements.get((evaluation, plan.digest)) for plan, evaluation in keys]
        return [known.measurement if known else None for known in found]

    def list_measurements(self, evaluation_digests: Sequence[str]) -> Sequence[Known]:
        """Return all that is known of some evaluations, by evaluation and plan digest."""
        with self._lock:
            found = sorted(self._measurements.items(), key=lambda i: i[0])
        return [known for key, known in found if key[0] in evaluation_digests]

    def close(self) -> None:
        """Do nothing: there is no database to release."""

    def _turn(self, job: Job) -> tuple[int, datetime]:
        """Return what says whose turn it is among users: how many jobs of theirs run, when one was last begun."""
        theirs = [other for other in self._jobs.values() if other.user == job.user]
        begun = [other.started_at for other in theirs if other.started_at is not None]
        return sum(other.state is JobState.RUNNING for other in theirs), max(begun, default=_NEVER)

    def _claimed(self, job: Job, holder: str) -> Lease:
        values = job_move_values(JobState.RUNNING, datetime.now(UTC), None)
        claimed = replace(job, holder=holder, token=job.token + 1, beat=0, **values)
        self._jobs[job.job_id] = claimed
        self._add_event(job.job_id, job_news(JobState.RUNNING, holder=holder))
        return Lease(job.job_id, holder, claimed.token)

    def _trial(self, job_id: str, number: int) -> Trial:
        self._job(job_id)
        if number not in self._trials[job_id]:
            raise trial_not_found(job_id, number)
        return self._trials[job_id][number]


def _is_as_seen(job: Job, seen: Job) -> bool:
    return job.state is JobState.RUNNING and (job.token, job.beat) == (seen.token, seen.beat)
