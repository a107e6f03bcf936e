"""ONNX exports of Whisper: two graphs with each weight in one of them, whose transcripts are those of transformers."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from transformers import WhisperFeatureExtractor

from space.errors import ModelError
from space.level import parse_level
from tests.families import short_path
from tests.families.short_path import walked
from tests.families.zoo import make_kind
from tests.families.zoo_sizes import SMALL
from workers.families.read_inventory import inspect_model
from workers.onnx_files.graph_files import DECODER_FILE, ENCODER_FILE, SETTINGS_FILE, SOUND_FILE
from workers.onnx_files.onnx_architectures import check_model
from workers.onnx_files.packed_graph import stored_names


def _whisper(folder: Path) -> Path:
    """Make a small one that hears thirty seconds at once, as all of OpenAI's do."""
    make_kind("whisper", "WhisperForConditionalGeneration", {"max_source_positions": 1500}, folder)
    WhisperFeatureExtractor(feature_size=SMALL["num_mel_bins"]).save_pretrained(folder)
    return folder


def test_whisper_is_what_was_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes as predicted, the weights those of the search, and ONNX Runtime writes down what transformers does."""
    monkeypatch.setattr(short_path, "_LEVELS", (parse_level("b4-g32-ab8"), parse_level("b8-g32")))
    model = _whisper(tmp_path / "model")
    check_model(model)
    inventory = inspect_model(model)
    difference, source = walked(model, tmp_path, inventory, "onnx")
    assert difference == 0
    out, packed = tmp_path / "out", [m for m in inventory.modules if not source.plan[m.name].is_dense]
    assert {file.name for file in out.iterdir()} >= {ENCODER_FILE, DECODER_FILE, SETTINGS_FILE, SOUND_FILE}
    graphs = [onnx.load(out / name, load_external_data=False).graph for name in (ENCODER_FILE, DECODER_FILE)]
    stored = [{tensor.name for tensor in graph.initializer} for graph in graphs]
    for module in packed:
        names = set(stored_names(module, source.plan[module.name]))
        assert [names <= own for own in stored].count(True) == 1, module.name
    assert len(packed) > len(inventory.modules) / 2
    assert all(len([n for n in graph.node if n.op_type == "MatMulNBits"]) > 4 for graph in graphs)
    assert not any(node.op_type == "Attention" for graph in graphs for node in graph.node)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"max_source_positions": 750}, "hears 15 seconds at once"),
        ({"activation_function": "relu"}, "its activation is relu"),
        ({"scale_embedding": True}, "scales embeddings"),
    ],
)
def test_what_the_builder_takes_for_granted_is_looked_at(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    """Before there is a job: its graphs hear thirty seconds, and have Whisper's own activation."""
    config = json.loads((_whisper(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(ModelError, match=told):
        check_model(tmp_path)


def test_whisper_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """It is what onnxruntime-genai reads."""
    (_whisper(tmp_path) / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"there is no tokenizer\.json, which onnxruntime-genai reads"):
        check_model(tmp_path)
