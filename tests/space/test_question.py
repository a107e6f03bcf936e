"""Numbers are called by what they are."""

import pytest

from space.question import KL, QUESTIONS, Metric


def test_texts_are_told_in_the_words_of_a_metric() -> None:
    """A language model's stay as they are; an embedder's name the cosine, and no perplexity."""
    text = "KL 0.2, a KL divergence of 0.2 nats per token (KL divergence, nats per token)"
    assert KL.told(text) is text
    cosine = QUESTIONS["text-embedder"].metric
    name = "1 - cosine similarity"
    assert cosine.told(text) == f"1 - cos 0.2, a {name} of 0.2 ({name})"
    assert QUESTIONS["text-classifier"].metric.told("KL 0.2 nats per token") == "KL 0.2 nats per text"
    assert Metric.from_json(None) == KL
    assert Metric.from_json({"name": "x", "symbol": "x", "unit": "", "beside": None}).beside is None


@pytest.mark.parametrize("metric", [question.metric for question in QUESTIONS.values()])
def test_words_are_put_in_once(metric: Metric) -> None:
    """However often a text passes, since faces and cards both ask."""
    once = metric.told("KL divergence to dense, nats per token; 0.2 nats per token; KL; perplexity")
    assert metric.told(once) == once
    assert once.count(metric.unit) == (2 if metric.unit else len(once) + 1)
