"""Requests that become jobs: within what a user may have at a time, and once for each key that a sender gives."""

from dataclasses import dataclass, field
from threading import Lock

from space.digest import digest
from space.errors import StateError, UsageError
from space.spec import JobSpec
from storage.people import Answered
from tightfit.http.admission.quotas import Quotas
from tightfit.http.apart.request_judge import Judge
from tightfit.http.callers import Caller, Scope
from tightfit.service import Service


@dataclass(slots=True)
class Submissions:
    """Makes jobs of requests that may be read.

    Attributes:
        service: of the records.
        judge: makes a job of a request.
        quotas: what a user may have.

    """

    service: Service
    judge: Judge
    quotas: Quotas = field(default_factory=Quotas)
    _lock: Lock = field(default_factory=Lock)
    _in_progress: set[tuple[str, str]] = field(default_factory=set)

    def submit(self, spec: JobSpec, caller: Caller, *, anew: bool, key: str | None) -> str:
        """Return the id of a request's job.

        Raises:
            QuotaError: the user has as much already as may be had.
            StateError: the same key's request is being answered at this moment.
            UsageError: the key was used for another request.

        """
        if key is None:
            return self._made(spec, caller, anew=anew)
        named, asked = (caller.user or "", key), digest([spec.digest, anew])
        with self._lock:
            if named in self._in_progress:
                raise StateError(f"Idempotency-Key {key!r}: its request is being answered. Send it again in a moment.")
            self._in_progress.add(named)
        try:
            answered = self.service.store.find_answered(*named)
            if answered is not None and answered.digest != asked:
                raise UsageError(f"Idempotency-Key {key!r}: it was used for another request. Take a new key.")
            if answered is not None:
                return answered.job_id
            job_id = self._made(spec, caller, anew=anew)
            self.service.store.put_answered(Answered(*named, asked, job_id))
            return job_id
        finally:
            with self._lock:
                self._in_progress.discard(named)

    def _made(self, spec: JobSpec, caller: Caller, *, anew: bool) -> str:
        if caller.may(Scope.ADMIN) or not self.quotas.limits_jobs:
            return self.judge.submit(spec, caller.user, anew=anew).job_id
        with self._lock:  # between the look and the job that is made nobody makes another one
            self.quotas.check_job(self.service, caller, spec)
            return self.judge.submit(spec, caller.user, anew=anew).job_id
