"""What one evaluation of one plan found, kept per sequence so that any two plans can be compared on paired tokens."""

from dataclasses import dataclass, field, fields, replace
from math import exp, log
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_MAX_LOSS = 700.0  # nats; exp of more is no number


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
        sketch: how the plan changes the answers, for probes: half of its mean square is near the KL divergence, and
            the sketches of single-module changes add up. Float16; no part of the record (see `search/measure`).

    """

    kl_divergence: float
    perplexity: float
    sequence_kl: tuple[float, ...]
    num_tokens: int
    token_forwards: float
    seconds: float
    sketch: "np.ndarray | None" = field(default=None, compare=False, repr=False)

    @staticmethod
    def of_sequences(
        sequence_kl: list[float], sequence_loss: list[float], length: int, token_forwards: float, seconds: float
    ) -> "Measurement":
        """Return the measurement of sequences of `length` scored tokens each (KL and loss in nats per token)."""
        count = len(sequence_kl)
        return Measurement(
            kl_divergence=sum(sequence_kl) / count,
            perplexity=exp(min(_MAX_LOSS, sum(sequence_loss) / count)),
            sequence_kl=tuple(sequence_kl),
            num_tokens=count * length,
            token_forwards=token_forwards,
            seconds=seconds,
        )

    @staticmethod
    def joined(first: "Measurement", second: "Measurement") -> "Measurement":
        """Return the measurement of the sequences of both, in order; its cost is the second's: the first was paid.

        KL divergence and sketch are those of one measurement of all sequences, bit for bit; perplexity rounds once
        more. There is a sketch where both have one.
        """
        kl = first.sequence_kl + second.sequence_kl
        tokens = first.num_tokens + second.num_tokens
        loss = (log(first.perplexity) * first.num_tokens + log(second.perplexity) * second.num_tokens) / tokens
        sketch = None
        if first.sketch is not None and second.sketch is not None:
            import numpy as np  # records without sketches need none

            sketch = np.concatenate([first.sketch, second.sketch])
        return replace(
            second,
            kl_divergence=sum(kl) / len(kl),
            perplexity=exp(min(_MAX_LOSS, loss)),
            sequence_kl=kl,
            num_tokens=tokens,
            sketch=sketch,
        )

    @property
    def free(self) -> "Measurement":
        """Return the measurement as an answer that was known: it costs nothing again."""
        return replace(self, token_forwards=0.0, seconds=0.0)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sketch"}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Measurement":
        """Read a JSON object."""
        return Measurement(**{**value, "sequence_kl": tuple(value["sequence_kl"])})
