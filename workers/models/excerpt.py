"""What a job tokenizes of its calibration source.

The controller reads the source, since workers may be offline or on a machine that does not have the file.
"""

from dataclasses import dataclass

from workers.models.text import read_text, text_digest


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Text to make token sequences of.

    Attributes:
        note: one sentence that says where it comes from.
        parts: one text for each split, or a single one for all of them.

    """

    note: str
    parts: tuple[tuple[str, ...], ...]


def read_excerpt(source: str) -> Excerpt:
    """Read a calibration source.

    Raises:
        CalibrationError: it cannot be read, or holds no text.

    """
    text = read_text(source)
    if isinstance(text, str):
        note = f"text: {source}, digest {text_digest(text)[:12]}, divided into three disjoint parts"
        return Excerpt(note, ((text,),))
    names = ", ".join(f"{split} {text_digest(part)[:12]}" for split, part in text.items())
    return Excerpt(f"text: {source} of this interpreter ({names})", tuple((part,) for part in text.values()))
