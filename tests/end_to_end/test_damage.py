"""Files that a disk damaged, a disk that is full, a home that cannot be written: found, named, mended or resumed."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from space.errors import LevelDamagedError, ModelError, OutputError
from space.results.document import FrontDocument
from storage.records import JobState
from tests.end_to_end.jobs import PlainService, Quiet, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from workers.whole_files import replacing, write_text

ROOT = Path(__file__).parents[2]
Tiny = Callable[[TinyKind], Path]
BAD_DISK = """
import subprocess, sys
from pathlib import Path
from space.errors import TightfitError
from tests.end_to_end.jobs import Quiet, open_service, small_spec

home, model, text = map(Path, sys.argv[1:4])
service = open_service(home)
job = service.submit(small_spec(model, text, max_trials=14))
filler = home / "filler"
if sys.argv[4] == "full":
    with filler.open("wb", buffering=0) as file:  # leaves a little, so that the job begins
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - 400_000)
else:
    cache = service.settings.cache_folder
    cache.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(cache), str(cache)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(cache)], check=True)
try:
    service.run(job.job_id, Quiet(), inline=True)
except TightfitError as error:
    print(type(error).__name__, error)
if sys.argv[4] == "full":
    filler.unlink()
else:
    subprocess.run(["umount", str(cache)], check=True)
if service.requeue(job.job_id).state == "QUEUED":
    print(service.run(job.job_id, Quiet(), inline=True).state)
print(len(service.front(job.job_id).front))
"""


def front(service: PlainService, job_id: str) -> FrontDocument:
    """Return a front without what may differ."""
    document = service.front(job_id)
    return replace(document, job="", state="", cost=replace(document.cost, wall_seconds=0.0, token_forwards=0.0))


def level_files(service: PlainService) -> list[Path]:
    """Return all level files of a home."""
    return sorted(service.settings.cache_folder.glob("*/levels/*/*.safetensors"))


def flip_bit(path: Path) -> None:
    """Change one bit of a tensor."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


class CancelAfterLevels(Quiet):
    """Cancels a job once its levels are built."""

    def __init__(self, service: PlainService) -> None:
        super().__init__()
        self._service = service

    def progress(self, job: object, trials_done: int, metrics: dict[str, float]) -> None:
        """Ask for the end after the first batch."""
        self._service.cancel(self._service.store.list_jobs()[0].job_id)


def test_damaged_levels_are_built_again_amid_a_search(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path
) -> None:
    """No trial fails: the front is the one of a disk that damages nothing."""
    other = open_service(tmp_path / "other")
    spec = small_spec(tiny("tied"), text_file)
    expected = front(other, run_job(other, spec)[0])
    other.store.close()
    job = service.submit(spec)
    assert service.run(job.job_id, CancelAfterLevels(service), inline=True).state is JobState.CANCELLED
    for path in level_files(service)[::3]:
        flip_bit(path)
    service.requeue(job.job_id)
    heard = Quiet()
    assert service.run(job.job_id, heard, inline=True).state is JobState.DONE
    assert front(service, job.job_id) == expected
    assert any("was damaged and is deleted: building it again" in text for text in heard.phases)


@pytest.mark.usefixtures("reload_here")
def test_damaged_level_is_not_exported(service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """The export is refused and leaves nothing; a resume of the job builds the level, and the export succeeds."""
    job_id, document = run_job(service, small_spec(tiny("tied"), text_file, max_trials=14))
    for path in level_files(service):
        flip_bit(path)
    with pytest.raises(LevelDamagedError, match=r"Level .* was damaged and is deleted .*`tightfit resume` of its job"):
        service.export(job_id, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for path in level_files(service):
        path.unlink()  # as if all had been looked at
    service.requeue(job_id)
    assert service.run(job_id, Quiet(), inline=True).state is JobState.DONE
    exported = service.export(job_id, tmp_path / "out", refit=False)
    assert exported.verified
    assert exported.kl_divergence == pytest.approx(document.recommended.kl_divergence, rel=1e-6)  # type: ignore[union-attr]


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("size", [-1, 1000, 4])
def test_truncated_export_is_refused(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, size: int
) -> None:
    """Loading names the file and what to do, whatever is missing."""
    from workers.runtime.loaders.exported_loaders import load_exported

    job_id, _ = run_job(service, small_spec(tiny("tied"), text_file, max_trials=14))
    weights = Path(service.export(job_id, tmp_path / "out", refit=False).path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model\.safetensors: .*truncated.*Download it again"):
        load_exported(weights.parent)


@pytest.mark.usefixtures("reload_here")
def test_export_with_one_flipped_bit_is_refused(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path
) -> None:
    """Loading names the file and what to do; both records hold what `sha256sum` says of the whole one."""
    from workers.runtime.loaders.exported_loaders import load_exported

    job_id, _ = run_job(service, small_spec(tiny("tied"), text_file, max_trials=14))
    weights = Path(service.export(job_id, tmp_path / "out").path) / "model.safetensors"
    expected = {weights.name: hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert json.loads((weights.parent / "compression.json").read_text())["sha256"] == expected
    assert json.loads((weights.parent / "config.json").read_text())["quantization_config"]["digests"] == expected
    model, problems = load_exported(weights.parent)
    assert not problems
    flip_bit(weights)
    told = r"model\.safetensors: damaged: its sha256 is not the one .* Download it again, or export it again"
    with pytest.raises(ModelError, match=told):
        load_exported(weights.parent)
    flip_bit(weights)
    model.save_pretrained(tmp_path / "again")  # has other bytes, and no record of them
    assert not load_exported(tmp_path / "again")[1]


@pytest.mark.parametrize(
    ("fault", "advice"), [("full", "free some disk space"), ("read-only", "make its folder writable")]
)
def test_disk_without_room_is_an_error_and_a_resumable_job(
    tiny: Tiny, text_file: Path, tmp_path: Path, fault: str, advice: str
) -> None:
    """On a file system of its own that is full, or read-only: one clear error; once mended, the job ends well."""
    home = tmp_path / "home"
    home.mkdir()
    mounted = f"mount -t tmpfs -o size=6m tmpfs '{home}' && exec \"$@\""
    alone = ["unshare", "--mount", "sh", "-c", mounted, "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a small file system")
    command = [*alone, sys.executable, "-c", BAD_DISK, str(home), str(tiny("tied")), str(text_file), fault]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    error, state, points = done.stdout.splitlines()
    assert error.startswith(("OutputError ", "StoreError "))
    assert advice in error
    assert state == "DONE"
    assert int(points) > 0


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """What the system says, and what to do; other errors stay what they are."""
    (tmp_path / "folder").mkdir()
    told = r"file cannot be written \(No space left on device\): free some disk space"
    with pytest.raises(OutputError, match=told), replacing(tmp_path / "file"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
