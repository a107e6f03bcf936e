"""How many tokens of calibration text the experts of a model saw."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ExpertTokens:
    """What levels of experts are made of.

    Attributes:
        least, median: tokens that the router sent to an expert.
        num_experts: of all blocks.
        given_more: experts that saw fewer tokens than they have inputs, and were given others of the text.
        too_few: experts that saw too few all the same.

    """

    least: int
    median: int
    num_experts: int
    given_more: int = 0
    too_few: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it as people read it.

        >>> str(ExpertTokens(9, 300, 64))
        'an expert saw 9 tokens at least, 300 in the median of 64'
        """
        told = f"an expert saw {self.least:,} tokens at least, {self.median:,} in the median of {self.num_experts:,}"
        if self.given_more:
            told += f"; {self.given_more:,} that saw too few were given other tokens of the text"
        if self.too_few:
            told += f"; {self.too_few:,} have fewer tokens than inputs, and are rounded by what all of them show"
        return told
