"""What is freed, and what is never."""

from collections.abc import Callable
from pathlib import Path

import pytest

from space.errors import OutputError
from storage.records import JobState
from tests.end_to_end.jobs import PlainService, Quiet, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind

Tiny = Callable[[TinyKind], Path]


def files(service: PlainService) -> dict[Path, int]:
    """Return the files of the cache and their sizes."""
    return {p: p.stat().st_size for p in service.settings.cache_folder.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("reload_here")
def test_front_outlives_its_levels(service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """Most of the cache goes; every point of the front can still be exported, and the job can still be refined."""
    spec = small_spec(tiny("tied"), text_file, max_trials=50)
    job_id, document = run_job(service, spec)
    (leftover := next(service.settings.cache_folder.glob("*/levels")) / ".level.1.tmp").write_bytes(b"x")
    before = files(service)
    would = service.free_unneeded(dry_run=True)
    assert files(service) == before
    freed = service.free_unneeded()
    assert (freed.num_files, freed.size_bytes, freed.kept) == (would.num_files, would.size_bytes, {})
    assert sum(before.values()) - sum(files(service).values()) == freed.size_bytes > 0.3 * sum(before.values())
    gone = [path for path in before if path.suffix == ".safetensors" and "levels" in path.parts and not path.exists()]
    assert would.num_levels == freed.num_levels == len(gone) > 0  # what the next budget builds again
    assert not leftover.exists()
    again = service.free_unneeded()
    left = sum(size for path, size in files(service).items() if path.parent.name != "inventories")
    assert (again.num_files, again.needed_bytes) == (0, left)
    for point in document.front:
        assert service.export(job_id, tmp_path / point.point, point=point.point, refit=False).verified
    sketches = {path: path.read_bytes() for path in service.settings.cache_folder.rglob("sketches/*/*.npy")}
    assert sketches  # the next budget and --refine start from them
    assert run_job(service, spec.model_copy(update={"refine": True}))[1].front
    assert {path: path.read_bytes() for path in sketches} == sketches


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.QUEUED, JobState.PAUSED])
def test_jobs_that_go_on_keep_everything(service: PlainService, tiny: Tiny, text_file: Path, state: JobState) -> None:
    """Whoever runs, waits or is paused finds what it had."""
    job_id, _ = run_job(service, small_spec(tiny("tied"), text_file, max_trials=14))
    service.store.resume_job(job_id)
    if state is not JobState.QUEUED:
        service.store.set_job_state(job_id, state)
    before = files(service)
    freed = service.free_unneeded()
    assert (freed.num_files, list(freed.kept.values())) == (0, [f"job {job_id} needs it"])
    assert files(service).keys() == before.keys()


@pytest.mark.parametrize("how", ["symlink", "dots", "moved"])
def test_a_home_of_another_spelling_is_the_same(tiny: Tiny, text_file: Path, tmp_path: Path, how: str) -> None:
    """Through a link, by another path, or moved: what a front and a paused job need stays."""
    home = tmp_path / "home"
    first = open_service(home)
    for max_trials in (14, 15):
        job_id, _ = run_job(first, small_spec(tiny("tied"), text_file, max_trials=max_trials))
    expected = first.free_unneeded()
    first.store.close()
    other = {"symlink": tmp_path / "link", "dots": home / ".." / "home", "moved": tmp_path / "new"}[how]
    if how == "symlink":
        other.symlink_to(home)
    elif how == "moved":
        home.rename(other)
    service = open_service(other)
    again = service.free_unneeded()
    assert (again.num_files, again.needed_bytes) == (0, expected.needed_bytes)
    service.store.resume_job(job_id)
    service.store.set_job_state(job_id, JobState.RUNNING)
    service.store.set_job_state(job_id, JobState.PAUSED)
    assert list(service.free_unneeded().kept.values()) == [f"job {job_id} needs it"]
    service.store.close()


class Cleaner(Quiet):
    """Frees what it can at every step of a job, from another store's point of view."""

    def __init__(self, service: PlainService, stranger: PlainService) -> None:
        super().__init__()
        self._service, self._stranger, self.num_freed = service, stranger, 0

    def phase(self, job: object, text: str) -> None:
        """Clean with both stores: one that knows the job, and one that has never heard of it."""
        from tightfit.gc import free_unneeded

        for store in (self._service.store, self._stranger.store):
            self.num_freed += free_unneeded(store, self._service.settings.cache_folder, dry_run=False).num_files


def test_cleaning_beside_a_running_job_harms_nothing(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path
) -> None:
    """Not even by a program whose database does not know the job: the folder itself is marked as in use."""
    stranger = open_service(tmp_path / "stranger")
    job = service.submit(small_spec(tiny("tied"), text_file, max_trials=14))
    cleaner = Cleaner(service, stranger)
    assert service.run(job.job_id, cleaner, inline=True).state is JobState.DONE
    assert cleaner.num_freed == 0
    stranger.store.close()


def test_cache_of_unknown_models_is_freed(service: PlainService) -> None:
    """A folder that no job knows is somebody's leftover; the lists of modules are tiny and stay."""
    cache = service.settings.cache_folder
    for name in ("0123456789abcdef/levels/00/x.safetensors", "inventories/y.json"):
        (cache / name).parent.mkdir(parents=True)
        (cache / name).write_bytes(bytes(100))
    freed = service.free_unneeded()
    assert (freed.num_files, freed.size_bytes) == (1, 100)
    assert (cache / "inventories" / "y.json").exists()


def test_what_cannot_be_freed_is_told(service: PlainService) -> None:
    """In a sentence."""
    folder = service.settings.cache_folder / "0123456789abcdef"
    (folder / ".in-use").mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"{folder}: cannot be written \(Is a directory\). Make it writable"):
        service.free_unneeded()


def test_nothing_is_freed_where_nothing_is(service: PlainService) -> None:
    """Before the first job."""
    nothing = dict.fromkeys(("num_files", "size_bytes", "num_levels", "needed_bytes"), 0)
    assert service.free_unneeded().to_json() == {**nothing, "kept": {}}
