"""Token sequences of the three splits, made once per (model, text, lengths) and kept beside the model's cache.

Shape legend: N sequences, T sequence_length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from space.digest import digest
from space.errors import CalibrationError, ModelError
from workers.atomic import write_safetensors
from workers.models.excerpt import Excerpt, read_excerpt
from workers.models.text import STDLIB, Split

if TYPE_CHECKING:
    from torch import Tensor

SPLITS: tuple[Split, ...] = ("calibration", "search", "held_out")
_MIN_SEQUENCES = 2


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Which text, and how many sequences of which length for each split."""

    source: str | None
    sequence_length: int
    num_calibration: int
    num_search: int
    num_held_out: int
    seed: int

    def count(self, split: Split) -> int:
        """Return the number of sequences asked for a split."""
        return {"calibration": self.num_calibration, "search": self.num_search, "held_out": self.num_held_out}[split]

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens asked for all splits together."""
        return self.sequence_length * sum(self.count(split) for split in SPLITS)


@dataclass(frozen=True, slots=True)
class TokenSet:
    """Tokens on disk.

    Attributes:
        path: the file.
        note: one sentence that says where they come from.
        digests: of the content of each split, in the order of SPLITS: what was built or measured on one split stays
            known when another one changes.

    """

    path: str
    note: str
    digests: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Return the name of all splits together."""
        return digest(self.digests)

    def of(self, split: Split) -> str:
        """Return the digest of one split."""
        return self.digests[SPLITS.index(split)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"path": self.path, "note": self.note, "digests": list(self.digests)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "TokenSet":
        """Read a JSON object."""
        return TokenSet(value["path"], value["note"], tuple(value["digests"]))

    def load(self, split: Split) -> "Tensor":
        """Return the (N, T) int64 sequences of a split."""
        with safe_open(self.path, framework="pt") as file:
            tokens: Tensor = file.get_tensor(split)
        return tokens


def tokenize(folder: Path, request: TextRequest, out_folder: Path, excerpt: Excerpt | None = None) -> TokenSet:
    """Cut text into sequences and write them.

    Args:
        folder: the model, whose tokenizer is used.
        request: which text.
        out_folder: where the sequences are written.
        excerpt: the text; read here where it is not given.

    Raises:
        CalibrationError: not enough text.
        ModelError: the folder has no tokenizer.

    """
    assert request.source is not None  # noqa: S101 (sampling from the model is the worker's)
    if excerpt is None:
        excerpt = read_excerpt(request.source, request.num_tokens)
    encode = _encoder(folder)
    rows = [_cut(encode(pieces), request) for pieces in excerpt.parts]
    parts = dict(zip(SPLITS, rows, strict=True)) if len(rows) > 1 else _divide(rows[0], request)
    chosen = {split: _spread(parts[split], request.count(split), request, split) for split in SPLITS}
    return save_tokens(chosen, out_folder, excerpt.note)


def save_tokens(chosen: "dict[Split, Tensor]", out_folder: Path, note: str) -> TokenSet:
    """Write the splits under the digest of their content."""
    digests = tuple(digest(chosen[split].tolist()) for split in SPLITS)
    path = out_folder / f"tokens-{digest(digests)[:16]}.safetensors"
    write_safetensors(path, {str(split): tokens.contiguous() for split, tokens in chosen.items()})
    return TokenSet(str(path), note, digests)


def _encoder(folder: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
    import torch  # noqa: PLC0415 (slow)
    from transformers import AutoTokenizer  # noqa: PLC0415 (slow)

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {reason}") from error

    def encode(pieces: Sequence[str]) -> torch.Tensor:
        """Return the ids of texts, one after the other: while it runs, the tokenizer takes 160 bytes a character."""
        found = (tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in pieces)
        return torch.cat([torch.tensor(ids) for ids in found])

    return encode


def _cut(ids: "Tensor", request: TextRequest) -> "Tensor":
    length = request.sequence_length
    return ids[: len(ids) // length * length].view(-1, length)


def _divide(rows: "Tensor", request: TextRequest) -> "dict[Split, Tensor]":
    """Divide consecutive sequences into three contiguous parts, in proportion to what is asked."""
    total = sum(request.count(split) for split in SPLITS)
    first = len(rows) * request.num_calibration // total
    second = first + len(rows) * request.num_search // total
    return {"calibration": rows[:first], "search": rows[first:second], "held_out": rows[second:]}


def _spread(rows: "Tensor", count: int, request: TextRequest, split: Split) -> "Tensor":
    """Choose `count` sequences evenly over a part, or all where it has fewer."""
    if len(rows) < _MIN_SEQUENCES:
        raise CalibrationError(
            f"{request.source}: too short: {len(rows)} sequences of {request.sequence_length} tokens for the {split} "
            f"split, at least {_MIN_SEQUENCES} are needed. Give more text or a smaller sequence length."
        )
    if request.source == STDLIB and len(rows) < count:
        raise CalibrationError(f"{STDLIB} holds {len(rows)} sequences for {split}, {count} were asked.")
    import torch  # noqa: PLC0415 (slow)

    picks = torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long()
    return rows[picks]
