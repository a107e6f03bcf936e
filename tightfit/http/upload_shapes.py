"""What the service answers about models that are sent to it."""

from typing import Literal

from pydantic import ConfigDict, Field

from tightfit.http.shapes import Shape


class FileToSend(Shape):
    """A file of a model that is going to be sent."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str = Field(max_length=200)
    """In no folder: `config.json`, `*.safetensors`, files of the tokenizer, the card."""
    size_bytes: int = Field(ge=0, le=2**48)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the whole file."""


class UploadRequest(Shape):
    """A model that is going to be sent."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str = Field(max_length=100, examples=["my-model"])
    """What the model is called."""
    files: list[FileToSend] = Field(min_length=1, max_length=10_000)


class FileStatus(Shape):
    """How much of a file is here."""

    name: str
    size_bytes: int
    sha256: str
    received_bytes: int
    """The next part begins there."""


class UploadStatus(Shape):
    """How much of a model is here."""

    upload: str
    """The upload's id."""
    model: str
    """What a request names it by: `upload:` and the id."""
    name: str
    user: str | None
    state: Literal["RECEIVING", "READY"]
    """READY: all is here, and is what was announced."""
    size_bytes: int
    received_bytes: int
    files: list[FileStatus]


class UploadList(Shape):
    """Uploads, newest first."""

    uploads: list[UploadStatus]
