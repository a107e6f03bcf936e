"""Bytes by digest in a folder: `<root>/<first two digits>/<sha256><suffix>`, written whole or not at all."""

import hashlib
import os
import re
from pathlib import Path
from uuid import uuid4

from space.errors import NotFoundError, StoreError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+)*")


class FileArtifacts:
    """Keeps artifacts as files that are named by their content."""

    def __init__(self, root: Path) -> None:
        """Keep artifacts under `root`; the folder is made when the first one is put."""
        self._root = root

    def put(self, data: bytes, suffix: str = "") -> Path:
        """Write bytes and return their path; its first 64 characters are their sha256.

        Args:
            data: the content.
            suffix: end of the file's name, such as `.json`.

        Raises:
            StoreError: the suffix is not one, or the folder cannot be written.

        """
        path = self._path(hashlib.sha256(data).hexdigest(), suffix)
        part = path.with_name(f".{uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"Artifact {path} cannot be written ({error.strerror}): check its folder.") from error
        return path

    def get(self, digest: str, suffix: str = "") -> bytes:
        """Return the bytes of a digest.

        Raises:
            NotFoundError: there is no such artifact.
            StoreError: the file cannot be read or does not hold what its name says.

        """
        path = self._path(digest, suffix)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"There is no artifact {path.name} in {self._root}.") from error
        except OSError as error:
            raise StoreError(f"Artifact {path} cannot be read ({error.strerror}): check its folder.") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"Artifact {path} is damaged: delete it and make it again.")
        return data

    def _path(self, digest: str, suffix: str) -> Path:
        if _DIGEST.fullmatch(digest) is None:
            raise NotFoundError(f"{digest!r} is not a digest: write 64 lower-case hexadecimal digits.")
        if _SUFFIX.fullmatch(suffix) is None:
            raise StoreError(f"{suffix!r} cannot end an artifact's name: write for example `.json`.")
        return self._root / digest[:2] / f"{digest}{suffix}"
