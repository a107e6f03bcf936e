"""Freeing what no job needs: levels off every front, calibration, teacher answers, leftovers of killed processes."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from space.results.document import FrontPoint
from storage.point_tasks import TaskKind, TaskState
from storage.records import Job
from storage.sound_records import ground_of
from storage.store import Store
from workers.levels.level_store import LevelStore
from workers.pool.cache_locks import alone
from workers.text.tokens import TokenSet
from workers.whole_files import writing

_KEPT_ALWAYS = {".in-use"}
_ANSWERS = "answers-"  # an export makes them where they are missing


@dataclass
class Freed:
    """What was, or would be, freed.

    Attributes:
        num_files: how many.
        size_bytes: together.
        num_levels: how many of the files were levels that another search of their model would use.
        needed_bytes: what exports of finished jobs' fronts need, and stayed.
        kept: folder -> why it was left as it is.

    """

    num_files: int = 0
    size_bytes: int = 0
    num_levels: int = 0
    needed_bytes: int = 0
    kept: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def free_unneeded(store: Store, cache_folder: Path, *, dry_run: bool) -> Freed:
    """Delete what no job needs; all of it can be built again.

    Kept are the whole cache of every model with a job that runs, waits or is paused; for each finished job what an
    export of its front takes: its points' levels, text, and the dense model's held-out answers; and the sketches of a
    model with jobs, which the next budget, --refine and resuming start from.

    Args:
        store: the jobs.
        cache_folder: of all models.
        dry_run: only count.

    """
    freed, jobs = Freed(), store.list_jobs()
    starting = [job.job_id for job in jobs if job.state == "RUNNING" and job.facts.cache_folder is None]
    with_tasks = {task.job_id for task in store.list_tasks(states=[TaskState.QUEUED, TaskState.RUNNING])}
    for folder in sorted(path for path in cache_folder.glob("*") if path.is_dir() and path.name != "inventories"):
        mine = [job for job in jobs if _is_of(job, folder)]
        busy = [job.job_id for job in mine if not job.state.is_finished] + starting
        busy += [job.job_id for job in mine if job.job_id in with_tasks]
        with writing(folder, "Make it writable, then free it again."), alone(folder) as is_alone:
            if busy or not is_alone:
                freed.kept[str(folder)] = f"job {busy[0]} needs it" if busy else "a job is using it"
                continue
            needed = {path for job in mine for path in _needed(store, job, folder)}
            needed.update(path for job in mine for path in _of_recoveries(store, job, folder))
            needed.update(folder.glob("sketches/*/*.npy") if mine else ())
            freed.needed_bytes += sum(path.stat().st_size for path in needed if path.exists())
            _free(freed, [path for path in _files(folder) if path not in needed], dry_run=dry_run)
    return freed


def at_home(job: Job, cache_folder: Path) -> Job:
    """Return a job whose files are those of this home, where it has them: it may be a copy, or have moved.

    Args:
        job: as it was recorded, with whole paths.
        cache_folder: of all models.

    """
    if not (recorded := job.facts.cache_folder):
        return job
    here, facts = cache_folder / Path(recorded).name, job.facts
    if facts.tokens is not None:
        text = TokenSet.from_json(facts.tokens.to_json(), here)
        facts = replace(facts, tokens=replace(facts.tokens, path=text.path))
        if Path(text.path).parent != here and Path(text.path).exists():
            return job  # made from another home, which shares the database
    return replace(job, facts=replace(facts, cache_folder=str(here))) if here.exists() else job


def is_complete(store: Store, job: Job, cache_folder: Path) -> bool:
    """Tell whether a job is DONE by itself, not by its time, and its front's levels and text are there."""
    if job.state != "DONE" or job.spec.max_minutes is not None:
        return False
    here = at_home(job, cache_folder)
    needed = _needed(store, here, Path(ground_of(here).cache_folder))
    return all(path.exists() or path.name.startswith(_ANSWERS) for path in needed)


def _is_of(job: Job, folder: Path) -> bool:
    """Tell whether a job keeps its files in a folder, by its name: the home may have moved, or be a copy."""
    recorded = job.facts.cache_folder
    return recorded is not None and Path(recorded).name == folder.name


def _needed(store: Store, job: Job, folder: Path) -> Iterator[Path]:
    """Yield the files that an export of a finished job's front takes."""
    if job.document is None or job.facts.tokens is None:
        return
    ground = ground_of(job)
    tokens = TokenSet.from_json(ground.tokens.to_json())
    yield folder / Path(tokens.path).name
    yield folder / f"{_ANSWERS}{tokens.of('held_out')[:16]}.safetensors"
    yield from folder.glob("text-*.json")
    levels = LevelStore(folder / "levels", ground.model_digest, tokens.of("calibration"))
    points = {point.trial for point in job.document.front}
    for trial in store.list_trials(job.job_id):
        if trial.number in points:
            yield from (levels.path(name, level) for name, level in trial.plan.levels)


def _of_recoveries(store: Store, job: Job, folder: Path) -> Iterator[Path]:
    """Yield the files that recovered points of a job are made of: they follow from no record."""
    plans = {trial.number: trial.plan for trial in store.list_trials(job.job_id)}
    for task in store.list_tasks(job.job_id):
        found = (task.result or {}).get("point") if task.kind is TaskKind.RECOVER else None
        ancestry = None if found is None else FrontPoint.from_json(found).recovered
        if ancestry is not None and task.trial in plans:
            levels = LevelStore(folder / "levels", ground_of(job).model_digest, ancestry.levels)
            yield from (levels.path(name, level) for name, level in plans[task.trial].levels)
            yield from (folder / "recovered" / ancestry.levels[:16]).rglob("*")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _KEPT_ALWAYS)


def _free(freed: Freed, files: Sequence[Path], *, dry_run: bool) -> None:
    for path in files:
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            if not dry_run:
                path.unlink()
            freed.num_files += 1
            freed.num_levels += path.parent.parent.name == "levels" and path.suffix == ".safetensors"
            freed.size_bytes += size
