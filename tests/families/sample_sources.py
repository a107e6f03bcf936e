"""Small sources of samples, one of each kind."""

from pathlib import Path

from tests.workers.tiny_models import write_text_file


def source_of(kind: str, folder: Path) -> Path:
    """Return a file or folder that samples of a kind are made of, made in a folder."""
    return _SOURCES.get(kind, _texts)(folder)


def _texts(folder: Path) -> Path:
    return write_text_file(folder / "text.txt")


_SOURCES = {"texts": _texts}
