"""Digests of an export's weight files: written beside their names in config.json, compared before they are loaded."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from space.errors import ModelError


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, as `sha256sum` tells it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(paths: Iterable[Path], digests: Mapping[str, str]) -> None:
    """Compare files with what was recorded of them by name; nothing recorded is nothing compared.

    Raises:
        ModelError: names the file that differs.

    """
    for path in paths if digests else ():
        if file_digest(path) != digests.get(path.name):
            raise ModelError(
                f"{path}: damaged: its sha256 is not the one that its config.json records. "
                "Download it again, or export it again."
            )
