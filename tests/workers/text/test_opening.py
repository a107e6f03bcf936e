"""Every sequence begins as the model's own tokenizer begins one, and where it adds nothing, nothing is added."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from space.errors import ModelError
from tests.workers.tiny_models import VOCABULARY, TinyKind, make_workspace, text_request
from workers.tasks import PrepareText
from workers.text.tokenizer import has_tokenizer, load_tokenizer, opening_of
from workers.text.tokens import SPLITS, TextRequest, TokenSet, check_text, tokenize
from workers.worker import Worker

Tiny = Callable[[TinyKind], Path]
SPECIAL = {"<s>": 7, "</s>": 8, "[gMASK]": 9}
TEMPLATES = {
    "$A": (),
    "<s> $A": (7,),
    "$A </s>": (),
    "<s> $A </s>": (7,),
    "[gMASK] <s> $A": (9, 7),
    "</s> $A": (8,),
}


def _with_template(folder: Path, template: str) -> Path:
    """Let a tokenizer put its special tokens around a sequence, as the files of hubs say it."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    parts: list[dict[str, Any]] = [
        {"Sequence": {"id": "A", "type_id": 0}} if part == "$A" else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in template.split()
    ]
    special = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in SPECIAL.items()}
    tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": parts, "pair": parts}
    tokenizer["post_processor"]["special_tokens"] = special
    path.write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(params=TEMPLATES)
def opened(request: pytest.FixtureRequest, tiny: Tiny, tmp_path: Path) -> tuple[Path, tuple[int, ...]]:
    """Give a model whose tokenizer follows a template, and what it begins with."""
    folder = Path(shutil.copytree(tiny("tied"), tmp_path / "model"))
    return _with_template(folder, request.param), TEMPLATES[request.param]


def _rows(tokens: TokenSet) -> torch.Tensor:
    return torch.cat([tokens.load(split) for split in SPLITS])


def test_text_begins_as_the_tokenizer_says(
    opened: tuple[Path, tuple[int, ...]], tiny: Tiny, text_file: Path, tmp_path: Path
) -> None:
    """The opening is at the begin of each sequence and nowhere else, the text of a sequence follows it whole."""
    folder, opening = opened
    tokens = tokenize(folder, text_request(text_file), tmp_path)
    assert load_tokenizer(folder).opening == opening
    rows = _rows(tokens)
    assert rows.shape == (20, 32)
    assert rows[:, : len(opening)].tolist() == [list(opening)] * 20
    ids = load_tokenizer(tiny("tied")).ids(text_file.read_text())
    width = 32 - len(opening)
    pieces = {tuple(ids[i : i + width]) for i in range(0, len(ids) - width + 1, width)}
    assert {tuple(row) for row in rows[:, len(opening) :].tolist()} <= pieces


def test_nothing_is_added_where_the_tokenizer_adds_nothing(tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """The sequences are those of a text that is cut without more ado: what was measured on them stays known."""
    plain = tokenize(tiny("tied"), text_request(text_file), tmp_path)
    ending = _with_template(Path(shutil.copytree(tiny("tied"), tmp_path / "model")), "$A </s>")
    assert tokenize(ending, text_request(text_file), tmp_path) == plain
    ids = torch.tensor(load_tokenizer(tiny("tied")).ids(text_file.read_text()))
    rows = ids[: len(ids) // 32 * 32].view(-1, 32)
    part = rows[: len(rows) * 8 // 20]
    assert plain.load("calibration").equal(part[torch.linspace(0, len(part) - 1, 8).round().long()])


def test_sampled_text_begins_as_the_tokenizer_says(
    opened: tuple[Path, tuple[int, ...]], tiny: Tiny, tmp_path: Path
) -> None:
    """The model goes on from the opening; without one its text is what it has always been."""
    folder, opening = opened
    request = TextRequest(None, 8, 3, 2, 2, 7)
    found = _rows(Worker(make_workspace(folder, tmp_path)).run(PrepareText(request)))
    assert found.shape == (7, 8)
    assert found[:, : len(opening)].tolist() == [list(opening)] * 7
    if not opening:
        assert found.equal(_rows(Worker(make_workspace(tiny("tied"), tmp_path)).run(PrepareText(request))))


def test_model_without_tokenizer_can_be_sampled(tiny: Tiny, tmp_path: Path) -> None:
    """It has none to follow; chat templates and how it generates are no tokenizer."""
    folder = Path(shutil.copytree(tiny("tied"), tmp_path / "model"))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "generation_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("x")
    assert not has_tokenizer(folder)
    assert opening_of(folder) == ()


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "9.0", "model": {"type": "Newer"}}'])
def test_tokenizer_that_cannot_be_loaded(tiny: Tiny, text_file: Path, tmp_path: Path, content: str) -> None:
    """A broken one, or one of a newer library, is told with the version that was tried, before a job and in it."""
    folder = Path(shutil.copytree(tiny("tied"), tmp_path / "model"))
    (folder / "tokenizer.json").write_text(content)
    for use in (
        lambda: check_text(folder, text_request(text_file), VOCABULARY),
        lambda: tokenize(folder, text_request(text_file), tmp_path),
        lambda: opening_of(folder),
    ):
        with pytest.raises(ModelError, match=r"model: its tokenizer cannot be loaded by transformers \d+\.\d+"):
            use()


@pytest.mark.parametrize("vocabulary", [0, 1, 50, 256])
def test_tokenizer_of_another_model(tiny: Tiny, text_file: Path, tmp_path: Path, vocabulary: int) -> None:
    """Ids beyond the embedding are told before a job, and again where the text is made."""
    for use in (check_text, lambda f, r, v: tokenize(f, r, tmp_path, None, v)):
        with pytest.raises(ModelError, match=rf"gives the token \d+, but the model's embedding has {vocabulary} rows"):
            use(tiny("tied"), text_request(text_file), vocabulary)
    check_text(tiny("tied"), text_request(text_file), VOCABULARY)


@pytest.mark.parametrize("template", ["<s> $A", "[gMASK] $A"])
def test_opening_beyond_the_embedding(tiny: Tiny, text_file: Path, tmp_path: Path, template: str) -> None:
    """It counts as any other token of the text."""
    folder = _with_template(Path(shutil.copytree(tiny("tied"), tmp_path / "model")), template)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"ids": [7]', '"ids": [999]').replace('"ids": [9]', '"ids": [999]'))
    with pytest.raises(ModelError, match="gives the token 999"):
        check_text(folder, text_request(text_file), VOCABULARY)


def test_a_long_text_is_looked_at_in_part(
    tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the head of a text tells that it is long enough, the rest is left to the job."""
    long = tmp_path / "long.txt"
    long.write_text(text_file.read_text() * 40)
    seen: list[int] = []
    ids = type(load_tokenizer(tiny("tied"))).ids

    def counted(self: Any, text: str) -> list[int]:
        seen.append(len(text))
        return ids(self, text)

    monkeypatch.setattr("workers.text.tokenizer.TextTokenizer.ids", counted)
    check_text(tiny("tied"), text_request(long), VOCABULARY)
    assert sum(seen) <= 32 * 32 * 12
    check_text(tiny("tied"), replace(text_request(long), num_search=2), VOCABULARY)
