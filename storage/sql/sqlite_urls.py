"""SQLite's files as URLs and back: what SQLAlchemy and MLflow would read as more than a path is quoted."""

from pathlib import Path
from urllib.parse import quote, unquote

_SQLITE = "sqlite:///"
_AS_THEY_ARE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) not in "%?#")


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file.

    >>> sqlite_url(Path("/a b/what?/50%.db"))
    'sqlite:////a b/what%3F/50%25.db'

    """
    return _SQLITE + quote(str(path), safe=_AS_THEY_ARE)


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL; None for SQLite's own URI (a database that exists) and for other databases.

    >>> str(sqlite_path("sqlite:////a b/what%3F/50%25.db?timeout=3"))
    '/a b/what?/50%.db'

    """
    path = unquote(url.removeprefix(_SQLITE).partition("?")[0])
    return Path(path) if url.startswith(_SQLITE) and not path.startswith("file:") else None
