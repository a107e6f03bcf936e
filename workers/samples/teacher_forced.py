"""What decoders of two stacks are asked on: their inputs beside the answer that is forced on them, token by token.

The answer is the one that a user gives, or the dense model's own, its likeliest token at each place.
Shape legend: N samples, T tokens of an answer, S tokens that it begins with.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.model_inputs import IGNORED, LABELS, ModelInputs

GivenModel = Callable[[], Any]
"""gives the dense model, whole"""
_BATCH = 8
_FILES = ("config.json", "generation_config.json")  # the later one wins


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a model's answers begin and end.

    Attributes:
        prefix: tokens that every answer begins with.
        ends: tokens that end one.
        suppressed: tokens that never come.

    """

    prefix: tuple[int, ...]
    ends: tuple[int, ...]
    suppressed: tuple[int, ...] = ()


def decoding_of(folder: Path, prefix: Sequence[int] = ()) -> Decoding:
    """Return how answers begin and end, by a model's files; `prefix` stands for what they say of the beginning."""
    found: dict[str, Any] = {}
    for name in _FILES:
        if (folder / name).exists():
            values = json.loads((folder / name).read_text(encoding="utf-8"))
            found |= {key: value for key, value in values.items() if value is not None}
    start = found.get("decoder_start_token_id", found.get("pad_token_id", 0))
    forced = found.get("forced_bos_token_id")
    ends = found.get("eos_token_id", ())
    return Decoding(
        tuple(prefix) or (start, *([forced] if isinstance(forced, int) else [])),
        tuple(ends) if isinstance(ends, list | tuple) else (ends,),
        tuple(found.get("suppress_tokens", ())),
    )


def with_own_answers(
    inputs: Mapping[str, Tensor], decoding: Decoding, length: int, model: GivenModel | None
) -> ModelInputs:
    """Return inputs with the model's likeliest answers; without a model with none, for a look at the inputs alone."""
    count, prefix = len(next(iter(inputs.values()))), torch.tensor(decoding.prefix)
    start_ns = prefix.expand(count, -1)
    if model is None:
        return ModelInputs({**inputs, "decoder_input_ids": start_ns, LABELS: torch.full_like(start_ns, IGNORED)})
    dense, parts = model(), []
    for first in range(0, count, _BATCH):
        rows = {name: tensor[first : first + _BATCH] for name, tensor in inputs.items()}
        parts.append(_likeliest(dense, rows, start_ns[first : first + _BATCH], decoding, length))
    longest = max(part.shape[1] for part in parts)
    fill = decoding.ends[0] if decoding.ends else 0
    made_nt = torch.cat([torch.nn.functional.pad(p, (0, longest - p.shape[1]), value=fill) for p in parts])
    return forced(inputs, torch.cat([start_ns, made_nt], 1), len(prefix), decoding)


def forced(inputs: Mapping[str, Tensor], answers_nt: Tensor, num_given: int, decoding: Decoding) -> ModelInputs:
    """Return inputs with (N, S + T) answers forced: all but the first S are asked for, up to the one that ends it."""
    labels = answers_nt[:, 1:].clone()
    ended = torch.isin(labels, torch.tensor(decoding.ends))
    ended[:, : num_given - 1] = False
    labels[(ended.cumsum(1) - ended.long()) > 0] = IGNORED
    labels[:, : num_given - 1] = IGNORED
    return ModelInputs({**inputs, "decoder_input_ids": answers_nt[:, :-1].contiguous(), LABELS: labels})


@torch.no_grad()
def _likeliest(model: Any, inputs: Mapping[str, Tensor], start_ns: Tensor, decoding: Decoding, length: int) -> Tensor:
    """Return (N, T) tokens that follow the start, until all have ended or the answer has its length."""
    device = next(model.parameters()).device
    moved = {name: tensor.to(device) for name, tensor in inputs.items()}
    encoded = model.get_encoder()(**moved)
    mask = {"attention_mask": moved["attention_mask"]} if "attention_mask" in moved else {}
    ids, cache, made = start_ns.to(device), None, list[Tensor]()
    ends = torch.tensor(decoding.ends, device=device)
    is_ended = torch.zeros(len(ids), dtype=torch.bool, device=device)
    while len(made) < max(1, length - start_ns.shape[1]) and not bool(is_ended.all()):
        output = model(encoder_outputs=encoded, decoder_input_ids=ids, past_key_values=cache, use_cache=True, **mask)
        logits = output.logits[:, -1]
        logits[:, list(decoding.suppressed)] = -torch.inf
        ids, cache = logits.argmax(-1, keepdim=True), output.past_key_values
        made.append(ids.cpu())
        is_ended |= torch.isin(ids[:, 0], ends)
    return torch.cat(made, 1)
