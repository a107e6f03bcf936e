"""Texts and their answers for models that turn one text into another: translations, summaries, questions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workers.model_inputs import ModelInputs
from workers.samples.teacher_forced import GivenModel, decoding_of, forced, with_own_answers
from workers.samples.text_samples import make_texts
from workers.text.tokenizer import load_tokenizer

_TAKEN = ("input_ids", "attention_mask")


def make_answered_texts(
    folder: Path, records: Sequence[tuple[Any, ...]], sequence_length: int, model: GivenModel | None
) -> ModelInputs:
    """Return texts with the answers of their pairs, or with the dense model's own.

    Raises:
        ModelError: the folder has no tokenizer, or it cannot encode them.

    """
    made = make_texts(folder, [(record[0],) for record in records], sequence_length).tensors
    inputs = {name: made[name] for name in _TAKEN if name in made}
    decoding = decoding_of(folder)
    if len(records[0]) == 1:
        return with_own_answers(inputs, decoding, sequence_length, model)
    answers = load_tokenizer(folder).encode_answers([record[1] for record in records], sequence_length)
    start = torch.tensor(decoding.prefix[:1]).expand(len(answers), -1)
    return forced(inputs, torch.cat([start, answers], 1), 1, decoding)
