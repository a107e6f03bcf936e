"""What a model says to a user's own questions: the likelier choice, or each token of the answer by itself.

Shape legend: B rows, T tokens, A tokens of an answer, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from workers.model_inputs import Samples
from workers.tasks import BATCH
from workers.text.own_questions import OwnQuestion, encoded
from workers.text.tokenizer import TextTokenizer, load_tokenizer

Logits = Callable[[Sequence[Samples]], Iterator[Tensor]]
"""(B, T) tokens of each batch -> (B, T, V) logits"""


def own_answers(
    questions: Sequence[OwnQuestion], folder: Path, logits: Logits
) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Return the answers, and whether each is right.

    Of choices the one is taken whose logarithm of probability over its bytes of text is the largest (`acc_norm` of
    lm-evaluation-harness). An answer without choices is right where each of its tokens is the likeliest after the
    prompt and the right tokens before it; what is likeliest there is the answer.

    Args:
        questions: in their order.
        folder: the model, for its tokenizer.
        logits: asks the model.

    """
    tokenizer = _tokenizer(folder)
    rows = [encoded(tokenizer, question.prompt, choice) for question in questions for choice in question.choices]
    heard = iter(_heard(rows, logits))
    answers, is_right = [], []
    for question in questions:
        found = [next(heard) for _ in question.choices]
        if len(found) == 1:
            _, likeliest, wanted = found[0]
            answers.append(" ".join(map(str, likeliest)))
            is_right.append(likeliest == wanted)
        else:
            scores = [score / len(c.encode()) for (score, _, _), c in zip(found, question.choices, strict=True)]
            answers.append(str(scores.index(max(scores))))
            is_right.append(answers[-1] == str(question.right))
    return tuple(answers), tuple(is_right)


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> TextTokenizer:
    return load_tokenizer(folder)


def _heard(rows: Sequence[tuple[list[int], list[int]]], logits: Logits) -> list[tuple[float, list[int], list[int]]]:
    """Return, for each (prompt, answer), the answer's logarithm of probability, the likeliest tokens, and its own.

    Rows of like length go together, with padding behind them, which what comes before does not see.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    together = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    batches = [_padded([rows[i][0] + rows[i][1] for i in some]) for some in together]
    found: dict[int, tuple[float, list[int], list[int]]] = {}
    for some, logits_btv in zip(together, logits(batches), strict=True):
        for i, logits_tv in zip(some, logits_btv, strict=True):
            before, answer = rows[i]
            logits_av = logits_tv[len(before) - 1 : len(before) - 1 + len(answer)].float()
            wanted = torch.tensor(answer, device=logits_av.device)
            score = logits_av.log_softmax(-1).gather(1, wanted[:, None]).double().sum()
            found[i] = (float(score), logits_av.argmax(-1).tolist(), answer)
    return [found[i] for i in range(len(rows))]


def _padded(rows: Sequence[list[int]]) -> Tensor:
    """Return (B, T) tokens; what is behind a row does not matter."""
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])
