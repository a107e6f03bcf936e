"""A student from wish to checkpoint: text, the cut, its training, files, and their proof by loading them again."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.job.text_and_levels import text_source
from search.measure.answer_keys import text_request
from search.request.acceptance import check_positions, check_usable_text
from search.request.prepare import is_folder, read_inventory
from space.budget import format_bytes
from space.errors import SpecError, VerificationError
from space.measurement import Measurement
from space.model_name import model_name
from space.question import QUESTIONS
from space.results.front import Interval, bootstrap_interval
from space.spec import JobSpec, make_spec, sequences_of
from tightfit.export.checkpoint import new_folder
from tightfit.export.early import check_free
from tightfit.export.targets.writer import check_companions, copy_companions
from workers.devices import computed_digest, device_here
from workers.models.model_files import model_digest, resolve_model
from workers.models.source_cards import front_matter, terms_of
from workers.pool.cache_locks import use
from workers.tasks import PrepareText, Workspace

if TYPE_CHECKING:
    from workers.recover.student.train_student import Trained

Tell = Callable[[str], None]
RECORD = "student.json"
_UNUSED_BUDGET = "16bpw"  # a request has one; a student is as large as its blocks are


@dataclass(frozen=True, slots=True)
class StudentWish:
    """A wish as it was uttered.

    Attributes:
        model: as `submit` takes it.
        blocks: that the student has.
        out: a new folder.
        minutes: of computing, at most.
        calibration, sequence_length, num_sequences, seed: the text that it is trained on, as `submit` takes them.

    """

    model: str
    blocks: int
    out: Path
    minutes: float = 20.0
    calibration: str | None = None
    sequence_length: int | None = None
    num_sequences: int = 1024
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Student:
    """A student that was made: bytes of its tensors, and what was measured on held-out text.

    `untrained_kl_divergence` is that of the cut model before its first step, on selection text.
    """

    path: str
    blocks: tuple[int, ...]
    size_bytes: int
    dense_bytes: int
    steps: int
    kept_step: int
    seconds: float
    untrained_kl_divergence: float
    kl_divergence: float
    kl_divergence_ci95: Interval
    perplexity: float
    metric: str


def make_student(wish: StudentWish, cache_folder: Path, tell: Tell = lambda _: None) -> Student:
    """Cut a model, train what is left, and write it as a dense checkpoint; killed, the same call goes on.

    Args:
        wish: what is wanted.
        cache_folder: of a home.
        tell: hears how far it is.

    Raises:
        SpecError: the model cannot be cut so, or an option cannot be had.
        ModelError: the model cannot be used.
        CalibrationError: the text cannot be read, or is too short.
        OutputError: the folder is taken, or cannot be made.
        VerificationError: the files do not compute what was trained; they are kept for a look.

    """
    spec = _request(wish)
    check_free(wish.out)
    folder = resolve_model(spec.model, spec.revision)
    inventory = read_inventory(folder, None, images=is_folder(spec.calibration))
    check_positions(spec, folder, inventory)
    check_usable_text(spec, folder, inventory)
    check_companions(folder)
    from workers.recover.student.train_student import train_student
    from workers.worker import Worker

    content, device = model_digest(folder), device_here()
    cache = cache_folder / computed_digest(content, device)[:16]
    workspace = Workspace(str(folder), str(cache), content, inventory, None, device, 1.0, spec.sequence_length)
    with use(cache), new_folder(wish.out) as made:
        request = text_request(spec)
        tell("reading text" if request.source is not None else "sampling text from the model itself")
        tokens = Worker(workspace).run(PrepareText(request, text_source(request, inventory, folder)))
        seconds = 60 * wish.minutes
        trained = train_student(workspace, tokens, wish.blocks, seed=wish.seed, max_seconds=seconds, tell=tell)
        trained.model.to(trained.model.config.dtype).save_pretrained(made)
        copy_companions(folder, made)
        tell("loading it again")
        _prove(trained, made, device)
        found = _told(wish, trained, QUESTIONS[inventory.family].metric.with_unit, inventory.dense_bytes, made)
        record = asdict(found) | {"teacher_digest": content, "tokens_digests": list(tokens.digests), "seed": wish.seed}
        (made / RECORD).write_text(json.dumps(record | {"text": tokens.note}, indent=2) + "\n", encoding="utf-8")
        (made / "README.md").write_text(_card(spec, folder, found), encoding="utf-8")
    return found


def _request(wish: StudentWish) -> JobSpec:
    if not wish.minutes > 0:
        raise SpecError(f"--minutes {wish.minutes:g}: give some time above zero.")
    values: dict[str, Any] = {"model": wish.model, "calibration": wish.calibration, "seed": wish.seed}
    if wish.sequence_length is not None:
        values["sequence_length"] = wish.sequence_length
    judged = sequences_of(128)
    asked = {"num_samples": wish.num_sequences} | {n: v for n, v in judged.items() if n != "num_samples"}
    return make_spec(budget=_UNUSED_BUDGET, **values, **asked)


def _prove(trained: "Trained", made: Path, device: str) -> None:
    """Load the files as any model is loaded. Raises VerificationError where they compute something else."""
    from workers.families.load_modules import load_model

    again = load_model(made, device)
    stored, now = (dict(model.state_dict()) for model in (trained.model, again))
    differ = [name for name, value in stored.items() if name not in now or not now[name].to(value.dtype).equal(value)]
    if differ:
        raise VerificationError(f"{made}: the files hold other values than were trained, of {differ[0]} to begin with.")


def _told(wish: StudentWish, trained: "Trained", metric: str, dense_bytes: int, made: Path) -> Student:
    learned = trained.learned
    measured = Measurement.of_sequences(list(trained.sequence_kl), list(trained.sequence_loss), 1, 0.0, learned.seconds)
    return Student(
        path=str(wish.out),
        blocks=trained.kept,
        size_bytes=read_inventory(made, None).dense_bytes,
        dense_bytes=dense_bytes,
        steps=learned.steps,
        kept_step=learned.kept_step,
        seconds=round(learned.seconds, 1),
        untrained_kl_divergence=trained.untrained_kl,
        kl_divergence=measured.kl_divergence,
        kl_divergence_ci95=bootstrap_interval(trained.sequence_kl),
        perplexity=measured.perplexity,
        metric=metric,
    )


def _card(spec: JobSpec, folder: Path, found: Student) -> str:
    """Return README.md of a student."""
    low, high = found.kl_divergence_ci95
    title = f"# {model_name(spec.model)}, {len(found.blocks)} of its blocks ({format_bytes(found.size_bytes)})"
    told = {"tags": ["distillation", "tightfit"], **terms_of(folder)}
    return f"""{front_matter(told)}{title}

Blocks {", ".join(map(str, found.blocks))} of the model, then all weights trained for {found.steps} steps towards
its answers (`tightfit student`); `{RECORD}` tells text and seed.

| | whole model | this checkpoint |
|---|---|---|
| size in bytes | {found.dense_bytes:,} | {found.size_bytes:,} |
| {found.metric} | 0 | {found.kl_divergence:.4f} (95 % {low:.4f} to {high:.4f}) |
"""
