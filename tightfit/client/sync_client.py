"""A service's jobs, fronts and exports from Python, one call after the other."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

from space.errors import JobFailedError, OutageError, OutputError
from tightfit.client.wire import (
    RESTING,
    TASK_RESTING,
    check_file,
    checked,
    connection,
    error_of,
    front_of,
    next_pause,
    request_of,
    unreachable,
)
from tightfit.report.notebook_front import Front


class Client:
    """Asks a service; see docs/service.md. Errors are those of `space.errors`, as if the work were done here."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Know where the service is; nothing is asked yet.

        Args:
            url: of the service; None: TIGHTFIT_URL, or that of `tightfit serve` on this machine.
            token: None: TIGHTFIT_TOKEN, or none, which does on loopback.

        """
        self._http = httpx2.Client(**connection(url, token))

    def submit(self, model: str, budget: str, **options: Any) -> "RemoteJob":
        """Submit a job; `options` are the fields of `JobSpec`. The same request is the same job.

        Raises:
            UsageError, InfeasibleBudgetError: the request cannot be met; the message says why, and what to change.

        """
        return RemoteJob(self, self.ask("POST", "/v1/jobs", json=request_of(model, budget, options))["job"])

    def inspect(self, model: str, budget: str, **options: Any) -> dict[str, Any]:
        """Return what a job would search and cost; nothing runs."""
        found: dict[str, Any] = self.ask("POST", "/v1/inspect", json=request_of(model, budget, options))
        return found

    def job(self, job_id: str) -> "RemoteJob":
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

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON that the service answers. Raises what it tells of; OutageError where it is not there."""
        try:
            return checked(self._http.request(method, path, **options))
        except httpx2.HTTPError as error:
            raise unreachable(self._http.base_url, error) from error

    def lines(self, path: str, **params: Any) -> Iterator[str]:
        """Yield the lines of a stream."""
        try:
            with self._http.stream("GET", path, params=params) as answer:
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer)
                yield from answer.iter_lines()
        except httpx2.HTTPError as error:
            raise unreachable(self._http.base_url, error) from error

    def download(self, path: str, file: Path) -> None:
        """Write what an address gives to a file; what is there already is not asked for again."""
        start = file.stat().st_size if file.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self._http.stream("GET", path, headers=headers) as answer:
                if answer.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
                    return  # it is whole
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer)
                with file.open("ab" if answer.status_code == httpx2.codes.PARTIAL_CONTENT else "wb") as out:
                    for part in answer.iter_bytes():
                        out.write(part)
        except httpx2.HTTPError as error:
            raise unreachable(self._http.base_url, error) from error

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job of a service."""

    client: Client
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

    def delete(self) -> None:
        """Delete it, once it rests."""
        self.client.ask("DELETE", f"/v1/jobs/{self.job_id}")

    def export(self, point: str | None = None, budget: str | None = None, **options: Any) -> "RemoteExport":
        """Queue an export of a point; `options` are `target` and `refit`."""
        return RemoteExport(
            self.client, self._post("/exports", json={"point": point, "budget": budget, **options})["task"]
        )

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


@dataclass(frozen=True, slots=True)
class RemoteExport:
    """An export of a service."""

    client: Client
    task_id: str

    def status(self) -> dict[str, Any]:
        """Return how far it is, and what came of it."""
        found: dict[str, Any] = self.client.ask("GET", f"/v1/exports/{self.task_id}")
        return found

    def wait(self, timeout_seconds: float | None = None) -> Self:
        """Wait until it is done; return it.

        Raises:
            JobFailedError: it failed or was cancelled.
            TimeoutError: it goes on after so long.

        """
        deadline, pause = None if timeout_seconds is None else time.monotonic() + timeout_seconds, None
        while (found := self.status())["state"] not in TASK_RESTING:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Export {self.task_id} is {found['state']} after {timeout_seconds:.0f} s.")
            pause = next_pause(pause)
            time.sleep(pause)
        if found["state"] != "DONE":
            raise JobFailedError(f"Export {self.task_id} is {found['state']}: {found['error'] or 'it was stopped'}")
        return self

    def download(self, folder: str | Path) -> Path:
        """Write the files of an export that is done into a folder, and check them; what is there already goes on.

        Raises:
            OutputError: the folder cannot be made.
            VerificationError: a file is not what the service has.

        """
        found, out = self.client.ask("GET", f"/v1/exports/{self.task_id}/files")["files"], Path(folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be made ({error.strerror}). Give another folder.") from error
        for file in found:
            path = out / Path(file["name"]).name
            self.client.download(f"/v1/exports/{self.task_id}/files/{file['name']}", path)
            check_file(path, file["size_bytes"], file["sha256"])
        return out

    def cancel(self) -> dict[str, Any]:
        """Stop it; return its status."""
        found: dict[str, Any] = self.client.ask("POST", f"/v1/exports/{self.task_id}/cancel")
        return found
