"""Answers of the dense model that are vectors of length one: embeddings, or features of a position.

What a plan loses there is one minus the cosine, ½|e - ê|²: the KL divergence of two normal distributions of variance
one around the vectors. So all that a search does with a KL divergence holds for it, and the change of a plan is the
vector ê - e itself, of which half the square is the loss.

Shape legend: N samples, P positions, E dimensions of a vector, K dimensions of a sketch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.evaluate.sketch import Sketcher, project


@dataclass(frozen=True, slots=True)
class TaughtVectors:
    """Answers to N samples, or to some of them.

    Attributes:
        vectors: (N, P, E) float32 of length one.
        origin: (N, P, K) float32, their projection: where sketches are measured from.
        loss: (N,) float64 zeros: the dense model's own.

    """

    vectors: Tensor
    origin: Tensor
    loss: Tensor

    @property
    def num_scored(self) -> int:
        """Return P."""
        return self.vectors.shape[-2]

    def sequence(self, index: int) -> "TaughtVectors":
        """Return the answers to one sample, without the first dimension."""
        return TaughtVectors(self.vectors[index], self.origin[index], self.loss[index])

    def rows(self, indices: Tensor, device: str) -> "TaughtVectors":
        """Return the answers to some samples, on a device."""
        return TaughtVectors(*(part[indices].to(device) for part in (self.vectors, self.origin, self.loss)))

    def positions(self, begin: int, end: int, device: torch.device) -> "TaughtVectors":
        """Return the answers at some positions of one sample, on a device."""
        return TaughtVectors(self.vectors[begin:end].to(device), self.origin[begin:end].to(device), self.loss)

    def score(
        self, vectors_pe: Tensor, _: Tensor, sketcher: Sketcher | None, weights_p: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (P,) one minus cosine, and (P,) zeros: no class is right. `weights_p` are of the sketch."""
        now = vectors_pe.float()
        lost = (now - self.vectors).square().sum(-1) / 2
        if sketcher is not None:
            sketcher.add(now, lost, self.origin, torch.zeros_like(self.origin), weights_p)
        return lost, torch.zeros_like(lost)


def vector_answers(vectors_bpe: Tensor, right_bp: Tensor) -> dict[str, Tensor]:
    """Return the fields of the answers to a batch, given the dense model's vectors of length one."""
    vectors = vectors_bpe.float().contiguous()
    return {
        "vectors": vectors,
        "origin": project(vectors),
        "loss": torch.zeros(len(right_bp), dtype=torch.float64),
    }
