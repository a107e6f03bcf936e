"""Exports and recoveries of a service: looked at, waited for, stopped; files of exports fetched."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from space.errors import OutputError
from tightfit.client.asking import Asking
from tightfit.client.wire import check_file, check_task, next_pause, task_rests


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """A task on a point of a job of a service."""

    client: Asking
    task_id: str
    path: ClassVar[str]
    name: ClassVar[str]

    def status(self) -> dict[str, Any]:
        """Return how far it is, and what came of it."""
        found: dict[str, Any] = self.client.ask("GET", f"{self.path}/{self.task_id}")
        return found

    def wait(self, timeout_seconds: float | None = None) -> Self:
        """Wait until it is done; return it.

        Raises:
            JobFailedError: it failed or was cancelled.
            TimeoutError: it goes on after so long.

        """
        deadline, pause = None if timeout_seconds is None else time.monotonic() + timeout_seconds, None
        while not task_rests(found := self.status()):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{self.name} {self.task_id} is {found['state']} after {timeout_seconds:.0f} s.")
            pause = next_pause(pause)
            time.sleep(pause)
        check_task(self.name, found)
        return self

    def cancel(self) -> dict[str, Any]:
        """Stop it; return its status."""
        found: dict[str, Any] = self.client.ask("POST", f"{self.path}/{self.task_id}/cancel")
        return found

    def resume(self) -> dict[str, Any]:
        """Queue it again where it failed, was stopped or left behind; return its status."""
        found: dict[str, Any] = self.client.ask("POST", f"{self.path}/{self.task_id}/resume")
        return found


@dataclass(frozen=True, slots=True)
class RemoteExport(RemoteTask):
    """An export of a service."""

    path, name = "/v1/exports", "Export"

    def download(self, folder: str | Path) -> Path:
        """Write the files of an export that is done into a folder, and check them; what is there already goes on.

        Raises:
            OutputError: the folder cannot be made.
            VerificationError: a file is not what the service has.

        """
        found, out = self.client.ask("GET", f"{self.path}/{self.task_id}/files")["files"], Path(folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be made ({error.strerror}). Give another folder.") from error
        for file in found:
            path = out / Path(file["name"]).name
            self.client.download(f"{self.path}/{self.task_id}/files/{file['name']}", path)
            check_file(path, file["size_bytes"], file["sha256"])
        return out


@dataclass(frozen=True, slots=True)
class RemoteRecovery(RemoteTask):
    """A recovery of a service; once it is done, `status()["result"]` holds its point and each method's figures."""

    path, name = "/v1/recoveries", "Recovery"
