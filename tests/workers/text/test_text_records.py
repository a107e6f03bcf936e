"""What a calibration file holds is read as what it is, or refused with the place of what has no text."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from space.errors import CalibrationError
from tests.workers.tiny_models import TinyKind, text_request
from workers.text.text_sources import read_text
from workers.text.tokens import tokenize

TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
CHAT = [{"role": "user", "content": "eins"}, {"role": "assistant", "content": "zwei"}]
LINES = '{"text": "eins"}\n{"text": "zwei", "id": 2}\n'
ARRAY = json.dumps([{"text": "eins"}, {"text": "zwei"}], indent=1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.JSONL", LINES),
        ("a.ndjson", LINES.replace("\n", "\r\n")),
        ("a.json", LINES),
        ("a.json", ARRAY),
        ("a.Json", json.dumps(["eins", "zwei"])),
        ("a.jsonl", ARRAY),
        ("a.txt", LINES),
        ("a", ARRAY),
        ("a.json", json.dumps({"text": "eins\nzwei"})),
        ("a.jsonl", "\ufeff" + LINES),
    ],
)
def test_json_is_told_by_its_content(tmp_path: Path, name: str, content: str) -> None:
    """One document or one a line, whatever the file is called."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    assert read_text(str(path)) == "eins\nzwei"


@pytest.mark.parametrize(
    "content",
    ["[1] A reference, no JSON.\n", "{a} is a set", '{"a": 1}\nand then prose', "[1, 2, 3]", '["a", "b"]', "{", "{}x"],
)
def test_text_that_only_looks_like_json(tmp_path: Path, content: str) -> None:
    """A text file stays what it is."""
    path = tmp_path / "a.txt"
    path.write_text(content)
    assert read_text(str(path)) == content


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(("name", "content"), [("a.txt", "größer"), ("a.jsonl", '{"text": "größer"}')])
def test_byte_order_marks(tmp_path: Path, name: str, content: str, encoding: str) -> None:
    """They say how the rest is to be read, and are no part of it."""
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    assert read_text(str(path)) == "größer"


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ('{"text": null}', "its `text` is null"),
        ('{"text": ["a", "b"]}', "its `text` is a list; chat turns belong into `messages`"),
        ('{"text": [{"role": "user", "content": "a"}]}', "chat turns belong into `messages`"),
        ('{"text": {"de": "a"}}', "its `text` is an object"),
        ('{"text": 3}', "its `text` is a number"),
        ('{"text": false}', "its `text` is true or false"),
        ('{"prompt": "a", "answer": "b"}', "the fields 'prompt', 'answer'"),
        ('{"messages": "a"}', "the fields 'messages'"),
        ("{}", "no field"),
        ("3", "is a number"),
        ("null", "its `text` is null|is null"),
        ('{"text": "\\ud83d"}', r"holds \\ud83d, half of a surrogate pair"),
        ('{"text": "a\\udc00b"}', r"holds \\udc00, half of a surrogate pair"),
        ('{"text": "a"', "is no JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_records_without_text(tmp_path: Path, record: str, told: str) -> None:
    """Nothing but text is calibrated on; the line is named."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n\n' + record + "\n")
    with pytest.raises(CalibrationError, match=rf"a\.jsonl: line 3 .*({told})"):
        read_text(str(path))
    if json_value(record) is not None:
        path = path.with_suffix(".json")
        path.write_text(f'["fine", {record}]')
        with pytest.raises(CalibrationError, match=rf"a\.json: entry 2 .*({told})"):
            read_text(str(path))


def json_value(text: str) -> Any:
    """Return what a text is as JSON, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@pytest.fixture
def chatting(tiny: Callable[[TinyKind], Path], tmp_path: Path) -> Path:
    """Give a model whose tokenizer has a chat template and a token of the begin."""
    folder = Path(shutil.copytree(tiny("tied"), tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "!", "chat_template": TEMPLATE}))
    return folder


