"""Inputs of a model for several samples: one tensor of token ids, or several tensors by name.

Shape legend: N samples, T tokens.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from space.digest import digest

IGNORED = -100
"""what stands for the right class at a position that is not scored"""
LABELS = "labels"
"""name of the (N, T) right classes, where samples hold them"""
TOKENS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""names of what processors of images in texts make of texts: (N, T); all others are of images"""


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """What a tokenizer, processor or feature extractor made of N samples; it is cut and moved as a tensor is.

    Attributes:
        tensors: name -> (N, ...) tensor; the names are those of the model's forward, or what its family scores with.

    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Tensor) -> "ModelInputs":
        """Return some of the samples."""
        return ModelInputs({name: tensor[rows] for name, tensor in self.tensors.items()})

    def split(self, size: int) -> tuple["ModelInputs", ...]:
        """Return batches of so many samples, the last one of what is left."""
        return tuple(self[i : i + size] for i in range(0, len(self), size))

    def to(self, device: str) -> "ModelInputs":
        """Return the same on a device."""
        return ModelInputs({name: tensor.to(device) for name, tensor in self.tensors.items()})

    def numel(self) -> int:
        """Return what a forward of them counts as: tokens with padding, or one for each sample without tokens."""
        return next((t.numel() for name, t in self.tensors.items() if name.endswith("input_ids")), len(self))

    @property
    def digest(self) -> str:
        """Return the name of what they hold."""
        parts = sorted(self.tensors.items())
        return digest([[name, str(t.dtype), str(list(t.shape)), _content(t)] for name, t in parts])


def _content(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


Samples = Tensor | ModelInputs
"""(N, T) token ids, or what else N samples are"""


def real_tokens(batch: Samples) -> Tensor | None:
    """Return which of the (N, T) positions hold no padding; None where all do."""
    return batch.tensors.get("attention_mask") if isinstance(batch, ModelInputs) else None
