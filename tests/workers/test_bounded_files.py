"""Files that users name are opened without waiting, and read within bounds."""

import os
import socket
from pathlib import Path

import pytest

from space.errors import UsageError
from workers.bounded_files import read_bounded, read_json, user_path


def test_regular_files_up_to_the_bound(tmp_path: Path) -> None:
    """Through a link too."""
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_bounded(tmp_path / "link", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 B"):
        read_bounded(tmp_path / "file", 4)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """Neither waits for a writer nor reads without end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zero", Path("/dev/zero"), Path("/dev/tty"), tmp_path):
        with pytest.raises((ValueError, OSError), match=r"no regular file|No such device"):
            read_json(path)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device"):
            read_json(tmp_path / "socket")


@pytest.mark.parametrize("text", ["~/x", "x", "./x/", "/", "~"])
def test_paths_of_users(text: str) -> None:
    """They mean what a shell would make of them."""
    assert user_path(text) == Path(os.path.expanduser(text))  # noqa: PTH111 (the other way to the same)


@pytest.mark.parametrize(
    "text",
    ["~nobodyx/", "~nobodyx", "a\0b", "x" * 300, "a/" * 3000, "\ud800", "caf\udce9", f"/{'y' * 256}/z"],
)
def test_paths_that_none_can_be(text: str) -> None:
    """One short sentence that any terminal can show."""
    with pytest.raises(UsageError, match="cannot be used as a path") as caught:
        user_path(text)
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


def test_paths_that_are_not_there() -> None:
    """They may be made."""
    assert user_path("/dev/null/below/a/file") == Path("/dev/null/below/a/file")
