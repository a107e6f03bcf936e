"""Text sampled from the model itself, for a user who gives none."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.text.text_sources import Split
from workers.text.tokens import SPLITS, TextRequest, TokenSet, save_tokens

_BATCH = 16
Step = Callable[[Any, Tensor, Any], tuple[Tensor, Any]]
"""a family's sample: (model, tokens, what it returned before) -> logits of the next token, what to give it next"""


def sample_tokens(
    model: Any, step: Step, request: TextRequest, out_folder: Path, opening: Sequence[int] = ()
) -> TokenSet:
    """Sample sequences at temperature 1 for all three splits; a seed gives the same text again.

    Args:
        model: held as a whole.
        step: how one more token is asked of it.
        request: how much text.
        out_folder: where the sequences are written.
        opening: what the model's tokenizer begins every sequence with; each of these does too.

    """
    chosen: dict[Split, Tensor] = {}
    generator = torch.Generator().manual_seed(request.seed)
    for split in SPLITS:
        count = request.count(split)
        sizes = [min(_BATCH, count - i) for i in range(0, count, _BATCH)]
        chosen[split] = torch.cat([_sample(model, step, size, request, opening, generator) for size in sizes])
    return save_tokens(chosen, out_folder, f"text: sampled from the model itself, seed {request.seed}")


def first_token(model: Any) -> int:
    """Return what stands before a text where the tokenizer puts nothing there."""
    found = model.config.get_text_config().bos_token_id
    return found if isinstance(found, int) else 0


def _sample(
    model: Any, step: Step, count: int, request: TextRequest, opening: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Return (count, T) sampled tokens behind the opening; without one, behind a token that is left out again."""
    device = next(model.parameters()).device
    start = list(opening) or [first_token(model)]
    ids, cache = torch.tensor(start, device=device).expand(count, -1), None
    for _ in range(request.sequence_length - len(opening)):
        logits, cache = step(model, ids, cache)
        p = logits.float().softmax(-1).cpu()
        ids = torch.cat([ids, torch.multinomial(p, 1, generator=generator).to(device)], dim=1)
    return ids[:, -request.sequence_length :].cpu()
