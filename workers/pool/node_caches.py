"""Which cache folder the workers of a node use: the controller's, or their own.

A controller leaves a marker in its cache folder while it has workers, and whoever sees the marker sees the folder.
Only text is carried between folders: all else is made where it is needed (see `cluster_worker`).
"""

import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from space.errors import OutputError
from workers.bounded_files import user_path
from workers.pool.cache_locks import use
from workers.text.tokens import TokenSet
from workers.whole_files import replacing


def cluster_address() -> str | None:
    """Return the cluster that RAY_ADDRESS names; None where a job has a private Ray on this machine."""
    address = os.environ.get("RAY_ADDRESS", "")
    return None if address in ("", "local") else address


def leave_marker(cache_folder: str) -> Path:
    """Return a new file in a cache folder, for workers to look for.

    Raises:
        OutputError: the folder cannot be written.

    """
    folder = Path(cache_folder)
    marker = folder / f".shared-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}): name another home.") from error
    return marker


def folder_here(cache_folder: str, marker: str) -> str | None:
    """Return the cache folder that this node uses; None where it sees no marker and can write none of its own.

    Its own is under TIGHTFIT_HOME as Ray was started with here, else in the user's home or the temporary folder.
    """
    if not marker or Path(marker).exists():
        return cache_folder
    for home in (os.environ.get("TIGHTFIT_HOME") or "~/.tightfit", f"{tempfile.gettempdir()}/tightfit-{os.getuid()}"):
        folder = user_path(home).absolute() / "cache" / Path(cache_folder).name
        with suppress(OutputError):
            use(folder).close()
            return str(folder)
    return None


def carried(tokens: TokenSet, folder: Path, content: Callable[[], bytes]) -> TokenSet:
    """Return tokens as they are in a cache folder, writing their file there if it is not."""
    path = folder / Path(tokens.path).name
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_bytes(content())
    return replace(tokens, path=str(path))


@dataclass(frozen=True, slots=True)
class CarriedText:
    """Tokens with the content of their file: how a worker of a cluster returns them."""

    tokens: TokenSet
    content: bytes

    def unpacked(self, cache_folder: str) -> TokenSet:
        """Return the tokens as they are now in a cache folder."""
        return carried(self.tokens, Path(cache_folder), lambda: self.content)
