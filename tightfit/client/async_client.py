"""A service's jobs, fronts and exports from asynchronous Python: the verbs of `sync_client`, awaited."""

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import httpx2

from space.errors import JobFailedError
from tightfit.client.wire import (
    RESTING,
    check_task,
    checked,
    connection,
    front_of,
    next_pause,
    request_of,
    task_rests,
    unreachable,
)
from tightfit.report.notebook_front import Front


class AsyncClient:
    """Asks a service; see `Client`."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Know where the service is; see `Client`."""
        self._http = httpx2.AsyncClient(**connection(url, token))

    async def submit(self, model: str, budget: str, **options: Any) -> "AsyncRemoteJob":
        """Submit a job; `options` are the fields of `JobSpec`. The same request is the same job."""
        found = await self.ask("POST", "/v1/jobs", json=request_of(model, budget, options))
        return AsyncRemoteJob(self, found["job"])

    async def inspect(self, model: str, budget: str, **options: Any) -> dict[str, Any]:
        """Return what a job would search and cost; nothing runs."""
        found: dict[str, Any] = await self.ask("POST", "/v1/inspect", json=request_of(model, budget, options))
        return found

    def job(self, job_id: str) -> "AsyncRemoteJob":
        """Return a job by its id; it is not asked for yet."""
        return AsyncRemoteJob(self, job_id)

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON that the service answers. Raises what it tells of; OutageError where it is not there."""
        try:
            return checked(await self._http.request(method, path, **options))
        except httpx2.HTTPError as error:
            raise unreachable(self._http.base_url, error) from error

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass(frozen=True, slots=True)
class AsyncRemoteJob:
    """A job of a service; see `RemoteJob`."""

    client: AsyncClient
    job_id: str

    async def status(self) -> dict[str, Any]:
        """Return how far it is."""
        found: dict[str, Any] = await self.client.ask("GET", f"/v1/jobs/{self.job_id}")
        return found

    async def wait(self) -> Self:
        """Wait until the job rests; return it. Raises JobFailedError where it failed; `asyncio.timeout` limits it."""
        pause = None
        while (found := await self.status())["state"] not in RESTING:
            pause = next_pause(pause)
            await asyncio.sleep(pause)
        if found["state"] == "FAILED":
            raise JobFailedError(f"Job {self.job_id} failed: {found['error']}")
        return self

    async def front(self) -> Front:
        """Return the front as it is now. Raises JobFailedError where there is none yet."""
        return front_of(await self.client.ask("GET", f"/v1/jobs/{self.job_id}/front"))

    async def again(self, **changes: Any) -> "AsyncRemoteJob":
        """Submit a job like this one with other values: another `budget`, more `max_trials`."""
        return AsyncRemoteJob(self.client, (await self._post("/again", json=changes))["job"])

    async def pause(self) -> dict[str, Any]:
        """Stop it until it is resumed; return its status."""
        return await self._post("/pause")

    async def resume(self) -> dict[str, Any]:
        """Queue it again; return its status."""
        return await self._post("/resume")

    async def cancel(self) -> dict[str, Any]:
        """Stop it; return its status."""
        return await self._post("/cancel")

    async def describe(self, **told: str | None) -> dict[str, Any]:
        """Set its `label` or `note`, or both; None takes it away. Return its status."""
        found: dict[str, Any] = await self.client.ask("PATCH", f"/v1/jobs/{self.job_id}", json=told)
        return found

    async def delete(self) -> None:
        """Delete it, once it rests."""
        await self.client.ask("DELETE", f"/v1/jobs/{self.job_id}")

    async def export(self, point: str | None = None, budget: str | None = None, **options: Any) -> "AsyncRemoteTask":
        """Queue an export of a point; `options` are `target` and `refit`."""
        found = await self._post("/exports", json={"point": point, "budget": budget, **options})
        return AsyncRemoteTask(self.client, found["task"], "/v1/exports", "Export")

    async def recover(self, point: str | None = None, **options: Any) -> "AsyncRemoteTask":
        """Queue a recovery of a point; `options` are `method`, `minutes`, `text` and `seed`."""
        found = await self._post("/recoveries", json={"point": point, **options})
        return AsyncRemoteTask(self.client, found["task"], "/v1/recoveries", "Recovery")

    async def _post(self, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self.client.ask("POST", f"/v1/jobs/{self.job_id}{path}", **options)
        return found


@dataclass(frozen=True, slots=True)
class AsyncRemoteTask:
    """An export or a recovery of a service; see `RemoteTask`."""

    client: AsyncClient
    task_id: str
    path: str
    name: str

    async def status(self) -> dict[str, Any]:
        """Return how far it is, and what came of it."""
        found: dict[str, Any] = await self.client.ask("GET", f"{self.path}/{self.task_id}")
        return found

    async def wait(self) -> Self:
        """Wait until it is done; return it. Raises JobFailedError where it failed or was cancelled."""
        pause = None
        while not task_rests(found := await self.status()):
            pause = next_pause(pause)
            await asyncio.sleep(pause)
        check_task(self.name, found)
        return self

    async def cancel(self) -> dict[str, Any]:
        """Stop it; return its status."""
        found: dict[str, Any] = await self.client.ask("POST", f"{self.path}/{self.task_id}/cancel")
        return found

    async def resume(self) -> dict[str, Any]:
        """Queue it again where it failed, was stopped or left behind; return its status."""
        found: dict[str, Any] = await self.client.ask("POST", f"{self.path}/{self.task_id}/resume")
        return found
