"""Uploads in a home: what arrived of each, and the model's folder once all is there and is what was announced.

    uploads/ID/.upload.json       what was announced
    uploads/ID/.arriving/NAME.part   the bytes of a file so far
    uploads/ID/.arriving/NAME        a file that is whole, and is what was announced
    uploads/ID/MODEL/             the model: put in place once all of its files are

Nothing else is remembered, so that a process that is killed at any moment leaves what the next one goes on with.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from space.budget import format_bytes
from space.errors import ModelError, NotFoundError, StateError, TooLargeError
from storage.private import make_private
from tightfit.uploads.announced import Announced, AnnouncedFile
from tightfit.uploads.part_file import PartFile, check_begin
from workers.whole_files import writing

SCHEME = "upload:"
"""What the name of an uploaded model begins with, where a request names one."""
KEPT_FREE_BYTES = 2**30
_ID = re.compile(r"u[0-9a-f]{12}")
_ANNOUNCED, _ARRIVING, _PART = ".upload.json", ".arriving", ".part"
_FREE = "Free some disk space on the service's machine, or ask an administrator to."


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload and how far it is.

    Attributes:
        announced: what it is going to be.
        received: file -> bytes that are there.
        is_ready: all is there, was checked, and can be submitted.
        folder: of the model; it is there once that is ready.

    """

    announced: Announced
    received: dict[str, int]
    is_ready: bool
    folder: Path

    @property
    def upload_id(self) -> str:
        """Return its name."""
        return self.announced.upload_id


@dataclass(frozen=True, slots=True)
class UploadStore:
    """The uploads of a home, which lie in a `root` folder of it."""

    root: Path

    def create(self, announced: Announced) -> Upload:
        """Begin an upload; the same one that was begun before goes on.

        Raises:
            ModelError, TooLargeError: see `Announced.check`; TooLargeError also where the disk has no room.
            OutputError: the disk cannot be written.

        """
        announced.check()
        place = self.root / announced.upload_id
        if not self.is_there(announced.upload_id):
            with writing(place, _FREE):
                make_private(self.root)
                needed, free = announced.size_bytes + KEPT_FREE_BYTES, shutil.disk_usage(self.root).free
                if needed > free:
                    raise TooLargeError(
                        f"{announced.name}: {format_bytes(announced.size_bytes)}, and the service's disk has "
                        f"{format_bytes(free)} left, of which {format_bytes(KEPT_FREE_BYTES)} stay free. {_FREE}"
                    )
                make_private(place / _ARRIVING)
                temporary = place / f".{secrets.token_hex(4)}.tmp"  # of any number at once each has its own
                temporary.write_text(json.dumps(announced.to_json()), encoding="utf-8")
                temporary.replace(place / _ANNOUNCED)
        return self.find(announced.upload_id)

    def is_there(self, upload_id: str) -> bool:
        """Tell whether an upload was begun."""
        return (self.root / upload_id / _ANNOUNCED).exists()

    def find(self, upload_id: str) -> Upload:
        """Return an upload. Raises NotFoundError."""
        found = self._read(upload_id) if _ID.fullmatch(upload_id) else None
        if found is None:
            raise NotFoundError(
                f"There is no upload {upload_id[:100]!a} of yours. GET /v1/uploads lists those there are."
            )
        return self._settled(found)

    def list(self) -> Sequence[Upload]:
        """Return all uploads, the newest announced first."""
        places = [path for path in self.root.glob("u*") if (path / _ANNOUNCED).exists()]
        places.sort(key=lambda path: (path / _ANNOUNCED).stat().st_mtime_ns, reverse=True)
        found = (self._read(path.name) for path in places)
        return [self._settled(announced) for announced in found if announced is not None]

    def delete(self, upload_id: str) -> None:
        """Delete an upload: what was announced first, so that what is left of it counts for nothing."""
        place = self.root / self.find(upload_id).upload_id
        (place / _ANNOUNCED).unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def receiving(self, upload_id: str, name: str, offset: int) -> Iterator[PartFile]:
        """Give a file's part to write from `offset` on; what was written stays, whatever happens.

        Raises:
            NotFoundError: no such upload, or no such file of it.
            StateError: so many bytes are not there yet or more are, or somebody else sends this file.
            ModelError: the file is no safetensors file, or not what was announced; it is to be sent again.

        """
        upload = self.find(upload_id)
        file = _file_of(upload, name)
        if offset != upload.received[name]:
            raise StateError(
                f"{name}: {upload.received[name]:,} bytes are here, so that the next part begins there and not at "
                f"{offset:,}."
            )
        if upload.is_ready or (file.size_bytes == offset and self._place(upload, name).exists()):
            yield PartFile.whole(file)
            return
        part = self._place(upload, name + _PART)
        with writing(part, _FREE):
            make_private(part.parent)
            with PartFile.opened(part, file, offset) as found:
                yield found
                self._take(upload, file, part)

    def _take(self, upload: Upload, file: AnnouncedFile, part: Path) -> None:
        """Take what arrived of a file: refuse what it cannot be, put it in place once it is whole."""
        size = part.stat().st_size
        if file.is_weights and not check_begin(part, file.size_bytes):
            part.unlink()
            raise ModelError(
                f"{file.name}: not a safetensors file. What arrived of it was deleted; send the right one."
            )
        if size < file.size_bytes:
            return
        with part.open("rb") as found:
            os.fsync(found.fileno())
            is_same = hashlib.file_digest(found, "sha256").hexdigest() == file.sha256
        if not is_same:
            part.unlink()
            raise ModelError(f"{file.name}: not what was announced (its sha256 differs). Send it again from the start.")
        part.replace(self._place(upload, file.name))
        self._settled(upload.announced)

    def holds(self, path: str) -> str | None:
        """Return the upload that a name or a path of a model is of; None where it is of none."""
        if path.startswith(SCHEME):
            return path.removeprefix(SCHEME)
        try:
            inside = Path(path).relative_to(self.root).parts
        except ValueError:
            return None
        return inside[0] if len(inside) == 2 and ".." not in inside else None  # noqa: PLR2004 (upload and model)

    def _read(self, upload_id: str) -> Announced | None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = Announced.from_json(json.loads((self.root / upload_id / _ANNOUNCED).read_text(encoding="utf-8")))
            return found if found.upload_id == upload_id else None
        return None

    def _settled(self, announced: Announced) -> Upload:
        """Return an upload as it is, its model put in place where all of it is there."""
        place = self.root / announced.upload_id
        folder, arriving = place / announced.name, place / _ARRIVING
        whole = [file.name for file in announced.files if (arriving / file.name).exists()]
        if not folder.exists() and len(whole) == len(announced.files):
            with suppress(OSError):  # somebody else did so a moment ago
                for leftover in arriving.glob(f"*{_PART}"):
                    leftover.unlink()
                arriving.rename(folder)
        is_ready = folder.exists()
        received = {f.name: f.size_bytes if is_ready else _received(arriving, f) for f in announced.files}
        return Upload(announced, received, is_ready, folder)

    def _place(self, upload: Upload, name: str) -> Path:
        return self.root / upload.upload_id / _ARRIVING / name


def _received(arriving: Path, file: AnnouncedFile) -> int:
    if (arriving / file.name).exists():
        return file.size_bytes
    with suppress(OSError):
        return (arriving / (file.name + _PART)).stat().st_size
    return 0


def _file_of(upload: Upload, name: str) -> AnnouncedFile:
    for file in upload.announced.files:
        if file.name == name:
            return file
    raise NotFoundError(f"Upload {upload.upload_id} has no file {name[:100]!a}: it was not announced.")
