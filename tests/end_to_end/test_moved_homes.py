"""A home that was copied or moved uses its own files, and what is done is not done again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.records import JobState
from tests.end_to_end.jobs import PlainService, Quiet, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from tightfit.config import Settings

Tiny = Callable[[TinyKind], Path]


@pytest.fixture
def done(service: PlainService, tiny: Tiny, text_file: Path) -> str:
    """Give a finished job of the service."""
    return run_job(service, small_spec(tiny("tied"), text_file, max_trials=14))[0]


def copied(service: PlainService, to: Path) -> PlainService:
    """Return a service on a copy of a home."""
    shutil.copytree(service.settings.home, to)
    return open_service(to)


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("old", ["gone", "damaged"])
def test_copy_of_a_home_exports_from_its_own_files(service: PlainService, done: str, tmp_path: Path, old: str) -> None:
    """Whatever became of the first one's."""
    copy = copied(service, tmp_path / "copy")
    if old == "gone":
        shutil.rmtree(service.settings.home)
    else:
        for path in service.settings.cache_folder.rglob("*.safetensors"):
            path.write_bytes(b"")
    assert copy.export(done, tmp_path / "out", refit=False).verified
    assert copy.requeue(done).state is JobState.DONE
    copy.store.close()


def test_cleaning_a_copy_leaves_what_its_jobs_need(service: PlainService, done: str, tmp_path: Path) -> None:
    """Though the first home, whose paths its records name, is still there."""
    copy = copied(service, tmp_path / "copy")
    freed = copy.free_unneeded()
    assert freed.needed_bytes == service.free_unneeded().needed_bytes > 0
    assert copy.requeue(done).state is JobState.DONE
    copy.store.close()


def test_paused_job_goes_on_in_a_copy(service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """On the text that it began with, though its source and the first home are gone."""
    text = tmp_path / "text.txt"
    shutil.copy(text_file, text)

    class Pausing(Quiet):
        def progress(self, job: object, trials_done: int, metrics: dict[str, float]) -> None:
            service.pause(job_id)

    job_id = service.submit(small_spec(tiny("tied"), text, max_trials=14)).job_id
    assert service.run(job_id, Pausing(), inline=True).state is JobState.PAUSED
    copy = copied(service, tmp_path / "copy")
    shutil.rmtree(service.settings.home)
    text.unlink()
    copy.requeue(job_id)
    assert copy.run(job_id, Quiet(), inline=True).state is JobState.DONE
    copy.store.close()


@pytest.mark.usefixtures("reload_here")
def test_home_beside_a_shared_database_uses_the_others_files(service: PlainService, done: str, tmp_path: Path) -> None:
    """A job of a controller with another home can be exported where its folder is seen."""
    other = PlainService(Settings(tmp_path / "other", service.settings.database_url, None))
    assert other.export(done, tmp_path / "out", refit=False).verified
    other.store.close()


def test_what_is_done_stays_done(service: PlainService, done: str, tiny: Tiny, text_file: Path) -> None:
    """Unless levels have gone that its exports need, or its time was limited: more of it may find more."""
    assert service.requeue(done).state is JobState.DONE
    for path in service.settings.cache_folder.glob("*/levels/*/*.safetensors"):
        path.unlink()
    assert service.requeue(done).state is JobState.QUEUED
    assert service.run(done, Quiet(), inline=True).state is JobState.DONE
    assert service.requeue(done).state is JobState.DONE
    limited = run_job(service, small_spec(tiny("tied"), text_file, max_trials=14, max_minutes=60))[0]
    assert service.requeue(limited).state is JobState.QUEUED
