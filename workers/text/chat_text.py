"""Chats that a model has with itself through its own chat template: it asks as a user would, and answers.

A chat model continues what its template puts before a user's words with a user's words (Magpie, arXiv 2406.08464).
Where it ends a turn, the template's tokens for the next one follow. So text is like use, the template's part included.
Shape legend: B sequences, T tokens.
"""

from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import CalibrationError
from workers.text.sampled_text import Step, first_token
from workers.text.text_sources import Split
from workers.text.tokenizer import Turns
from workers.text.tokens import SPLITS, TextRequest, TokenSet, save_tokens

_BATCH = 16
_SHARE = 4  # a question ends after so many times fewer tokens than a sequence has
_TRIES = 8  # batches without a new sequence


class Chat:
    """One sequence: whose turn it is, and which tokens of the template are still to come."""

    def __init__(self, turns: Turns, ends: Collection[int], longest: int) -> None:
        """Begin with a user's turn, of at most `longest` tokens."""
        self._turns, self._ends, self._longest = turns, frozenset(ends), longest
        self._is_user, self._said, self._due = True, 0, deque[int]()

    def next(self, drawn: int) -> int:
        """Return the token that follows, given what the model would say."""
        if self._due:
            return self._due.popleft()
        between = self._turns.answer if self._is_user else self._turns.again
        is_long = self._is_user and self._said >= self._longest
        if not is_long and drawn != between[0] and drawn not in self._ends:
            self._said += 1
            return drawn
        self._is_user, self._said = not self._is_user, 0
        self._due.extend(between[1:])
        return between[0]


def sample_chats(model: Any, step: Step, request: TextRequest, out_folder: Path, turns: Turns) -> TokenSet:
    """Sample chats at temperature 1 for all three splits, no two alike; a seed gives the same text again.

    Args:
        model: held as a whole.
        step: how one more token is asked of it.
        request: how much text.
        out_folder: where the sequences are written.
        turns: of its chat template.

    Raises:
        CalibrationError: the template leaves no room, or the model says the same again and again.

    """
    check_room(request, turns)
    chosen: dict[Split, Tensor] = {}
    generator, known = torch.Generator().manual_seed(request.seed), set[tuple[int, ...]]()
    for split in SPLITS:
        rows, tries = list[Tensor](), 0
        while len(rows) < request.count(split):
            fresh = [row for row in _sample(model, step, request, turns, generator) if tuple(row.tolist()) not in known]
            fresh = list({tuple(row.tolist()): row for row in fresh}.values())[: request.count(split) - len(rows)]
            known.update(tuple(row.tolist()) for row in fresh)
            rows += fresh
            tries = 0 if fresh else tries + 1
            if tries == _TRIES:
                raise CalibrationError("The model says the same in all of its chats; give text with --calibration.")
        chosen[split] = torch.stack(rows)
    return save_tokens(chosen, out_folder, f"text: chats of the model with itself, seed {request.seed}")


def check_room(request: TextRequest, turns: Turns) -> None:
    """Refuse sequences that the template's own tokens take half of. Raises CalibrationError."""
    taken = len(turns.begin) + len(turns.answer)
    if 2 * taken > request.sequence_length:
        raise CalibrationError(
            f"--calibration self: the chat template takes {taken} of {request.sequence_length} tokens before the first "
            "answer; give a longer --sequence-length."
        )


def _sample(model: Any, step: Step, request: TextRequest, turns: Turns, generator: torch.Generator) -> list[Tensor]:
    """Return the (T,) tokens of a batch of chats."""
    device, length = next(model.parameters()).device, request.sequence_length
    chats = [Chat(turns, _ends(model), length // _SHARE) for _ in range(_BATCH)]
    ids, cache = torch.tensor(turns.begin or (first_token(model),), device=device).expand(_BATCH, -1), None
    while ids.shape[1] < length + (not turns.begin):
        logits, cache = step(model, ids, cache)
        p = logits.float().softmax(-1).cpu()
        drawn = torch.multinomial(p, 1, generator=generator).squeeze(1).tolist()
        taken = torch.tensor([chat.next(token) for chat, token in zip(chats, drawn, strict=True)], device=device)
        ids = torch.cat([ids, taken[:, None]], dim=1)
    return list(ids[:, -length:].cpu())


def _ends(model: Any) -> set[int]:
    """Return the tokens that end what the model says."""
    found: set[int] = set()
    for config in (model.config.get_text_config(), getattr(model, "generation_config", None)):
        told = getattr(config, "eos_token_id", None)
        found.update([told] if isinstance(told, int) else told or ())
    return found
