"""The file that parts of an upload are written to, by one sender at a time."""

import base64
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from space.errors import ModelError, StateError, TooLargeError
from tightfit.uploads.announced import AnnouncedFile

MAX_PART_BYTES = 64 * 2**20
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]{44}):")
_LENGTH_BYTES, _MAX_HEADER_BYTES = 8, 64 * 2**20  # how a safetensors file begins: its header's length, then the header


@dataclass(slots=True)
class PartFile:
    """Takes the bytes of one part.

    Attributes:
        file: what was announced of the whole file.
        number: of the open file; None where all of it is here already.
        offset: where the part begins.
        size: bytes of it so far.

    """

    file: AnnouncedFile
    number: int | None
    offset: int
    size: int = 0
    _sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @staticmethod
    def whole(file: AnnouncedFile) -> "PartFile":
        """Return what takes nothing: all of the file is here."""
        return PartFile(file, None, file.size_bytes)

    @staticmethod
    @contextmanager
    def opened(path: Path, file: AnnouncedFile, offset: int) -> "Iterator[PartFile]":
        """Open the file that parts are added to, for this sender alone.

        Raises:
            StateError: somebody else has it, or has added to it.

        """
        number = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StateError(f"{file.name}: is being sent by somebody else. Try again in a moment.") from error
            is_there = path.exists() and os.path.samestat(os.fstat(number), path.stat())
            if not is_there or os.fstat(number).st_size != offset:
                raise StateError(f"{file.name}: another part of it has just arrived. Ask how much is here, and go on.")
            yield PartFile(file, number, offset)
        finally:
            os.close(number)

    def check_room(self, num_bytes: int) -> None:
        """Refuse more bytes than the file still has, or than a part may have. Raises TooLargeError."""
        if self.offset + self.size + num_bytes > self.file.size_bytes:
            raise TooLargeError(
                f"{self.file.name}: has {self.file.size_bytes:,} bytes; this part would end behind them."
            )
        if self.size + num_bytes > MAX_PART_BYTES:
            raise TooLargeError(f"{self.file.name}: a part has at most {MAX_PART_BYTES:,} bytes. Send less at a time.")

    def write(self, data: bytes) -> None:
        """Add bytes. Raises TooLargeError; see `check_room`."""
        self.check_room(len(data))
        if not data:
            return
        assert self.number is not None  # noqa: S101 (where nothing is missing, more is too much)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.number, rest) :]
        self._sha256.update(data)
        self.size += len(data)

    def check(self, content_digest: str | None) -> None:
        """Hold the part against its digest (RFC 9530), where one came with it; one that differs is taken back.

        Raises:
            ModelError: it differs, or is none that can be read.

        """
        if content_digest is None or self.number is None:
            return
        found = _DIGEST.search(content_digest)
        if found is None or base64.b64encode(self._sha256.digest()).decode() != found.group(1):
            os.ftruncate(self.number, self.offset)
            raise ModelError(f"{self.file.name}: this part is not what its Content-Digest says. Send the part again.")


def check_begin(path: Path, size_bytes: int) -> bool:
    """Tell whether a file begins as one of safetensors does: a length that its header can have, then an object.

    The header itself is read when the model is submitted, in a process apart.
    """
    with path.open("rb") as file:
        begin = file.read(_LENGTH_BYTES + 1)
    if len(begin) <= _LENGTH_BYTES:
        return size_bytes > _LENGTH_BYTES
    length = int.from_bytes(begin[:_LENGTH_BYTES], "little")
    return length <= min(_MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES) and begin[_LENGTH_BYTES:] == b"{"