def test_chats_are_written_by_the_models_template(chatting: Path, tmp_path: Path) -> None:
    """Each record is one text of the template; a text beside them stays; what a template cannot write is named."""
    path = tmp_path / "a.jsonl"
    path.write_text(f'{json.dumps({"messages": CHAT})}\n{{"text": "drei"}}\n{json.dumps({"messages": CHAT[:1]})}\n')
    assert read_text(str(path), chatting) == "!<user>eins\n<assistant>zwei\n\ndrei\n!<user>eins\n"
    path.write_text(f'{json.dumps({"messages": CHAT})}\n{{"messages": ["a"]}}\n')
    with pytest.raises(CalibrationError, match=r"line 2: the model's chat template cannot write its `messages`"):
        read_text(str(path), chatting)


def test_chats_begin_once(chatting: Path, tmp_path: Path) -> None:
    """Where the tokenizer begins every sequence, its begin stands there and not before every chat as well."""
    tokenizer = json.loads((chatting / "tokenizer.json").read_text())
    begin = tokenizer["model"]["vocab"]["!"]
    single = [{"SpecialToken": {"id": "!", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"!": {"id": "!", "ids": [begin], "tokens": ["!"]}}
    tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": single}
    tokenizer["post_processor"]["special_tokens"] = special
    (chatting / "tokenizer.json").write_text(json.dumps(tokenizer))
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps({'messages': CHAT})}\n" * 100)
    tokens = tokenize(chatting, text_request(path), tmp_path)
    rows = tokens.load("search")
    assert (rows == begin).sum(1).tolist() == [1] * len(rows)
    assert (rows[:, 0] == begin).all()


def test_chats_without_a_template(tiny: Callable[[TinyKind], Path], tmp_path: Path) -> None:
    """A model that has none, or none at all, cannot write them."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": CHAT}))
    with pytest.raises(CalibrationError, match=r"line 1: it holds chat turns, and \S+ has no chat template"):
        read_text(str(path), tiny("tied"))
    with pytest.raises(CalibrationError, match="line 1: it holds chat turns, which only a model's chat template"):
        read_text(str(path))


def _table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="tables are read through the optional datasets package")
    pytest.importorskip("datasets", reason="tables are read through the optional datasets package")
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, path)
    else:
        from pyarrow import csv

        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ","))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.tsv", "a.parquet"])
def test_columns_of_tables(tmp_path: Path, name: str) -> None:
    """The column `text`, cell by cell, whatever a cell looks like."""
    rows = [{"id": 1, "text": 'eins, "zwei"\nund'}, {"id": 2, "text": "NA"}, {"id": 3, "text": "größer"}]
    assert read_text(str(_table(tmp_path / name, rows))) == 'eins, "zwei"\nund\nNA\ngrößer'


def test_chats_in_parquet(chatting: Path, tmp_path: Path) -> None:
    """The column `messages` is written as in JSONL."""
    path = _table(tmp_path / "a.parquet", [{"messages": CHAT}, {"messages": CHAT[:1]}])
    assert read_text(str(path), chatting) == "!<user>eins\n<assistant>zwei\n\n!<user>eins\n"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"body": "a"}], "row 1 has no text, but the fields 'body'"),
        ([{"text": "a"}, {"text": None}], "row 2 has no text, but its `text` is null"),
        ([{"text": 3}], "row 1 has no text, but its `text` is a number"),
        ([{"text": ["a"]}], "row 1 has no text, but its `text` is a list; chat turns belong into `messages`"),
    ],
)
def test_tables_without_text(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    """The row is named."""
    with pytest.raises(CalibrationError, match=rf"a\.parquet: {told}\. It needs a column"):
        read_text(str(_table(tmp_path / "a.parquet", rows)))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.tsv"])
def test_tables_need_a_package(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is missing, its name and how to get it are told; a broken table is told as such where it is there."""
    path = tmp_path / name
    path.write_bytes(b"\x00\xff\xfe no table")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(CalibrationError, match=rf"{name}: .* need a package: pip install datasets"):
        read_text(str(path))
    monkeypatch.undo()
    pytest.importorskip("datasets", reason="tables are read through the optional datasets package")
    with pytest.raises(CalibrationError, match=rf"{name}: (the dataset cannot be read|row 1)"):
        read_text(str(path))
