"""Artifacts are named by their content, whole, and inside their folder."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from space.errors import NotFoundError, StoreError
from storage.artifacts import FileArtifacts

DATA = b"front"
DIGEST = hashlib.sha256(DATA).hexdigest()


def files(root: Path) -> list[Path]:
    """Return all files of a folder."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_name_is_the_digest(tmp_path: Path) -> None:
    """The path follows from the content, in a folder that did not exist."""
    root = tmp_path / "new"
    assert FileArtifacts(root).put(DATA, ".json") == root / DIGEST[:2] / f"{DIGEST}.json"


@settings(max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary())
def test_any_bytes_come_back_equal(tmp_path: Path, data: bytes) -> None:
    """What was put is what is got."""
    artifacts = FileArtifacts(tmp_path)
    artifacts.put(data, ".bin")
    assert artifacts.get(hashlib.sha256(data).hexdigest(), ".bin") == data


def test_same_content_is_one_file(tmp_path: Path) -> None:
    """A second put leaves one file and no part of another."""
    artifacts = FileArtifacts(tmp_path)
    first, second = artifacts.put(DATA), artifacts.put(DATA)
    assert first == second
    assert files(tmp_path) == [first]


def test_damage_is_found_and_repaired(tmp_path: Path) -> None:
    """A changed file is never returned; putting the content again heals it."""
    artifacts = FileArtifacts(tmp_path)
    artifacts.put(DATA).write_bytes(b"fr0nt")
    with pytest.raises(StoreError, match="damaged: delete it"):
        artifacts.get(DIGEST)
    artifacts.put(DATA)
    assert artifacts.get(DIGEST) == DATA


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error of ours and leaves neither the file nor a part of it."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        FileArtifacts(tmp_path).put(DATA)
    assert files(tmp_path) == []


def test_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    """A folder that cannot be made is an error of ours."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        FileArtifacts(tmp_path / "file" / "sub").put(DATA)


def test_unknown_digest_is_not_found(tmp_path: Path) -> None:
    """Another suffix is another artifact."""
    FileArtifacts(tmp_path).put(DATA, ".json")
    with pytest.raises(NotFoundError, match=f"no artifact {DIGEST}.txt"):
        FileArtifacts(tmp_path).get(DIGEST, ".txt")


@pytest.mark.parametrize("digest", ["", "../secret", "a" * 63, "A" * 64, "a" * 64 + "\n", "../../" + "a" * 58])
def test_what_is_no_digest_is_refused(tmp_path: Path, digest: str) -> None:
    """Only 64 lower-case hexadecimal digits name an artifact."""
    with pytest.raises(NotFoundError, match="not a digest"):
        FileArtifacts(tmp_path / "root").get(digest)


@pytest.mark.parametrize("suffix", ["/../../x", "json", ".a/b", "..", ".\x00", ". "])
def test_suffix_cannot_leave_the_folder(tmp_path: Path, suffix: str) -> None:
    """A suffix is a file's extension and nothing else."""
    with pytest.raises(StoreError, match="cannot end an artifact's name"):
        FileArtifacts(tmp_path / "root").put(DATA, suffix)
    assert files(tmp_path) == []
