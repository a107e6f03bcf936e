"""Sending the folder of a model: announced, then part by part what the service does not have yet."""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from space.budget import format_bytes
from space.errors import ModelError, OutageError, StateError
from tightfit.client.wire import next_pause
from tightfit.uploads.announced import is_accepted
from workers.bounded_files import user_path

PART_BYTES = 16 * 2**20
_TRIES = 8  # at one place of a file that the service refuses, before it is given up
_PATIENCE_SECONDS = 120.0  # with a service that is away: on a busy machine it starts again in a minute
Ask = Callable[..., Any]
Tell = Callable[[str], None]


def upload_folder(ask: Ask, folder: Path, tell: Tell) -> str:
    """Send the folder of a model by `ask`, the verb of a client; return what a request names it by.

    Files that no model needs (a readme in another language, say) are left out, and `tell` hears which. An outage of the
    service is outlasted for a while.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder. Give the folder of a model.")
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    left_out = [path.name for path in files if not is_accepted(path.name)]
    if left_out:
        tell(f"Left out, since no upload has such files: {', '.join(left_out)}")
    sent = [path for path in files if is_accepted(path.name)]
    announced = [{"name": p.name, "size_bytes": p.stat().st_size, "sha256": _sha256(p)} for p in sent]
    if not announced:
        raise ModelError(f"{folder}: holds no file of a model. Give the folder that has its config.json.")
    found = ask("POST", "/v1/uploads", json={"name": _name(folder), "files": announced})
    for file in found["files"]:
        if file["received_bytes"] < file["size_bytes"] or found["state"] != "READY":
            tell(f"{file['name']}: {format_bytes(file['size_bytes'] - file['received_bytes'])}")
            _send(ask, found["upload"], folder / file["name"], file["received_bytes"], file["size_bytes"])
    ready = ask("GET", f"/v1/uploads/{found['upload']}")
    if ready["state"] != "READY":
        raise StateError(f"{folder}: the service has all of its files and does not call it ready. Upload it again.")
    return str(ready["model"])


def _send(ask: Ask, upload: str, path: Path, offset: int, size_bytes: int) -> None:
    """Send a file from `offset` on; where that breaks off, from where the service says."""
    pause, tries, moved_at = None, 0, time.monotonic()
    while True:
        try:
            for part in _parts(path, offset):
                content_digest = f"sha-256=:{base64.b64encode(hashlib.sha256(part).digest()).decode()}:"
                headers = {"Content-Type": "application/octet-stream", "Content-Digest": content_digest}
                query = {"offset": offset}
                ask("PUT", f"/v1/uploads/{upload}/files/{path.name}", params=query, content=part, headers=headers)
                offset, tries, moved_at = offset + len(part), 0, time.monotonic()
            if offset < size_bytes:
                raise ModelError(f"{path}: became smaller while it was sent. Upload the folder again.")
        except (OutageError, StateError) as error:
            tries += isinstance(error, StateError)
            if tries > _TRIES or time.monotonic() - moved_at > _PATIENCE_SECONDS:
                raise
            pause = next_pause(pause)
            time.sleep(pause)
            offset = _offset(ask, upload, path.name, offset)
        else:
            return


def _offset(ask: Ask, upload: str, name: str, before: int) -> int:
    """Return how much of a file the service has; what was known before where it does not answer."""
    try:
        files = ask("GET", f"/v1/uploads/{upload}")["files"]
    except OutageError:
        return before
    return int(next(file["received_bytes"] for file in files if file["name"] == name))


def _parts(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the parts of a file from `offset` on; of an empty one an empty part."""
    with path.open("rb") as file:
        file.seek(offset)
        part = file.read(PART_BYTES)
        yield part
        while len(part) == PART_BYTES and (part := file.read(PART_BYTES)):
            yield part


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(folder: Path) -> str:
    """Return what a model is called: the folder's name, in characters that any disk has.

    >>> _name(Path("/models/Älteste Version"))
    'lteste-Version'
    """
    text = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in folder.resolve().name)
    return text.strip(".-_")[:100] or "model"
