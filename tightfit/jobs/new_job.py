"""A job made of an accepted request; the same request is the same job, however often and by how many it is made."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from space.digest import digest
from space.errors import StateError
from storage.records import Job
from storage.store import Store
from tightfit.searched_model import lasting
from workers.models.companions import companion_files
from workers.models.model_files import weight_files

if TYPE_CHECKING:
    from space.spec import JobSpec

_DIGITS = 12


def create_job(store: Store, spec: "JobSpec", folder: Path, user: str | None) -> Job:
    """Queue a new job of a request whose model was resolved to a folder."""
    return store.create_job(f"j{secrets.token_hex(3)}", lasting(spec, folder), user)


def create_once(store: Store, spec: "JobSpec", folder: Path, user: str | None) -> Job:
    """Queue a job of a request, or return the one that it is already: of any number at once, one makes it.

    A request is the same for the same user, options, text and files of its model, told by their sizes and times.
    """
    lasts = lasting(spec, folder)
    job_id = f"j{digest([lasts.digest, user, _files(folder), _text(lasts, folder)])[:_DIGITS]}"
    try:
        return store.create_job(job_id, lasts, user)
    except StateError:
        return store.get_job(job_id)


def _files(folder: Path) -> list[list[str | int]]:
    paths = [folder / "config.json", *weight_files(folder), *companion_files(folder)]
    stats = ((path, path.stat()) for path in paths if path.exists())
    return [[path.name, found.st_size, found.st_mtime_ns] for path, found in stats]


def _text(spec: "JobSpec", folder: Path) -> str | None:
    from search.request.acceptance import text_key

    return text_key(spec, folder)
