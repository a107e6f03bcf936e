"""Texts and pairs as a model's own tokenizer encodes them, and what sums up their tokens."""

import json
from pathlib import Path

import pytest
import torch

from space.errors import CalibrationError, ModelError
from tests.families.zoo import make_family
from workers.samples.sample_records import divide, read_text_records
from workers.samples.sample_table import check_samples, make_samples, read_samples
from workers.samples.text_samples import make_embedded_texts, pooling_of
from workers.text.tokens import TextRequest

_TEXTS = [(f"Sentence number {i} is here, {'and goes on ' * (i % 3)}",) for i in range(12)]


def _pools(folder: Path, **config: object) -> None:
    (folder / "modules.json").write_text(json.dumps([{"path": "1_Pooling", "type": "sentence_transformers.Pooling"}]))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))


def test_the_pooling_is_the_model_s_own(tmp_path: Path) -> None:
    """Weights are those of the files beside the model; without any, a decoder's last token is taken."""
    model = make_family("qwen3-embedding", tmp_path / "model")
    made = make_embedded_texts(model, _TEXTS, 16)
    mask, weights = made.tensors["attention_mask"], made.tensors["pooling"]
    assert weights.sum(1).equal(torch.ones(12))
    assert (weights * mask).sum(1).equal(torch.ones(12))
    assert weights.max() == 1
    _pools(model, pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    mean = make_embedded_texts(model, _TEXTS, 16).tensors["pooling"]
    assert mean.mul(mask.sum(1, keepdim=True)).round().equal(mask.float())
    _pools(model, pooling_mode_max_tokens=True)
    with pytest.raises(ModelError, match="an embedder is judged with one of mean, cls"):
        pooling_of(model)


def test_pairs_and_lines_are_samples(tmp_path: Path) -> None:
    """JSONL with a query and a document gives pairs, a text its lines; one without a pair is named."""
    lines = [json.dumps({"query": f"what is {i}", "document": f"it is {i}"}) for i in range(9)]
    pairs, text = tmp_path / "pairs.jsonl", tmp_path / "lines.txt"
    pairs.write_text("\n".join(lines))
    text.write_text("a line that is long enough\n\nshort\nanother line of the text")
    assert read_text_records(str(pairs), tmp_path).records[3] == ("what is 3", "it is 3")
    assert [r[0][:9] for r in read_text_records(str(text), tmp_path).records] == ["a line th", "another l"]
    pairs.write_text("\n".join([*lines, json.dumps({"query": "alone"})]))
    with pytest.raises(CalibrationError, match="line 10 has no pair, but those before have"):
        read_text_records(str(pairs), tmp_path)


def test_a_pair_is_one_sequence_of_a_classifier(tmp_path: Path) -> None:
    """Both texts stand in it, behind each other, in three disjoint splits."""
    model, source = make_family("bert-class", tmp_path / "model"), tmp_path / "pairs.jsonl"
    source.write_text("\n".join(json.dumps({"text": f"question {i}", "text_pair": f"reply {i}"}) for i in range(30)))
    request = TextRequest(str(source), 32, 8, 4, 4, 0)
    records = read_samples("texts", model, request)
    tokens = make_samples("texts", model, request, records, tmp_path)
    assert [len(tokens.load(split)) for split in ("calibration", "search", "held_out")] == [8, 4, 4]
    found = tokens.load("search").tensors["input_ids"]
    assert found.shape[1] > 4
    assert len(set(tokens.digests)) == 3


def test_too_few_and_none_are_refused_early(tmp_path: Path) -> None:
    """Before a job exists, with what to give."""
    model, source = make_family("bert-class", tmp_path / "model"), tmp_path / "few.txt"
    source.write_text("a line that is long enough\n" * 4)
    with pytest.raises(CalibrationError, match="4 samples are too few: the search split gets 1"):
        check_samples("texts", model, TextRequest(str(source), 32, 8, 4, 4, 0))
    with pytest.raises(CalibrationError, match="give --calibration a file of texts"):
        check_samples("texts", model, TextRequest(None, 32, 8, 4, 4, 0))
    assert [len(part) for part in divide(list(range(40)), TextRequest("x", 32, 8, 4, 4, 0)).values()] == [8, 4, 4]
