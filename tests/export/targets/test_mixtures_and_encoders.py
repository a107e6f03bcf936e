"""Mixtures of experts, encoders and odd models for each target: exported and loaded again, or refused before a job."""

from pathlib import Path

import pytest

from search.request.prepare import prepare
from space.errors import TightfitError
from space.spec import make_spec
from tests.families.short_path import walk
from tests.families.zoo import make_family
from workers.families.read_inventory import inspect_model

_HELD = [
    *(("bert", target) for target in ("packed", "compressed-tensors")),  # onnx: tests/export/targets/test_onnx_encoders
    *(("gpt_oss", target) for target in ("packed", "compressed-tensors")),
    ("qwen3_moe", "packed"),  # gguf: tests/export/targets/test_gguf
    *((family, "compressed-tensors") for family in ("nanochat", "mamba")),  # in part
]
_REFUSED = [
    ("bert", "gguf", "a BertForMaskedLM cannot be written as GGUF"),
    ("bert", "vllm", "--target vllm knows the fused layers of"),
    ("bert", "exl3", "runs decoders of text only"),
    ("qwen3_moe", "compressed-tensors", "in parts, which transformers does not put together"),
    ("olmo_hybrid", "compressed-tensors", "linear_attn.conv1d.weight in parts"),
    ("modernbert", "compressed-tensors", "none that the model's class looks at as it is loaded"),
    ("whisper", "compressed-tensors", "its encoder is called before compressed-tensors has unpacked it"),
    ("llama4", "compressed-tensors", "whose experts compressed-tensors parts as it loads"),
    ("qwen3_moe", "vllm", "--target vllm knows the fused layers of"),
    ("qwen3_moe", "onnx", "a Qwen3MoeForCausalLM cannot be written as ONNX yet"),
    ("gpt_oss", "gguf", "a GptOssForCausalLM cannot be written as GGUF"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "target"), _HELD)
def test_what_files_hold(family: str, target: str, tmp_path: Path) -> None:
    """Bytes as predicted, and the answers of the search in a fresh process."""
    model = make_family(family, tmp_path / "model")
    assert walk(model, tmp_path, inspect_model(model), target) == 0


@pytest.mark.parametrize(("family", "target", "told"), _REFUSED)
def test_what_they_do_not_hold(family: str, target: str, told: str, tmp_path: Path) -> None:
    """In a sentence that names what to do."""
    model = make_family(family, tmp_path)
    with pytest.raises(TightfitError, match=told) as refused:
        prepare(make_spec(model=str(model), target=target, budget="60%"))
    assert "Use --target" in str(refused.value) or "or --target" in str(refused.value)
