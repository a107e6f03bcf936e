"""What one evaluation of one plan found, kept per sequence so that any two plans can be compared on paired tokens."""

from dataclasses import asdict, dataclass
from math import exp
from typing import Any


@dataclass(frozen=True, slots=True)
class Measurement:
    """Quality of one plan on one text.

    Attributes:
        kl_divergence: mean KL(dense || plan) per token, in nats.
        perplexity: exp of the mean next-token loss.
        sequence_kl: KL of each sequence, in nats per token; all sequences are of one length.
        num_tokens: scored tokens.
        token_forwards: tokens x whole-model forward passes that this measurement cost.
        seconds: time in the worker.

    """

    kl_divergence: float
    perplexity: float
    sequence_kl: tuple[float, ...]
    num_tokens: int
    token_forwards: float
    seconds: float

    @staticmethod
    def of_sequences(
        sequence_kl: list[float], sequence_loss: list[float], length: int, token_forwards: float, seconds: float
    ) -> "Measurement":
        """Return the measurement of sequences of `length` scored tokens each (KL and loss in nats per token)."""
        count = len(sequence_kl)
        return Measurement(
            kl_divergence=sum(sequence_kl) / count,
            perplexity=exp(min(700.0, sum(sequence_loss) / count)),
            sequence_kl=tuple(sequence_kl),
            num_tokens=count * length,
            token_forwards=token_forwards,
            seconds=seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Measurement":
        """Read a JSON object."""
        return Measurement(**{**value, "sequence_kl": tuple(value["sequence_kl"])})
