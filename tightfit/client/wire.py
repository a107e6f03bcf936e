"""What both clients share: where the service is, how a request looks, and answers as values or as our errors."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

import space.errors
from space.errors import (
    AccessError,
    JobFailedError,
    OutageError,
    StoreError,
    TightfitError,
    UsageError,
    VerificationError,
)
from space.results.document import FrontDocument
from tightfit.report.notebook_front import Front

DEFAULT_URL = "http://127.0.0.1:8642"
RESTING = ("DONE", "FAILED", "CANCELLED", "PAUSED")
_TASK_RESTING = ("DONE", "FAILED", "CANCELLED")
_KINDS: dict[str, type[TightfitError]] = {
    name: kind
    for name, kind in vars(space.errors).items()
    if isinstance(kind, type) and issubclass(kind, TightfitError) and kind is not space.errors.LevelDamagedError
}
_KINDS |= {"RequestError": UsageError, "JsonError": UsageError}
_ACCESS = (401, 403)
_SECONDS = 180.0  # the first look at a model takes long
_CONNECT_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.2, 2.0, 1.3


def connection(url: str | None, token: str | None) -> dict[str, Any]:
    """Return the options of an HTTP client for a service.

    Args:
        url: of the service; None: TIGHTFIT_URL, or this machine's.
        token: None: TIGHTFIT_TOKEN, or none.

    """
    address = (url or os.environ.get("TIGHTFIT_URL") or DEFAULT_URL).rstrip("/")
    secret = token or os.environ.get("TIGHTFIT_TOKEN")
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return {
        "base_url": address,
        "headers": headers,
        "timeout": httpx2.Timeout(_SECONDS, connect=_CONNECT_SECONDS),
        "trust_env": False,  # no proxy between a program and its own machine
    }


def request_of(model: str, budget: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request for a job as JSON; paths of folders and files are made whole."""
    found: dict[str, Any] = {"model": model, "budget": budget, **options}
    for name in ("model", "calibration", "judge"):
        text = found.get(name)
        if isinstance(text, str | Path) and Path(text).exists():
            found[name] = str(Path(text).absolute())
    return found


def checked(answer: httpx2.Response) -> Any:
    """Return the JSON of an answer that was read. Raises the error that the service tells of."""
    if answer.is_success:
        return answer.json() if answer.content else None
    raise error_of(answer)


def error_of(answer: httpx2.Response) -> TightfitError:
    """Return the error that the service tells of: of the same kind as there, as far as it is known here."""
    try:
        problem = answer.json()
        kind, detail = str(problem["type"]), str(problem["detail"])
    except (ValueError, LookupError, TypeError):
        return StoreError(f"{answer.url}: answers {answer.status_code}, not as tightfit does. Is it the right address?")
    name = "".join(part.capitalize() for part in kind.rpartition(":")[2].split("-")) + "Error"
    return _KINDS.get(name, AccessError if answer.status_code in _ACCESS else TightfitError)(detail)


def unreachable(url: object, error: httpx2.HTTPError) -> OutageError:
    """Return the error of a service that does not answer."""
    return OutageError(f"{url}: no service answers there ({error}). Start `tightfit serve`, or set TIGHTFIT_URL.")


def front_of(value: dict[str, Any]) -> Front:
    """Return a front from its JSON."""
    return Front.of(FrontDocument.from_json(value), str(value["state"]))


def next_pause(pause: float | None) -> float:
    """Return how long to wait before the next look at something that changes: shortly at first.

    >>> next_pause(None), next_pause(5.0)
    (0.2, 2.0)
    """
    return _FIRST_PAUSE if pause is None else min(_GROWTH * pause, _LONGEST_PAUSE)


def task_rests(found: Mapping[str, Any]) -> bool:
    """Tell whether an export or a recovery has ended, by its status."""
    return found["state"] in _TASK_RESTING


def check_task(name: str, found: Mapping[str, Any]) -> None:
    """Hold the status of a task that ended against what was hoped for. Raises JobFailedError unless it is DONE."""
    if found["state"] != "DONE":
        raise JobFailedError(f"{name} {found['task']} is {found['state']}: {found['error'] or 'it was stopped'}")


def check_file(path: Path, size_bytes: int, sha256: str | None) -> None:
    """Hold a downloaded file against what the service says of it. Raises VerificationError."""
    if path.stat().st_size != size_bytes:
        raise VerificationError(
            f"{path}: has {path.stat().st_size:,} bytes in place of {size_bytes:,}. Download it again."
        )
    with path.open("rb") as file:
        if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise VerificationError(
                f"{path}: is not what the service has (its sha256 differs). Delete it, and try again."
            )
