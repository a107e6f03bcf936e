"""A job of a service: looked at, waited for, moved; exports and recoveries of it asked for."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from space.errors import JobFailedError, OutageError
from tightfit.client.asking import Asking
from tightfit.client.remote_tasks import RemoteExport, RemoteRecovery
from tightfit.client.wire import RESTING, front_of, next_pause
from tightfit.report.notebook_front import Front


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job of a service."""

    client: Asking
    job_id: str

    def status(self) -> dict[str, Any]:
        """Return how far it is: what `tightfit status JOB --json` prints."""
        found: dict[str, Any] = self._get("")
        return found

    def wait(self, timeout_seconds: float | None = None) -> Self:
        """Wait until the job rests; return it.

        Raises:
            JobFailedError: it failed; the message says why.
            TimeoutError: it goes on after so long.

        """
        deadline, pause = None if timeout_seconds is None else time.monotonic() + timeout_seconds, None
        while (found := self.status())["state"] not in RESTING:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Job {self.job_id} is {found['state']} after {timeout_seconds:.0f} s.")
            pause = next_pause(pause)
            time.sleep(pause)
        if found["state"] == "FAILED":
            raise JobFailedError(f"Job {self.job_id} failed: {found['error']}")
        return self

    def front(self) -> Front:
        """Return the front as it is now: a document, a data frame (`to_pandas`), a plot, a page of a notebook.

        Raises:
            JobFailedError: there is none yet.

        """
        return front_of(self._get("/front"))

    def explain(self, point: str | None = None) -> dict[str, Any]:
        """Return why each module has its level at a point (default: the recommended one)."""
        found: dict[str, Any] = self._get("/explanation", **({} if point is None else {"point": point}))
        return found

    def plan(self, point: str) -> dict[str, str]:
        """Return module -> level of a point of the front."""
        found: dict[str, str] = self._get(f"/plans/{point}")
        return found

    def trials(self) -> Iterator[dict[str, Any]]:
        """Yield what was measured, in the order of asking."""
        after: int | None = -1
        while after is not None:
            page = self._get("/trials", after=after)
            yield from page["trials"]
            after = page["next"]

    def events(self, after: int = 0, *, follow: bool = True) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield (number, kind, facts) of what happens; those that follow have no end, and outlast a short outage."""
        seq, pause = after, None
        while True:
            try:
                for event in self._events(seq, follow=follow):
                    seq, pause = event[0], None
                    yield event
            except OutageError:
                if pause is not None and pause >= next_pause(pause):
                    raise
            if not follow:
                return
            pause = next_pause(pause)
            time.sleep(pause)

    def _events(self, after: int, *, follow: bool) -> Iterator[tuple[int, str, dict[str, Any]]]:
        fields: dict[str, str] = {}
        for line in self.client.lines(f"/v1/jobs/{self.job_id}/events", after=after, follow=str(follow).lower()):
            name, _, text = line.partition(": ")
            if name:
                fields[name] = text
            elif "data" in fields:
                yield int(fields["id"]), fields["event"], json.loads(fields["data"])
                fields = {}

    def report(self) -> str:
        """Return the report: one HTML page with everything inside."""
        return "\n".join(self.client.lines(f"/v1/jobs/{self.job_id}/report"))

    def again(self, **changes: Any) -> "RemoteJob":
        """Submit a job like this one with other values: another `budget`, more `max_trials`."""
        return RemoteJob(self.client, self._post("/again", json=changes)["job"])

    def pause(self) -> dict[str, Any]:
        """Stop it until it is resumed; return its status."""
        found: dict[str, Any] = self._post("/pause")
        return found

    def resume(self) -> dict[str, Any]:
        """Queue it again; return its status."""
        found: dict[str, Any] = self._post("/resume")
        return found

    def cancel(self) -> dict[str, Any]:
        """Stop it; return its status."""
        found: dict[str, Any] = self._post("/cancel")
        return found

    def describe(self, **told: str | None) -> dict[str, Any]:
        """Set its `label` or `note`, or both; None takes it away. Return its status."""
        found: dict[str, Any] = self.client.ask("PATCH", f"/v1/jobs/{self.job_id}", json=told)
        return found

    def delete(self) -> None:
        """Delete it, once it rests."""
        self.client.ask("DELETE", f"/v1/jobs/{self.job_id}")

    def export(self, point: str | None = None, budget: str | None = None, **options: Any) -> RemoteExport:
        """Queue an export of a point; `options` are `target` and `refit`."""
        return RemoteExport(
            self.client, self._post("/exports", json={"point": point, "budget": budget, **options})["task"]
        )

    def recover(self, point: str | None = None, **options: Any) -> RemoteRecovery:
        """Queue a recovery of a point; `options` are `method`, `minutes`, `text` and `seed`."""
        return RemoteRecovery(self.client, self._post("/recoveries", json={"point": point, **options})["task"])

    def _get(self, path: str, **params: Any) -> Any:
        return self.client.ask("GET", f"/v1/jobs/{self.job_id}{path}", params=params)

    def _post(self, path: str, **options: Any) -> Any:
        return self.client.ask("POST", f"/v1/jobs/{self.job_id}{path}", **options)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the front, or how far the job is."""
        try:
            return self.front()._repr_html_()
        except JobFailedError as error:
            from html import escape

            return f"<p>{escape(str(error))}</p>"
