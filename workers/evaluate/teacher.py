"""The dense model's answers, computed once per text and memory-mapped by every worker.

An answer is a distribution over events: all tokens, or with a large vocabulary the likeliest ones and "any other".
Merging tokens can only lower a KL divergence (data processing inequality); benchmarks/trials tells by how much.
An answer of an embedder is a vector of length one; see `workers/evaluate/taught_vectors.py`.

Shape legend: N sequences, P scored positions, V vocabulary, E events, K dimensions of a sketch.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from workers.evaluate.sketch import Sketcher, project
from workers.evaluate.taught_vectors import TaughtVectors, vector_answers
from workers.model_inputs import Samples
from workers.models.mapped_checkpoint import create_safetensors
from workers.run.engine import Engine, no_level
from workers.tasks import BATCH, NUM_LIKELIEST, WHOLE_VOCABULARY
from workers.whole_files import replacing

_LEAST = 1e-7


@dataclass(frozen=True, slots=True)
class Teacher:
    """Answers to N sequences, or to some of them.

    Attributes:
        roots: (N, P, E) float32, square roots of the events' probabilities.
        negative_entropy: (N, P) float32, sum of p log p over events.
        origin: (N, P, K) float32, projection of sqrt(p) log p: where sketches are measured from.
        direction: (N, P, K) float32, projection of sqrt(p).
        loss: (N,) float64, mean next-token loss of each sequence in nats.
        likeliest: (N, P, E - 1) int32, tokens that are events; None where all are.

    """

    roots: Tensor
    negative_entropy: Tensor
    origin: Tensor
    direction: Tensor
    loss: Tensor
    likeliest: Tensor | None = None

    def sequence(self, index: int) -> "Teacher":
        """Return the answers to one sequence, without the first dimension."""
        return self._map(lambda t: t[index])

    def rows(self, indices: Tensor, device: str) -> "Teacher":
        """Return the answers to some sequences, on a device."""
        return self._map(lambda t: t[indices].to(device))

    def positions(self, begin: int, end: int, device: torch.device) -> "Teacher":
        """Return the answers at some positions of one sequence, on a device."""
        return self._map(lambda t: t[begin:end].to(device) if t.dim() else t)

    @property
    def num_scored(self) -> int:
        """Return P."""
        return self.roots.shape[-2]

    def score(
        self, logits_pv: Tensor, right_p: Tensor, sketcher: Sketcher | None, weights_p: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (P,) KL(dense || now) and loss of a sequence's positions, in nats; `weights_p` are of the sketch."""
        log_q = logits_pv.float().log_softmax(-1)
        loss = -log_q.gather(-1, right_p.clamp_min(0)[:, None]).squeeze(-1)
        weighted = self.events(log_q).mul_(self.roots)
        kl = self.negative_entropy - torch.linalg.vecdot(self.roots, weighted)
        if sketcher is not None:
            sketcher.add(weighted, kl, self.origin, self.direction, weights_p)
        return kl, loss

    def events(self, log_q: Tensor) -> Tensor:
        """Return (..., E) log-probabilities of the events, given those of tokens; they may share memory."""
        return log_q if self.likeliest is None else merge(log_q, self.likeliest)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Teacher":
        parts: dict[str, Tensor | None] = {f.name: getattr(self, f.name) for f in fields(self)}
        return Teacher(**{name: change(t) for name, t in parts.items() if t is not None})


def merge(log_q: Tensor, likeliest: Tensor) -> Tensor:
    """Return (..., E) log-probabilities of some tokens at each position and of all others together."""
    chosen = log_q.gather(-1, likeliest.long())
    others = (1 - chosen.exp().sum(-1, keepdim=True)).clamp_min(_LEAST).log()
    return torch.cat([chosen, others], -1)


def answers(log_p_bpv: Tensor, right_bp: Tensor) -> dict[str, Tensor]:
    """Return the fields of the answers to a batch, given the dense model's log-probabilities and what is right."""
    loss_bp = -log_p_bpv.gather(-1, right_bp.clamp_min(0)[..., None]).squeeze(-1).double()
    found = {"loss": mean_of_scored(loss_bp, right_bp)}
    if log_p_bpv.shape[-1] > WHOLE_VOCABULARY:
        found["likeliest"] = log_p_bpv.topk(NUM_LIKELIEST).indices.int()
        log_p_bpv = merge(log_p_bpv, found["likeliest"])
    roots = (log_p_bpv / 2).exp()
    weighted = roots * log_p_bpv
    found |= {"roots": roots, "negative_entropy": torch.linalg.vecdot(roots, weighted)}
    return found | {"origin": project(weighted), "direction": project(roots)}


def mean_of_scored(values_bp: Tensor, right_bp: Tensor) -> Tensor:
    """Return the (B,) means over the positions that are scored."""
    scored_bp = right_bp >= 0
    if bool(scored_bp.all()):
        return values_bp.mean(-1)
    return (values_bp * scored_bp).sum(-1) / scored_bp.sum(-1).clamp_min(1)


def write_teacher(path: Path, engine: Engine, tokens: Samples) -> None:
    """Compute and write the answers to samples, atomically and batch by batch: they may be large."""
    batches, row, family = tokens.split(BATCH), 0, engine.runner.family
    with replacing(path) as temporary:
        out: dict[str, Tensor] = {}
        for logits, batch in zip(engine.logits(engine.dense_plan, no_level, batches), batches, strict=True):
            scored, right = family.loss(logits, batch.to(str(logits.device)))
            if family.question.answer == "vectors":
                found = vector_answers(scored, right)
            else:
                found = answers(scored.float().log_softmax(-1), right)
            layout = {name: (t.dtype, (len(tokens), *t.shape[1:])) for name, t in found.items()}
            out = out or create_safetensors(temporary, layout)
            for name, tensor in found.items():
                out[name][row : row + len(batch)] = tensor.cpu()
            row += len(batch)


def read_teacher(path: Path) -> "Taught":
    """Return the answers of a file, memory-mapped."""
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    return TaughtVectors(**found) if "vectors" in found else Teacher(**found)


Taught = Teacher | TaughtVectors
"""the dense model's answers, of either kind"""
