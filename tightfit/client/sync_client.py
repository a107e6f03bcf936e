"""A service's jobs, fronts and exports from Python, one call after the other."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tightfit.client.asking import Asking
from tightfit.client.remote_jobs import RemoteJob
from tightfit.client.sending import upload_folder
from tightfit.client.wire import request_of


class Client(Asking):
    """Asks a service; see docs/service.md. Errors are those of `space.errors`, as if the work were done here."""

    def submit(self, model: str, budget: str, **options: Any) -> RemoteJob:
        """Submit a job; `options` are the fields of `JobSpec`. The same request is the same job.

        Raises:
            UsageError, InfeasibleBudgetError: the request cannot be met; the message says why, and what to change.

        """
        return RemoteJob(self, self.ask("POST", "/v1/jobs", json=request_of(model, budget, options))["job"])

    def inspect(self, model: str, budget: str, **options: Any) -> dict[str, Any]:
        """Return what a job would search and cost; nothing runs."""
        found: dict[str, Any] = self.ask("POST", "/v1/inspect", json=request_of(model, budget, options))
        return found

    def upload(self, folder: str | Path, tell: Callable[[str], None] = lambda _: None) -> str:
        """Send the folder of a model; return what `submit` names it by. What the service has already is not sent.

        `tell` hears of each file.

        Raises:
            ModelError: the folder is none of a model, or holds what is not taken (a pickle, code).
            TooLargeError, QuotaError: the service has no room for it.

        """
        return upload_folder(self.ask, Path(folder), tell)

    def job(self, job_id: str) -> RemoteJob:
        """Return a job by its id; it is not asked for yet."""
        return RemoteJob(self, job_id)

    def jobs(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield the status of each job, newest first; `filters` are `state`, `model` and `user`."""
        after: str | None = None
        while True:
            page = self.ask("GET", "/v1/jobs", params=filters | ({"after": after} if after else {}))
            yield from page["jobs"]
            after = page["next"]
            if after is None:
                return
