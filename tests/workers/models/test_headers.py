"""Headers, indices and configs from outside: one sentence each, before anything believes what they say."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from space.errors import ModelError
from tests.workers.tiny_models import TinyKind
from workers.families.read_inventory import inspect_model
from workers.models.headers import read_header

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture
def model(tiny: Callable[[TinyKind], Path], tmp_path: Path) -> Path:
    """Give a copy of a tiny model that a test may break."""
    return Path(shutil.copytree(tiny("tied"), tmp_path / "model"))


def _refused(folder: Path, told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        inspect_model(folder)
    assert str(folder) in str(caught.value)


def _change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def _write_header(path: Path, header: str, data: int = 8) -> None:
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))


def _tensor(offsets: str, shape: str = "[4]", dtype: str = '"BF16"') -> str:
    return f'{{"dtype": {dtype}, "shape": {shape}, "data_offsets": {offsets}}}'


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (f'{{"x": {_tensor("[0, 8]", dtype=chr(91) + chr(93))}}}', "x has no dtype"),
        (f'{{"x": {_tensor("[0, 4, 8]")}}}', "x has no data_offsets"),
        (f'{{"x": {_tensor("[false, 8]")}}}', "x has no data_offsets"),
        (f'{{"x": {_tensor("[0.0, 8.0]")}}}', "x has no data_offsets"),
        (f'{{"x": {_tensor("[0, 8]", shape="[-4]")}}}', "x has no shape"),
        (f'{{"x": {_tensor("[0, 8]", shape="[true, 4]")}}}', "x has no shape"),
        (f'{{"x": {_tensor("[0, 8]", shape=str([1] * 17))}}}', "x has no shape"),
        (f'{{"x": {_tensor("[0, 8]", shape=f"[{2**62}, {2**62}]")}}}', "x has no place"),
        (f'{{"x": {_tensor("[0, 8]")}, "y": {_tensor("[4, 8]", "[2]")}}}', "y overlaps with x"),
        (f'{{"x": {_tensor("[0, 2]", "[1]")}, "y": {_tensor("[4, 8]", "[2]")}}}', "y leaves a gap behind x"),
        (f'{{"y": {_tensor("[4, 8]", "[2]")}}}', "y leaves a gap behind its header"),
        (f'{{"x": {_tensor("[0, 8]")}, "__metadata__": {{"a": 1}}}}', "__metadata__ is not text"),
        (f'{{"x": {_tensor("[0, 8]")}, "__metadata__": []}}', "__metadata__ is not text"),
        ('{"x": ' + "[" * 2000 + "]" * 2000 + "}", "nested too deeply"),
        ('{"x": NaN}', "no finite number"),
    ],
)
def test_header_that_safetensors_would_refuse(tmp_path: Path, header: str, told: str) -> None:
    """Each in one sentence, as the format asks: the tensors fill the file, without overlap or gap."""
    _write_header(tmp_path / WEIGHTS, header)
    with pytest.raises(ModelError, match=told) as caught:
        read_header(tmp_path / WEIGHTS)
    assert str(caught.value).startswith(str(tmp_path / WEIGHTS))
    with pytest.raises(SafetensorError):
        load_file(tmp_path / WEIGHTS)


@pytest.mark.parametrize(
    "header",
    [
        f'{{"x": {_tensor("[0, 8]")}}}',
        f'{{"y": {_tensor("[4, 8]", "[2, 1]")}, "x": {_tensor("[0, 4]", "[2]")}, "e": {_tensor("[4, 4]", "[0]")}}}   ',
        f'{{"__metadata__": {{"a": "1"}}, "x": {_tensor("[0, 8]", "[]", chr(34) + "I64" + chr(34))}}}',
    ],
)
def test_header_that_safetensors_reads(tmp_path: Path, header: str) -> None:
    """The same tensors at the same places."""
    _write_header(tmp_path / WEIGHTS, header)
    expected = {name: tuple(tensor.shape) for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    assert {t.info.name: t.info.shape for t in read_header(tmp_path / WEIGHTS)} == expected


def test_header_that_names_a_tensor_twice(tmp_path: Path) -> None:
    """Which of the two counts depends on who reads it."""
    _write_header(tmp_path / WEIGHTS, f'{{"x": {_tensor("[0, 8]")}, "x": {_tensor("[0, 8]", "[2, 2]")}}}')
    with pytest.raises(ModelError, match="holds 'x' twice"):
        read_header(tmp_path / WEIGHTS)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, f"{WEIGHTS}.index.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_no_file_in_place_of_one(model: Path, name: str, make: Callable[[Path], object]) -> None:
    """A folder, a pipe or a device is neither waited for nor read."""
    (model / name).unlink(missing_ok=True)
    make(model / name)
    _refused(model, rf"{name}: .*\(it is no regular file\)")


def _shard(folder: Path, files: dict[str, list[str]], weight_map: Any) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    for name, kept in files.items():
        save_file({key: tensors[key] for key in kept}, folder / name)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards(model: Path) -> None:
    """Two files are one model; a tensor in both is nobody's guess."""
    names = list(load_file(model / WEIGHTS))
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    weight_map = dict.fromkeys(names[:5], one) | dict.fromkeys(names[5:], two)
    shutil.copytree(model, model / "copy")
    before = inspect_model(model)
    _shard(model, {one: names[:5], two: names[5:]}, weight_map)
    assert inspect_model(model) == before
    _shard(model / "copy", {one: names[:6], two: names[5:]}, weight_map)
    _refused(model / "copy", f"{names[5]} is stored twice, in {one} and in {two}")


