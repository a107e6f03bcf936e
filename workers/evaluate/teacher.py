"""The dense model's answers, computed once per text and memory-mapped by every worker.

Shape legend: N sequences, P = T - 1 scored positions, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from workers.atomic import replacing
from workers.engine import Engine, no_level
from workers.models.stored import create_safetensors

BATCH = 4  # sequences per forward; the same everywhere, so that every evaluation rounds alike (15 % faster than 8)


@dataclass(frozen=True, slots=True)
class Teacher:
    """Answers on one split.

    Attributes:
        probabilities: (N, P, V) float32, memory-mapped.
        negative_entropy: (N, P) float32, sum of p log p.
        loss: (N,) float64, mean next-token loss of each sequence in nats.

    """

    probabilities: Tensor
    negative_entropy: Tensor
    loss: Tensor


def write_teacher(path: Path, engine: Engine, tokens: Tensor) -> None:
    """Compute and write the answers to (N, T) tokens, atomically and batch by batch: they may be large."""
    batches, row = tokens.split(BATCH), 0
    with replacing(path) as temporary:
        out: dict[str, Tensor] = {}
        for logits, batch in zip(engine.logits(engine.dense_plan, no_level, batches), batches, strict=True):
            log_p = logits[:, :-1].float().log_softmax(-1)
            p = log_p.exp()
            found = {
                "probabilities": p,
                "negative_entropy": (p * log_p).sum(-1),
                "loss": -log_p.gather(-1, batch[:, 1:, None].to(log_p.device)).squeeze(-1).double().mean(-1),
            }
            layout = {name: (t.dtype, (len(tokens), *t.shape[1:])) for name, t in found.items()}
            out = out or create_safetensors(temporary, layout)
            for name, tensor in found.items():
                out[name][row : row + len(batch)] = tensor.cpu()
            row += len(batch)


def read_teacher(path: Path) -> Teacher:
    """Return the answers of a file, memory-mapped."""
    with safe_open(path, framework="pt") as file:
        return Teacher(*(file.get_tensor(name) for name in ("probabilities", "negative_entropy", "loss")))
