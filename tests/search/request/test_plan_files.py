"""Plans of other tools, read from what they leave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.request.plan_files import read_plan, with_plans
from search.request.prepare import prepare
from space.errors import SpecError
from space.spec import make_spec
from tests.export.decoder_models import make_decoder
from tests.search.scripted import NAMES, inventory
from tests.workers.tiny_models import TinyKind
from workers.families.read_inventory import inspect_model

_Q, _K = NAMES[1], NAMES[2]
_GROUP = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}


def _compressed(**group: Any) -> dict[str, Any]:
    given = {"targets": ["Linear"], "weights": _GROUP, "input_activations": None}
    other = {"targets": [f"re:.*{_K.rpartition('.')[2]}$"], "weights": {**_GROUP, "num_bits": 8, "strategy": "channel"}}
    settings = {"ignore": [NAMES[3]], "config_groups": {"group_0": other, "group_1": {**given, **group}}}
    return {"model_type": "llama", "quantization_config": settings}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({_Q: "b4-g32", _K: "dense"}, {_Q: "b4-g32", _K: "dense"}),
        ({"point": "p3", "plan": {_Q: "b2-gch"}}, {_Q: "b2-gch"}),
        ({"tensor_storage": {_Q: {"bits_per_weight": 3}, "norm": {"shape": [1]}}}, {_Q: "exl3-3"}),
        (f"{_Q}: 4\n{_K}: 16\n\n", {_Q: "b4-g64", _K: "dense"}),
    ],
)
def test_formats(tmp_path: Path, content: Any, expected: dict[str, str]) -> None:
    """Ours, an export's record, EXL3's settings, EvoPress' lines: bits alone are at the group of uniform plans."""
    path = tmp_path / "theirs"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert read_plan(str(path), inventory()) == expected


def test_compressed_tensors(tmp_path: Path) -> None:
    """The first group whose targets name a module is its own; the ignored ones and the embedding stay dense."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(_compressed()))
    found = read_plan(str(path), inventory())
    assert found[_Q] == "b4-g32"
    assert found[_K] == "b8-gch"
    assert NAMES[0] not in found
    assert NAMES[3] not in found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read as a plan"),
        ("{", "cannot be read as a plan"),
        ("not a plan at all", "is not `module: level`"),
        ("{}", "names no module of the model"),
        (json.dumps({_Q: "b99"}), "bits=99"),
        (json.dumps(_compressed(weights={**_GROUP, "symmetric": False})), "only symmetric integers"),
        (json.dumps(_compressed(weights={"type": "int", "symmetric": True, "strategy": "group"})), "num_bits"),
        (json.dumps({"quantization_config": {"config_groups": {"a": 3}}}), "cannot be read as a plan"),
    ],
)
def test_what_is_no_plan_is_one_sentence(tmp_path: Path, content: str | None, told: str) -> None:
    """With the file's name, and where the formats stand."""
    path = tmp_path / "theirs.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SpecError, match=told) as caught:
        read_plan(str(path), inventory())
    assert str(path) in str(caught.value)
    assert "docs/search.md" in str(caught.value)


def test_a_gguf_file_is_read_by_its_types(tmp_path: Path) -> None:
    """Each module's tensor has a name of llama.cpp's; float tensors stand for dense modules."""
    import gguf
    import numpy as np

    model = inspect_model(make_decoder(tmp_path / "model", "qwen3"))
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    for name, kind, size in (
        ("blk.0.attn_q.weight", gguf.GGMLQuantizationType.Q4_K, 144),
        ("blk.1.ffn_down.weight", gguf.GGMLQuantizationType.Q8_0, 34),
        ("token_embd.weight", gguf.GGMLQuantizationType.F16, 64),
    ):
        writer.add_tensor(name, np.zeros((1, size), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_plan(str(path), model) == {
        "model.embed_tokens": "dense",
        "model.layers.0.self_attn.q_proj": "q4_K",
        "model.layers.1.mlp.down_proj": "q8_0",
    }


def test_a_request_brings_plans_by_the_names_of_their_files(tmp_path: Path, tiny: Callable[[TinyKind], Path]) -> None:
    """Beside those that it has; a name is taken once."""
    path = tmp_path / "theirs.txt"
    path.write_text("model.layers.0.mlp.down_proj: 4\n")
    asked = with_plans(make_spec(model=str(tiny("untied")), budget="50%", plans={"own": {}}), [str(path)])
    assert asked.plans == (("own", ()), ("theirs", (("model.layers.0.mlp.down_proj", "b4-g64"),)))
    (name, plan), *_ = reversed(prepare(asked).space.given)
    assert (name, sum(not level.is_dense for _, level in plan.levels)) == ("theirs", 1)
    with pytest.raises(SpecError, match="there is a plan 'theirs' already"):
        with_plans(asked, [str(path)])
