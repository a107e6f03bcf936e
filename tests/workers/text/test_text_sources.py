"""Text and tokens: three disjoint splits, clear refusals, and sampling that can be repeated."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from space.errors import CalibrationError, ModelError
from tests.workers.tiny_models import TinyKind, make_workspace, text_request
from workers.tasks import PrepareText
from workers.text import excerpt
from workers.text.excerpt import read_excerpt
from workers.text.text_sources import STDLIB, STDLIB_MODULES, check_source, read_text
from workers.text.tokens import SPLITS, TextRequest, TokenSet, check_text, tokenize
from workers.worker import Worker

Tiny = Callable[[TinyKind], Path]


def _sequences(tokens: TokenSet) -> list[set[tuple[int, ...]]]:
    return [{tuple(row) for row in tokens.load(split).tolist()} for split in SPLITS]


def test_splits_of_a_file_are_disjoint(tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """No sequence is in two splits, and each has the number and length asked for."""
    tokens = tokenize(tiny("tied"), text_request(text_file), tmp_path)
    assert [tuple(tokens.load(split).shape) for split in SPLITS] == [(8, 32), (6, 32), (6, 32)]
    calibration, search, held_out = _sequences(tokens)
    assert not calibration & search
    assert not calibration & held_out
    assert not search & held_out
    assert tokenize(tiny("tied"), text_request(text_file), tmp_path) == tokens


def test_splits_of_the_standard_library_are_disjoint(tiny: Tiny, tmp_path: Path) -> None:
    """No module serves two splits, and more text than there is is refused."""
    modules = [name for names in STDLIB_MODULES.values() for name in names]
    assert len(modules) == len(set(modules))
    tokens = tokenize(tiny("tied"), text_request(Path(STDLIB)), tmp_path)
    calibration, search, held_out = _sequences(tokens)
    assert not calibration & search | calibration & held_out | search & held_out
    with pytest.raises(CalibrationError, match=r"python-stdlib holds \d+ sequences for search, 1000000 were asked"):
        tokenize(tiny("tied"), replace(text_request(Path(STDLIB)), num_search=10**6), tmp_path)


@pytest.mark.parametrize("num_characters", [1, 100, 190])
def test_short_text_is_refused(tiny: Tiny, text_file: Path, tmp_path: Path, num_characters: int) -> None:
    """Each split needs two sequences; the message says how many there are and what to do."""
    short = tmp_path / "short.txt"
    short.write_text(text_file.read_text()[:num_characters])
    with pytest.raises(CalibrationError, match=r"short\.txt: too short: \d sequences of 32 tokens .* smaller --seq"):
        tokenize(tiny("tied"), text_request(short), tmp_path)
    with pytest.raises(CalibrationError, match=r"short\.txt: too short"):
        check_text(tiny("tied"), text_request(short), None)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"", "holds no text"),
        ("a.txt", b" \n\t", "holds no text"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read as UTF-8"),
        ("a.jsonl", b'{"text": "x"}\nnot json\n', "must be a JSON object with a `text` field"),
        ("a.jsonl", b'{"body": "x"}\n', "must be a JSON object with a `text` field"),
        ("a.jsonl", b"[1]\n", "must be a JSON object with a `text` field"),
        ("a.jsonl", b"", "holds no text"),
    ],
)
def test_useless_file_is_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    """An empty, binary or wrongly shaped file is refused with its name, before and in a job."""
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_text, check_source):
        with pytest.raises(CalibrationError, match=told) as caught:
            read(str(path))
        assert str(path) in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    """What looks like a path is no dataset name; a folder is no text."""
    with pytest.raises(CalibrationError, match=r"no such file\. Give a text or JSONL file"):
        check_source(str(tmp_path / "none.txt"))
    with pytest.raises(CalibrationError, match="cannot be read"):
        check_source(str(tmp_path))


def test_lines_of_jsonl_are_joined(tmp_path: Path) -> None:
    """One object a line; other fields and empty lines are passed over."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "eins", "id": 1}) + "\n\n" + json.dumps({"text": "zwei"}) + "\n")
    assert read_text(str(path)) == "eins\nzwei"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_jsonl_ends_lines_as_json_does(tmp_path: Path, end: str) -> None:
    """What else ends a line for Python may stand in a JSON string as it is."""
    texts = ["a\u2028b", "c\u2029d", "e\x85f"]
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_bytes("".join(line + end for line in lines).encode())
    assert read_text(str(path)) == "\n".join(texts)


def test_long_text_is_tokenized_in_slices(
    tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to its limit a text is taken whole; a longer one gives evenly spaced slices, always the same ones."""
    short, long = tmp_path / "short.txt", tmp_path / "long.txt"
    short.write_text(text_file.read_text()[:20_000])
    request = text_request(short)
    whole = tokenize(tiny("tied"), request, tmp_path)
    monkeypatch.setattr(excerpt, "_MIN_CHARACTERS", 0)
    assert tokenize(tiny("tied"), request, tmp_path) == whole
    assert read_excerpt(str(short), request.num_tokens).parts == ((short.read_text(),),)
    long.write_text("".join(f"{number:07}\n" for number in range(50_000)))
    (slices,) = read_excerpt(str(long), request.num_tokens).parts
    assert sum(map(len, slices)) <= 32 * request.num_tokens
    starts = [long.read_text().index(piece) for piece in slices]
    assert (starts[0], starts[-1] + len(slices[-1])) == (0, 400_000)
    steps = {second - first for first, second in pairwise(starts)}
    assert max(steps) - min(steps) <= 1
    assert min(steps) > len(slices[0])
    tokens = tokenize(tiny("tied"), replace(request, source=str(long)), tmp_path)
    assert [tuple(tokens.load(split).shape) for split in SPLITS] == [(8, 32), (6, 32), (6, 32)]
    assert "64 slices of it divided" in tokens.note


def test_folder_without_tokenizer_is_named(tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """Text needs a tokenizer; its lack is the model's error."""
    (tmp_path / "config.json").write_text((tiny("tied") / "config.json").read_text())
    with pytest.raises(ModelError, match="its tokenizer cannot be loaded") as caught:
        tokenize(tmp_path, text_request(text_file), tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ["tied", "phi"])
def test_sampling_is_seeded(tiny: Tiny, tmp_path: Path, kind: TinyKind) -> None:
    """A seed gives the same text again, from whichever worker; another seed gives another one."""
    workspace = make_workspace(tiny(kind), tmp_path)

    def sample(seed: int) -> TokenSet:
        request = TextRequest(None, 8, 3, 2, 2, seed)
        found: TokenSet = Worker(workspace).run(PrepareText(request))
        return found

    tokens = sample(7)
    assert sample(7) == tokens
    assert sample(8).digest != tokens.digest
    assert tokens.note == "text: sampled from the model itself, seed 7"
    assert [tuple(tokens.load(split).shape) for split in SPLITS] == [(3, 8), (2, 8), (2, 8)]
    rows = torch.cat([tokens.load(split) for split in SPLITS])
    assert len({tuple(row) for row in rows.tolist()}) == 7
