"""A user's own questions: prompts with their right answers, or with choices, of a file of JSON lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from space.errors import CalibrationError
from workers.bounded_files import user_path
from workers.text.text_records import records_of_file
from workers.text.text_sources import read_content
from workers.text.tokenizer import TextTokenizer

MOST_QUESTIONS = 10_000
_HOW = (
    'Each line is {"prompt": "...", "answer": "..."}, or {"prompt": "...", "choices": ["...", ...], "answer": N}, '
    "where N is the place of the right one, counted from 0"
)


@dataclass(frozen=True, slots=True)
class OwnQuestion:
    """A question.

    Attributes:
        prompt: what the model reads.
        choices: what may follow, each joined to the prompt as it is; the right answer alone where there is no choice.
        right: place of the right one.

    """

    prompt: str
    choices: tuple[str, ...]
    right: int = 0


def read_own_questions(source: str) -> tuple[OwnQuestion, ...]:
    """Return the questions of a file.

    Raises:
        CalibrationError: it cannot be read, holds none or too many, or a line is no question; says which.

    """
    path = user_path(source)
    if not path.is_file():
        raise CalibrationError(f"--judge {source}: no such file. {_HOW}.")
    try:
        records = records_of_file(path, read_content(path))
    except ValueError as error:
        raise CalibrationError(f"--judge {source}: it cannot be read as JSON lines. {_HOW}.") from error
    if not 0 < len(records) <= MOST_QUESTIONS:
        raise CalibrationError(
            f"--judge {source}: holds {len(records):,} questions in JSON; 1 to {MOST_QUESTIONS:,} are asked. {_HOW}."
        )
    return tuple(_question(place, record) for place, record in records)


def _question(place: str, record: Any) -> OwnQuestion:
    prompt = record.get("prompt") if isinstance(record, dict) else None
    answer, choices = (record.get("answer"), record.get("choices")) if isinstance(record, dict) else (None, None)
    if isinstance(prompt, str) and isinstance(answer, str) and answer.strip() and choices is None:
        return OwnQuestion(prompt, (answer,))
    are_texts = isinstance(choices, list) and len(choices) > 1 and all(isinstance(c, str) and c for c in choices)
    is_place = isinstance(answer, int) and not isinstance(answer, bool)
    if isinstance(prompt, str) and are_texts and is_place and 0 <= int(answer or 0) < len(choices or ()):
        return OwnQuestion(prompt, tuple(choices or ()), int(answer or 0))
    raise CalibrationError(f"{place}: no question. {_HOW}.")


def encoded(tokenizer: TextTokenizer, prompt: str, choice: str) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt, with what begins a sequence, and of what follows it.

    Both are encoded together, spaces at the prompt's end with what follows: so tokens are those of running text
    (as lm-evaluation-harness does). The prompt has at least one token.
    """
    bare = prompt.rstrip(" ")
    before, whole = tokenizer.ids(bare), tokenizer.ids(prompt + choice)
    first = len(before) if tokenizer.opening or before else 1
    return [*tokenizer.opening, *whole[:first]], whole[first:]


def check_own_questions(
    questions: Sequence[OwnQuestion], source: str, tokenizer: TextTokenizer, most: int, vocabulary: int | None
) -> None:
    """Refuse questions that a model cannot be asked.

    Args:
        questions: all of them.
        source: their file.
        tokenizer: the model's.
        most: tokens of a question.
        vocabulary: rows of the model's embedding; None is not checked.

    Raises:
        CalibrationError: one is too long, or nothing is left to answer.

    """
    for number, question in enumerate(questions, 1):
        for choice in question.choices:
            before, after = encoded(tokenizer, question.prompt, choice)
            told = f"--judge {source}: question {number}"
            if not after or not before:
                raise CalibrationError(f"{told}: {choice!r} behind its prompt has no token of its own.")
            if (count := len(before) + len(after)) > most:
                raise CalibrationError(
                    f"{told} takes {count:,} tokens, {most:,} are read at a time. Shorten it, or give a larger "
                    "--sequence-length where the model has more positions."
                )
            if vocabulary is not None and max(*before, *after) >= vocabulary:
                raise CalibrationError(f"{told}: its tokenizer is not the model's own.")
