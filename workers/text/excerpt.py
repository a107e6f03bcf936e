"""What a job tokenizes of its calibration source: all of a text, or evenly spaced slices of one that is far too long.

The controller reads the source, since workers may be offline or on a machine that does not have the file.
"""

from dataclasses import dataclass
from pathlib import Path

from workers.text.text_sources import read_text, text_digest

_CHARACTERS_PER_TOKEN = 32  # that are tokenized for each token asked for: about eight times what it takes
_MIN_CHARACTERS = 1_000_000  # of a text that is taken whole, however little is asked for
_NUM_SLICES = 64


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Text to make token sequences of.

    Attributes:
        note: one sentence that says where it comes from.
        parts: one text for each split, or a single one for all of them; each is the slices that are taken of it.

    """

    note: str
    parts: tuple[tuple[str, ...], ...]


def read_excerpt(source: str, num_tokens: int, folder: Path | None = None) -> Excerpt:
    """Read a calibration source and take what so many tokens of a model need.

    Raises:
        CalibrationError: it cannot be read, or holds no text.

    """
    text = read_text(source, folder)
    if isinstance(text, str):
        slices = _slices(text, num_tokens)
        taken = f"{len(slices)} slices of it " if len(slices) > 1 else ""
        note = f"text: {source}, digest {text_digest(text)[:12]}, {taken}divided into three disjoint parts"
        return Excerpt(note, (slices,))
    names = ", ".join(f"{split} {text_digest(part)[:12]}" for split, part in text.items())
    return Excerpt(
        f"text: {source} of this interpreter ({names})", tuple(_slices(part, num_tokens) for part in text.values())
    )


def _slices(text: str, num_tokens: int) -> tuple[str, ...]:
    """Return a text as it is, or disjoint slices of equal length from its begin to its end."""
    limit = max(_MIN_CHARACTERS, num_tokens * _CHARACTERS_PER_TOKEN)
    if len(text) <= limit:
        return (text,)
    length = limit // _NUM_SLICES
    last = len(text) - length
    starts = [last * i // (_NUM_SLICES - 1) for i in range(_NUM_SLICES)]
    return tuple(text[start : start + length] for start in starts)
