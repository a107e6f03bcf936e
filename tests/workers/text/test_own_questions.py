"""A user's own questions: what a file may hold, and what is said of one that holds something else."""

import json
from pathlib import Path

import pytest

from space.errors import CalibrationError
from tests.workers.tiny_models import make_tiny
from workers.text.own_questions import OwnQuestion, check_own_questions, encoded, read_own_questions
from workers.text.tokenizer import TextTokenizer, load_tokenizer

CHOICE = {"prompt": "a", "choices": ["b", "c"], "answer": 1}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """Give the tokenizer of a tiny model."""
    return load_tokenizer(make_tiny(tmp_path_factory.mktemp("model"), "tied"))


def _file(folder: Path, *lines: object) -> str:
    path = folder / "own.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return str(path)


def test_both_kinds_are_read(tmp_path: Path) -> None:
    """In their order, with what their place of the right answer says."""
    found = read_own_questions(_file(tmp_path, CHOICE, {"prompt": "2 + 2 =", "answer": " 4"}))
    assert found == (OwnQuestion("a", ("b", "c"), 1), OwnQuestion("2 + 2 =", (" 4",)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "a"},
        {"prompt": "a", "answer": " "},
        {"prompt": "a", "answer": 1},
        {"prompt": 3, "answer": "b"},
        {**CHOICE, "answer": 2},
        {**CHOICE, "answer": -1},
        {**CHOICE, "answer": True},
        {**CHOICE, "choices": ["b"]},
        {**CHOICE, "choices": ["b", ""]},
        ["a", "b"],
    ],
)
def test_what_is_no_question_is_named_by_its_line(tmp_path: Path, wrong: object) -> None:
    """With what a line must be."""
    with pytest.raises(CalibrationError, match=r"own\.jsonl.*2.*no question\. Each line is"):
        read_own_questions(_file(tmp_path, CHOICE, wrong))


def test_files_that_hold_none_are_refused(tmp_path: Path) -> None:
    """Missing, empty, or something else."""
    with pytest.raises(CalibrationError, match=r"--judge nowhere\.jsonl: no such file"):
        read_own_questions("nowhere.jsonl")
    with pytest.raises(CalibrationError, match="holds 0 questions"):
        read_own_questions(_file(tmp_path))
    path = tmp_path / "own.jsonl"
    path.write_text("plain text", encoding="utf-8")
    with pytest.raises(CalibrationError, match="cannot be read as JSON lines"):
        read_own_questions(str(path))


def test_prompt_and_answer_are_tokens_of_running_text(tokenizer: TextTokenizer) -> None:
    """A space at the prompt's end goes with the answer, as it does where text runs on."""
    before, after = encoded(tokenizer, "def f(x): ", "return x")
    assert before == [*tokenizer.opening, *tokenizer.ids("def f(x):")]
    assert before[len(tokenizer.opening) :] + after == tokenizer.ids("def f(x): return x")


def test_questions_that_cannot_be_asked_are_refused(tokenizer: TextTokenizer) -> None:
    """One that is too long, one whose answer has no token, and a tokenizer of another model."""
    long = [OwnQuestion("a", ("b",)), OwnQuestion("word " * 100, ("b",))]
    check_own_questions(long, "f", tokenizer, 1000, None)
    with pytest.raises(CalibrationError, match=r"question 2 takes \d+ tokens, 64 are read at a time"):
        check_own_questions(long, "f", tokenizer, 64, None)
    with pytest.raises(CalibrationError, match="question 1: its tokenizer is not the model's own"):
        check_own_questions(long, "f", tokenizer, 1000, 2)
