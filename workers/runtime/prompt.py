"""What a point and the dense model are asked, and what they answer, as values."""

from dataclasses import dataclass
from typing import Literal

Who = Literal["point", "dense"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked.

    Attributes:
        text: as it is, or a turn of a chat.
        is_chat: write it as the user's turn, by the model's own chat template.
        max_tokens: stop after so many.
        temperature: 0 takes the likeliest token; else tokens are drawn.
        seed: of the draws, the same for both.

    """

    text: str
    is_chat: bool = False
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer; the last one of each answer has `is_last`, and what was not told yet.

    Attributes:
        who: whose answer it is.
        text: what comes next.
        num_tokens: of the answer so far.
        seconds: spent on it so far; the first token includes reading the prompt.

    """

    who: Who
    text: str
    num_tokens: int
    seconds: float
    is_last: bool = False