@pytest.mark.parametrize(
    ("weight_map", "told"),
    [
        ({}, "it has no weight_map"),
        ([], "it has no weight_map"),
        (7, "it has no weight_map"),
        ({"x": ".."}, r"it names '\.\.', which is no weight file beside it"),
        ({"x": ""}, "it names '', which is no weight file"),
        ({"x": 3}, "it names 3, which is no weight file"),
        ({"x": ["model.safetensors"]}, "which is no weight file"),
        ({"x": "../model.safetensors"}, "which is no weight file"),
        ({"x": "config.json"}, "which is no weight file"),
        ({"x": "y" * 300 + ".safetensors"}, "which is missing"),
    ],
)
def test_index_that_is_none(model: Path, weight_map: Any, told: str) -> None:
    """What it names lies beside it, and is a weight file."""
    _shard(model, {"other.safetensors": ["model.norm.weight"]}, weight_map)
    _refused(model, told)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"num_labels": 10**10}, "gives num_labels as 1e\\+10, and nothing in the weight files is so large"),
        ({"text_config": {"num_experts": 10**7}}, "gives num_experts as 1e\\+07"),
        ({"num_attention_heads": 10**9}, "gives num_attention_heads"),
        ({"sliding_window": -(10**30)}, "gives sliding_window as -1e\\+30"),
        ({"num_hidden_layers": 10**6}, "gives num_hidden_layers as 1e\\+06"),
        ({"num_hidden_layers": 60_000}, "more than twice the 20 tensors that the files hold"),
    ],
)
def test_config_far_larger_than_the_weights(model: Path, values: dict[str, Any], told: str) -> None:
    """Told at once, before anything of that size is made."""
    _change_config(model, **values)
    began = time.monotonic()
    with pytest.raises(ModelError, match=told):
        inspect_model(model)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("text", ['{"a":' * 3000 + "1" + "}" * 3000, '{"rope_theta": NaN}', '{"a": 1, "a": 2}'])
def test_config_that_is_not_strict_json(model: Path, text: str) -> None:
    """Nested without end, not a number, ambiguous."""
    (model / CONFIG).write_text(text)
    _refused(model, r"config\.json: not valid JSON \(")
