"""What is checked of a request before a job is made of it: model, budget, text, and that they belong together."""

import json
from importlib.metadata import version
from pathlib import Path

from search.measure.answer_keys import text_request
from search.request.prepare import Prepared, prepare
from space.digest import digest
from space.errors import CalibrationError, ModelError, SpecError
from space.inventory import Inventory
from space.question import QUESTIONS
from space.spec import JobSpec
from workers.bounded_files import user_path
from workers.models.companions import companion_files
from workers.models.digests import file_digest
from workers.text.text_sources import SELF, STDLIB, check_source, is_path, read_text, text_digest

_TEXT_VERSION = 2  # raise it when the same source gives another text or other sequences


def accept(spec: JobSpec, cache_folder: Path, *, remember: bool = False) -> Prepared:
    """Return a request whose model and text can be used together.

    Text is looked at once: that it can be used is remembered in `cache_folder` where asked, and found there.

    Raises:
        ModelError: the model cannot be used, or its tokenizer is not its own.
        SpecError: the menu or a pin makes no sense for it, or its sequences are longer than the model takes.
        InfeasibleBudgetError: no plan is so small, or the dense model fits already.
        CalibrationError: the text cannot be read, or is too short.

    """
    prepared = prepare(spec, cache_folder)
    check_positions(spec, prepared.folder, prepared.inventory)
    check_own(spec, prepared.folder, prepared.inventory)
    seen = _seen(spec, prepared, cache_folder)
    if seen is None or not seen.exists():
        check_usable_text(spec, prepared.folder, prepared.inventory)
        if seen is not None and remember:
            from workers.whole_files import write_text

            write_text(seen, json.dumps({"text": spec.calibration}))
    return prepared


def _seen(spec: JobSpec, prepared: Prepared, cache_folder: Path) -> Path | None:
    """Return the file that is there where this text was found to be usable with this model."""
    key, inventory = text_key(spec, prepared.folder), prepared.inventory
    if key is None:
        return None
    kind = QUESTIONS[inventory.family].samples
    name = digest([key, version("transformers"), inventory.vocabulary, inventory.first_token, kind])
    return cache_folder / "inventories" / f"text-{name}.json"


def text_key(spec: JobSpec, folder: Path) -> str | None:
    """Return the name of all that decides a job's text; None where its source cannot be known without fetching it."""
    source = _source_digest(spec.calibration)
    if source is None:
        return None
    request = text_request(spec)
    numbers = [request.sequence_length, request.num_calibration, request.num_search, request.num_held_out]
    tokenizer = [[path.name, file_digest(path)] for path in companion_files(folder)]
    return digest([_TEXT_VERSION, source, request.source, numbers, request.seed, tokenizer])


def _source_digest(source: str | None) -> str | None:
    if source is None:
        return text_digest("sampled from the model itself")
    if source == SELF:
        return text_digest("chats of the model with itself")
    if source == STDLIB:
        return text_digest(json.dumps(read_text(source)))
    try:
        path = user_path(source)
        return file_digest(path) if path.is_file() else None
    except OSError:
        return None


def check_positions(spec: JobSpec, folder: Path, inventory: Inventory) -> None:
    """Refuse sequences that are longer than the model takes. Raises SpecError."""
    positions, question = inventory.num_positions, QUESTIONS[inventory.family]
    if question.has_sequences and positions is not None and positions < spec.sequence_length:
        raise SpecError(
            f"--sequence-length {spec.sequence_length}: {folder} has {positions} positions, fewer than a "
            f"sequence: give --sequence-length {positions} or less."
        )


def check_own(spec: JobSpec, folder: Path, inventory: Inventory) -> None:
    """Refuse a user's own questions that the model cannot be asked.

    Raises:
        SpecError: it takes no prompts.
        CalibrationError: the file cannot be read, or a question of it is none, or is too long.

    """
    if spec.judge is None:
        return
    from workers.text.own_questions import check_own_questions, read_own_questions

    if not QUESTIONS[inventory.family].takes_prompts:
        raise SpecError(f"--judge {spec.judge}: {folder} is of the family {inventory.family}, which takes no prompts.")
    questions = read_own_questions(spec.judge)
    from workers.tasks import BATCH
    from workers.text.tokenizer import load_tokenizer

    most = min(BATCH * spec.sequence_length, inventory.num_positions or BATCH * spec.sequence_length)
    check_own_questions(questions, spec.judge, load_tokenizer(folder), most, inventory.vocabulary)


def check_usable_text(spec: JobSpec, folder: Path, inventory: Inventory) -> None:
    """Tokenize what tells whether text, tokenizer and model can be used together.

    Raises:
        ModelError: the tokenizer is not the model's own.
        CalibrationError: the text cannot be read, or is too short.

    """
    from workers.text.tokenizer import load_tokenizer, opening_of
    from workers.text.tokens import check_text

    if (kind := QUESTIONS[inventory.family].samples) != "tokens":
        from workers.samples.sample_table import check_samples

        if spec.calibration == SELF:
            raise CalibrationError(f"--calibration {SELF}: models of the family {inventory.family} hold no chats.")
        check_samples(kind, folder, text_request(spec))
    elif spec.calibration == SELF:
        _check_chats(spec, folder, inventory)
    elif spec.calibration is None:
        start = opening_of(folder) or (inventory.first_token or 0,)
        if inventory.vocabulary is not None and max(start) >= inventory.vocabulary:
            raise ModelError(
                f"{folder}: its sequences begin with the token {max(start)}, but its embedding has "
                f"{inventory.vocabulary} rows: mend bos_token_id in config.json, or the tokenizer."
            )
    elif spec.calibration == STDLIB or is_path(spec.calibration):
        check_text(folder, text_request(spec), inventory.vocabulary)
    else:
        check_source(spec.calibration)
        load_tokenizer(folder)


def _check_chats(spec: JobSpec, folder: Path, inventory: Inventory) -> None:
    """Refuse a model whose chat template does not go with it, or leaves no room."""
    from workers.text.chat_text import check_room
    from workers.text.tokenizer import load_tokenizer

    turns = load_tokenizer(folder).turns()
    check_room(text_request(spec), turns)
    most = max((*turns.begin, *turns.answer, *turns.again))
    if inventory.vocabulary is not None and most >= inventory.vocabulary:
        told = f"its chat template writes the token {most}, but its embedding has {inventory.vocabulary} rows"
        raise ModelError(f"{folder}: {told}: take the tokenizer that the model was trained with.")
