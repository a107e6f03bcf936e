"""What an upload is going to be, announced before its first byte: names, sizes and digests of a model's files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from space.budget import format_bytes
from space.digest import digest
from space.errors import ModelError, TooLargeError
from workers.bounded_files import MAX_JSON_BYTES
from workers.models.companions import COMPANIONS, PAPERS

MAX_FILES = 1000
WEIGHTS = "*.safetensors"
ACCEPTED = (WEIGHTS, "config.json", "model.safetensors.index.json", *(p for p in COMPANIONS if "/" not in p), *PAPERS)
"""Patterns of the files that an upload may have."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class AnnouncedFile:
    """A file of an upload.

    Attributes:
        name: without a folder.
        size_bytes: of the whole file.
        sha256: of the whole file, 64 hexadecimal digits.

    """

    name: str
    size_bytes: int
    sha256: str

    @property
    def is_weights(self) -> bool:
        """Tell whether it holds tensors."""
        return fnmatchcase(self.name, WEIGHTS)


@dataclass(frozen=True, slots=True)
class Announced:
    """A model that somebody is going to send.

    Attributes:
        name: of the model's folder.
        user: who sends it, where that is known.
        files: in the order of their names.

    """

    name: str
    user: str | None
    files: Sequence[AnnouncedFile]

    @property
    def upload_id(self) -> str:
        """Return its name, the same for the same user, model and contents: who begins again goes on."""
        return f"u{digest(self.to_json())[:_DIGITS]}"

    @property
    def size_bytes(self) -> int:
        """Return what all files take."""
        return sum(file.size_bytes for file in self.files)

    def check(self) -> None:
        """Refuse what is no model, or asks for more than one has.

        Raises:
            ModelError: a name that no file of a model has, or two of one name; no config or no weights.
            TooLargeError: too many files, or a text file that is too large to be read.

        """
        if _MODEL.fullmatch(self.name) is None:
            raise ModelError(f"name {self.name[:100]!a}: write letters, digits, `.`, `_` and `-`, at most 100.")
        if len(self.files) > MAX_FILES:
            raise TooLargeError(f"{self.name}: has {len(self.files):,} files, and may have {MAX_FILES:,}.")
        names = [file.name for file in self.files]
        for file in self.files:
            _check_file(file)
        if len(set(map(str.lower, names))) < len(names):
            raise ModelError(f"{self.name}: two of its files have one name. Send each once.")
        if "config.json" not in names or not any(file.is_weights for file in self.files):
            raise ModelError(f"{self.name}: a model has a config.json and *.safetensors. Send the folder of one model.")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        files = [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in self.files]
        return {"name": self.name, "user": self.user, "files": files}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Announced":
        """Read the JSON object. Raises KeyError, TypeError: it is none of ours."""
        return Announced(value["name"], value["user"], [AnnouncedFile(**file) for file in value["files"]])


def is_accepted(name: str) -> bool:
    """Tell whether a model's upload may have a file of this name.

    >>> [is_accepted(n) for n in ("model-00001-of-2.safetensors", "pytorch_model.bin", "../config.json", ".env")]
    [True, False, False, False]
    """
    return _NAME.fullmatch(name) is not None and any(fnmatchcase(name, pattern) for pattern in ACCEPTED)


def _check_file(file: AnnouncedFile) -> None:
    if not is_accepted(file.name):
        raise ModelError(
            f"{file.name[:100]!a}: not taken. A model's upload has *.safetensors, config.json, tokenizer and card "
            "files, in no folder; leave this one out."
        )
    if not file.is_weights and file.size_bytes > MAX_JSON_BYTES:
        raise TooLargeError(
            f"{file.name}: {format_bytes(file.size_bytes)}, and such a file may have {format_bytes(MAX_JSON_BYTES)}. "
            "Is it what its name says?"
        )
