"""Chats of a model with itself: the template's tokens stand where it puts them, no two chats are alike."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search.request.acceptance import check_usable_text
from space.errors import CalibrationError
from space.spec import make_spec
from tests.workers.tiny_models import TinyKind, make_workspace
from workers.recover.training_text import unshared
from workers.tasks import PrepareText
from workers.text.chat_text import Chat
from workers.text.text_sources import SELF
from workers.text.tokenizer import Turns, load_tokenizer
from workers.text.tokens import SPLITS, TextRequest
from workers.worker import Worker

Tiny = Callable[[TinyKind], Path]
TEMPLATE = "!{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
REQUEST = TextRequest(SELF, 48, 20, 6, 6, 0)


def _model(tiny: Tiny, folder: Path, template: str | None = TEMPLATE) -> Path:
    model = Path(shutil.copytree(tiny("tied"), folder / "model"))
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    return model


def test_turns_are_what_the_template_writes_around_words(tiny: Tiny, tmp_path: Path) -> None:
    """Before a question, before an answer, and before the next question."""
    tokenizer = load_tokenizer(_model(tiny, tmp_path))
    turns = tokenizer.turns()
    told = [tokenizer.text(ids) for ids in (turns.begin, turns.answer, turns.again)]
    assert told == ["!<user>", "\n<assistant>", "\n<user>"]


def test_turns_take_turns() -> None:
    """A question ends where the model ends it, or at its length; the template's tokens follow whatever is drawn."""
    chat = Chat(Turns((1,), (10, 11), (20, 21, 22)), {99}, longest=3)
    drawn = [5, 10, 5, 6, 20, 7, 7, 5, 5, 5, 5, 5, 8, 99, 5, 5]
    assert [chat.next(token) for token in drawn] == [5, 10, 11, 6, 20, 21, 22, 5, 5, 5, 10, 11, 8, 20, 21, 22]


def test_text_of_all_splits(tiny: Tiny, tmp_path: Path) -> None:
    """Each begins as the template does and has an answer in it; a seed gives the same again, another one other text."""
    folder = _model(tiny, tmp_path)
    turns = load_tokenizer(folder).turns()

    def rows(seed: int, cache: str) -> torch.Tensor:
        request = TextRequest(SELF, 48, 20, 6, 6, seed)
        tokens = Worker(make_workspace(folder, tmp_path / cache)).run(PrepareText(request))
        assert [len(tokens.load(split)) for split in SPLITS] == [20, 6, 6]
        return torch.cat([tokens.load(split) for split in SPLITS])

    found = rows(0, "a")
    assert found.shape == (32, 48)
    assert len({tuple(row.tolist()) for row in found}) == 32
    begin = torch.tensor(turns.begin)
    assert (found[:, : len(begin)] == begin).all()
    windows = found.unfold(1, len(turns.answer), 1)
    assert (windows == torch.tensor(turns.answer)).all(-1).any(1).all()
    assert torch.equal(found, rows(0, "b"))
    assert not torch.equal(found, rows(1, "c"))


def test_what_a_template_begins_with_is_nobodys_text() -> None:
    """Recoveries leave out text that is in the judging text too, and a long system prompt is in all of it."""
    generator = torch.Generator().manual_seed(0)
    system = torch.arange(40).expand(6, -1)
    words = torch.randint(100, 200, (6, 40), generator=generator)
    rows = torch.cat([system, words], 1)
    assert unshared(rows[:3], rows[3:]).tolist() == [0, 1, 2]
    rows[1] = rows[4]
    assert unshared(rows[:3], rows[3:]).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("template", "length", "told"),
    [
        (None, 48, "it has no chat template; leave --calibration out"),
        ("{% for m in messages %}{{ m['content'] | upper }}\n{% endfor %}", 48, "changes the words of turns"),
        ("{{ raise_exception('no') }}", 48, "cannot write its `messages`"),
        (TEMPLATE, 16, "takes 17 of 16 tokens before the first answer; give a longer --sequence-length"),
    ],
)
def test_refused_before_a_job_exists(tiny: Tiny, tmp_path: Path, template: Any, length: int, told: str) -> None:
    """Each in one sentence."""
    folder = _model(tiny, tmp_path, template)
    spec = make_spec(model=str(folder), budget="60%", calibration=SELF, sequence_length=length)
    with pytest.raises(CalibrationError, match=told):
        check_usable_text(spec, folder, make_workspace(folder, tmp_path / "cache").inventory)
