"""Answers to a user's own questions, held against transformers asked one question at a time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.workers.tiny_models import Bench, TinyKind
from workers.tasks import AskQuestions, OwnAnswers
from workers.text.own_questions import OwnQuestion, encoded
from workers.text.tokenizer import load_tokenizer

Benches = Callable[[TinyKind], Bench]
QUESTIONS = (
    OwnQuestion("def f(x):", (" return", " import os", " class"), 1),
    OwnQuestion("import", (" os",)),
    OwnQuestion("for i in range(3):\n    print(i) ", ("and so on", "b", "else")),
    OwnQuestion("x = ", ("1 + 2",)),
    OwnQuestion("while True:", (" pass", " break"), 1),
)


def _asked_alone(at: Bench, question: OwnQuestion) -> tuple[str, bool]:
    import transformers

    folder = Path(at.workspace.model_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    scores, likeliest = [], []
    for choice in question.choices:
        before, after = encoded(load_tokenizer(folder), question.prompt, choice)
        with torch.no_grad():
            log_p = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) - 1 + len(after))
        likeliest.append(([int(log_p[t].argmax()) for t in places], after))
        scores.append(sum(float(log_p[t, token]) for t, token in zip(places, after, strict=True)) / len(choice))
    if len(scores) == 1:
        said, wanted = likeliest[0]
        return " ".join(map(str, said)), said == wanted
    best = max(range(len(scores)), key=scores.__getitem__)
    return str(best), best == question.right


@pytest.mark.parametrize("kind", ["tied", "phi"])
def test_batches_say_what_each_question_alone_says(bench: Benches, kind: TinyKind) -> None:
    """Padding and order change nothing; a choice is taken by its logarithm of probability over its bytes."""
    at = bench(kind)
    found: OwnAnswers = at.worker.run(AskQuestions(at.tokens, at.dense_plan(), QUESTIONS))
    assert list(zip(found.answers, found.is_right, strict=True)) == [_asked_alone(at, q) for q in QUESTIONS]
    assert found.token_forwards > 0


def test_a_plan_is_asked_with_its_own_weights(bench: Benches) -> None:
    """Two bits everywhere say something else than the dense model."""
    at = bench("tied")
    plan = at.plan(("b2-g32",))
    at.build(plan)
    dense, found = (at.worker.run(AskQuestions(at.tokens, p, QUESTIONS)) for p in (at.dense_plan(), plan))
    assert found.answers != dense.answers


def test_what_is_right_is_what_the_file_says(bench: Benches) -> None:
    """The same choice is right or wrong by its place alone."""
    at = bench("tied")
    said = int(at.worker.run(AskQuestions(at.tokens, at.dense_plan(), QUESTIONS[:1])).answers[0])
    both = tuple(replace(QUESTIONS[0], right=place) for place in (said, (said + 1) % 3))
    found = at.worker.run(AskQuestions(at.tokens, at.dense_plan(), both))
    assert (found.answers, found.is_right) == ((str(said), str(said)), (True, False))
