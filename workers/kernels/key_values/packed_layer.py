"""A layer of transformers' cache that holds keys and values in few bits: each token is rounded once, when it comes.

At levels of other runtimes it holds what they would answer, in the model's type: bytes are counted, not saved here.

Shape legend: B sequences, H heads of keys and values, T tokens, D values of a head.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from space.codings.cache_coding import CACHE
from space.level import Level
from space.targets.cache_sites import KEYS, VALUES
from workers.kernels.key_values.key_value_codes import Codes, decode, encode
from workers.kernels.key_values.rounding import rounded


class PackedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer; `keys` and `values` of its parent stay empty."""

    def __init__(self, of_keys: Level | None, of_values: Level | None) -> None:
        """Hold nothing; None is the type that comes."""
        super().__init__()
        self._levels = of_keys, of_values
        self._held: list[tuple[Tensor, ...]] = [(), ()]
        self._widths = [0, 0]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take the (B, H, T, D) keys and values of new tokens; return those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        for part, states in enumerate((key_states, value_states)):
            before, new = self._held[part], _held(states, self._levels[part], (KEYS, VALUES)[part])
            self._widths[part] = states.shape[-1]
            self._held[part] = (
                tuple(torch.cat(pair, dim=-2) for pair in zip(before, new, strict=True)) if before else new
            )
        return self._whole(0), self._whole(1)

    def _whole(self, part: int) -> Tensor:
        level, held = self._levels[part], self._held[part]
        if level is None or level.bits is None or level.coding != CACHE.name:
            return held[0]
        return decode(Codes(*held), level.bits, self._widths[part], self.dtype)

    @property
    def nbytes(self) -> int:
        """Return the bytes that are held."""
        return sum(tensor.nbytes for held in self._held for tensor in held)

    def get_seq_length(self) -> int:
        """Return the number of tokens."""
        return int(self._held[0][0].shape[-2]) if self._held[0] else 0

    def reset(self) -> None:
        """Forget all."""
        super().reset()
        self._held = [(), ()]

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens; a positive number is refused, as by the parent."""
        if tokens_to_remove > 0:
            super().crop(tokens_to_remove)
        if tokens_to_remove and self.is_initialized:
            self._all(lambda t: t[..., : -abs(tokens_to_remove), :])

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take other sequences for those of a beam search."""
        self._all(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence."""
        self._all(lambda t: t.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some sequences."""
        self._all(lambda t: t[indices, ...])

    def offload(self) -> None:
        """Move all to the CPU."""
        self._all(lambda t: t.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """Move all back to its device."""
        self._all(lambda t: t.to(self.device, non_blocking=True))

    def _all(self, change: Callable[[Tensor], Tensor]) -> None:
        self._held = [tuple(map(change, held)) for held in self._held]


def _held(states: Tensor, level: Level | None, part: str) -> tuple[Tensor, ...]:
    if level is None or level.bits is None:
        return (states,)
    return encode(states, level.bits).tensors if level.coding == CACHE.name else (rounded(states, level, part),)
