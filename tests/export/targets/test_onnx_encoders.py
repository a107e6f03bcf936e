"""ONNX exports of encoders: of text, of images, with heads and without; ONNX Runtime answers as transformers does."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from space.level import parse_level
from tests.families import short_path
from tests.families.short_path import walked
from tests.families.zoo import make_kind
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.onnx_files.graph_files import GRAPH_FILE
from workers.onnx_files.onnx_architectures import ENCODERS, check_model
from workers.onnx_files.onnx_runtime import runtime_answers

_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification")
_OF_TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "Albert": ("albert", {}),
    "Bert": ("bert", {}),
    "Camembert": ("camembert", {}),
    "DebertaV2": ("deberta-v2", {"relation_attn": None, "pooler_hidden_size": 64}),
    "DistilBert": ("distilbert", {"dim": 64, "hidden_dim": 128, "n_heads": 4}),
    "Electra": ("electra", {}),
    "MPNet": ("mpnet", {}),
    "ModernBert": ("modernbert", {}),
    "Roberta": ("roberta", {}),
    "XLMRoberta": ("xlm-roberta", {}),
}
_MODELS = {f"{name}{head}": entry for name, entry in _OF_TEXT.items() for head in _HEADS} | {
    "NomicBertModel": ("nomic_bert", {}),
    "ViTModel": ("vit", {}),
    "ViTForImageClassification": ("vit", {}),
    "BeitForImageClassification": ("beit", {"stage_names": None, "out_features": None, "out_indices": None}),
    "DeiTForImageClassificationWithTeacher": ("deit", {}),
    "CLIPVisionModel": ("clip_vision_model", {}),
    "SiglipVisionModel": ("siglip_vision_model", {}),
}
_QUICK = ("BertForMaskedLM", "ViTForImageClassification")


def test_each_is_tried() -> None:
    """What is said to be held was held against transformers here."""
    assert set(_MODELS) == set(ENCODERS.architectures)


@pytest.mark.parametrize(
    "named", [*_QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in _MODELS if name not in _QUICK)]
)
def test_every_architecture_is_what_was_searched(named: str, tmp_path: Path) -> None:
    """Bytes as predicted, the weights those of the search, and ONNX Runtime answers alike, masks and batches too."""
    model_type, own = _MODELS[named]
    model = make_kind(model_type, named, own, tmp_path / "model")
    check_model(model)
    difference, source = walked(model, tmp_path, inspect_model(model), "onnx")
    assert difference == 0
    assert any(not level.is_dense for _, level in source.plan.levels)
    out = tmp_path / "out"
    stored = json.loads((model / "config.json").read_text())
    assert json.loads((out / "config.json").read_text())["architectures"] == stored["architectures"]
    graph = onnx.load(out / GRAPH_FILE, load_external_data=False).graph
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    packed = {node.op_type for node in graph.node if node.domain == "com.microsoft"}
    assert "MatMulNBits" in packed
    given = _inputs({value.name for value in graph.input})
    (found,) = runtime_answers(out, [given])
    (alone,) = runtime_answers(out, [{name: value[:1] for name, value in given.items()}])
    first = next(iter(found))
    torch.testing.assert_close(alone[first], found[first][:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("named", _QUICK)
def test_inputs_in_eight_bits_are_what_was_searched(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's integer kernels have the recorded loss, of text and of images; look-ups round nothing."""
    monkeypatch.setattr(short_path, "_LEVELS", (parse_level("b4-g32-ab8"), parse_level("b8-g32-ab8")))
    model_type, own = _MODELS[named]
    model = make_kind(model_type, named, own, tmp_path / "model")
    difference, source = walked(model, tmp_path, inspect_model(model), "onnx")
    assert difference == 0
    assert sum(bool(level.inputs) for _, level in source.plan.levels) > len(source.plan.levels) / 2


def _inputs(names: set[str]) -> dict[str, torch.Tensor]:
    """Return a batch of three, the first of five tokens or a whole image, of whatever a graph asks for."""
    generator = torch.Generator().manual_seed(1)
    if "pixel_values" in names:
        return {"pixel_values": torch.randn(3, 3, 32, 32, generator=generator)}
    tokens = {"input_ids": torch.randint(5, 250, (3, 11), generator=generator)}
    others = {"attention_mask": torch.ones(3, 11).long(), "token_type_ids": torch.zeros(3, 11).long()}
    return tokens | {name: value for name, value in others.items() if name in names}


def test_a_weight_that_comes_first_under_its_other_name(tmp_path: Path) -> None:
    """XLM-RoBERTa's head stands before the embedding that it is tied to, under whose name the weight is stored."""
    model = make_kind("xlm-roberta", "XLMRobertaForMaskedLM", {}, tmp_path)
    (embedding,) = [module for module in inspect_model(model).modules if module.tied]
    assert (embedding.name, embedding.tied) == ("roberta.embeddings.word_embeddings", ("lm_head.decoder",))
    loaded = load_model(model)
    assert loaded.lm_head.decoder.weight is loaded.roberta.embeddings.word_embeddings.weight
