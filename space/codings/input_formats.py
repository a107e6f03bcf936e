"""What runtimes round inputs to before a product: the `inputs` slot of a level, or a part of a coding."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputFormat:
    """One way to round.

    Attributes:
        name: as in `Level.inputs` and `Coding.inputs`.
        mark: what a level's text has of it; empty where only codings that stand alone have it.
        told: in words.

    """

    name: str
    told: str
    mark: str = ""


_ALL = (
    InputFormat("int8", "8-bit integers, one scale a token, chosen as they come", "-a8"),
    InputFormat("int8-block", "8-bit integers, one scale for the columns of a group", "-ab8"),
    InputFormat("float8", "8-bit floats, one scale a token, chosen as they come", "-af8"),
    InputFormat("nvfp4", "4-bit floats, one 8-bit scale for 16 columns, chosen as they come"),
    InputFormat("q8_K", "8-bit integers, one scale for 256 columns"),
    InputFormat("q8_0", "8-bit integers, one scale for 32 columns"),
)
INPUT_FORMATS: dict[str, InputFormat] = {entry.name: entry for entry in _ALL}
"""name -> way to round"""
