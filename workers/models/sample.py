"""Text sampled from the model itself, for a user who gives none."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.models.text import Split
from workers.models.tokens import SPLITS, TextRequest, TokenSet, save_tokens

_BATCH = 16


def sample_tokens(model: Any, request: TextRequest, out_folder: Path) -> TokenSet:
    """Sample sequences at temperature 1 for all three splits; a seed gives the same text again."""
    chosen: dict[Split, Tensor] = {}
    generator = torch.Generator().manual_seed(request.seed)
    for split in SPLITS:
        count = request.count(split)
        batches = [_sample(model, min(_BATCH, count - i), request, generator) for i in range(0, count, _BATCH)]
        chosen[split] = torch.cat(batches)
    return save_tokens(chosen, out_folder, f"text: sampled from the model itself, seed {request.seed}")


def _sample(model: Any, count: int, request: TextRequest, generator: torch.Generator) -> Tensor:
    """Return (count, T) sampled tokens; each starts with a token drawn from the model's own first step."""
    device = next(model.parameters()).device
    first = model.config.get_text_config().bos_token_id
    start = torch.full((count, 1), first if isinstance(first, int) else 0, device=device)
    ids, cache = start, None
    for _ in range(request.sequence_length):
        output = model(input_ids=ids[:, -1:] if cache is not None else ids, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        p = output.logits[:, -1].float().softmax(-1).cpu()
        ids = torch.cat([ids, torch.multinomial(p, 1, generator=generator).to(device)], dim=1)
    return ids[:, 1:].cpu()
