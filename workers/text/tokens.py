"""Token sequences of the three splits, made once and kept beside the model's cache.

Shape legend: N sequences, T sequence_length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from space.digest import digest
from space.errors import CalibrationError, ModelError
from workers.text.excerpt import Excerpt, read_excerpt
from workers.text.text_sources import STDLIB, Split
from workers.text.tokenizer import TextTokenizer, load_tokenizer
from workers.whole_files import write_safetensors

if TYPE_CHECKING:
    from torch import Tensor

    from workers.model_inputs import ModelInputs

SPLITS: tuple[Split, ...] = ("calibration", "search", "held_out")
_MIN_SEQUENCES = 2
_CHARACTERS_PER_TOKEN = 32  # of a text whose head tells whether it is long enough: about eight times what it takes


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

    @property
    def num_telling(self) -> int:
        """Return of how many sequences each split has enough of them to be used."""
        if self.source == STDLIB:  # its splits are apart, and must have what is asked
            return max(self.count(split) for split in SPLITS)
        counts = [self.count(split) for split in SPLITS]
        return -(-_MIN_SEQUENCES * sum(counts) // min(counts)) + len(SPLITS)


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
    def from_json(value: Mapping[str, Any], folder: Path | None = None) -> "TokenSet":
        """Read a JSON object; the file is the one in `folder` where it is there: what was written may have moved."""
        here = None if folder is None else folder / Path(value["path"]).name
        path = str(here) if here is not None and here.exists() else value["path"]
        return TokenSet(path, value["note"], tuple(value["digests"]))

    def load(self, split: Split) -> Any:
        """Return the (N, T) int64 sequences of a split, or `ModelInputs` where samples are no tokens alone."""
        from workers.model_inputs import ModelInputs

        with safe_open(self.path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(f"{split}.")]  # noqa: SIM118 (not a mapping)
            if not names:
                return file.get_tensor(split)
            return ModelInputs({name.removeprefix(f"{split}."): file.get_tensor(name) for name in names})


def tokenize(
    folder: Path,
    request: TextRequest,
    out_folder: Path,
    excerpt: Excerpt | None = None,
    vocabulary: int | None = None,
) -> TokenSet:
    """Cut text into sequences and write them; each begins with what the model's tokenizer begins every sequence with.

    Args:
        folder: the model, whose tokenizer is used.
        request: which text.
        out_folder: where the sequences are written.
        excerpt: the text; read here where it is not given.
        vocabulary: rows of the model's embedding; None is not checked.

    Raises:
        CalibrationError: not enough text.
        ModelError: the folder has no tokenizer, or it is not the model's.

    """
    assert request.source is not None  # noqa: S101 (sampling from the model is the worker's)
    if excerpt is None:
        excerpt = read_excerpt(request.source, request.num_tokens, folder)
    return save_tokens(_choose(load_tokenizer(folder), request, excerpt.parts, vocabulary), out_folder, excerpt.note)


def check_text(folder: Path, request: TextRequest, vocabulary: int | None) -> None:
    """Refuse text that is too short, or that the model's tokenizer cannot be for, before a job is made of it.

    Of a long text only so much is tokenized as tells.

    Raises:
        CalibrationError: it cannot be read, or is not enough.
        ModelError: the folder has no tokenizer, or it is not the model's.

    """
    assert request.source is not None  # noqa: S101 (sampling needs no text)
    parts = read_excerpt(request.source, request.num_tokens, folder).parts
    tokenizer = load_tokenizer(folder)
    enough = _CHARACTERS_PER_TOKEN * request.sequence_length * request.num_telling
    heads = tuple(("".join(slices)[:enough],) for slices in parts)
    try:
        _choose(tokenizer, request, heads, vocabulary)
    except CalibrationError:
        _choose(tokenizer, request, parts, vocabulary)


def _choose(
    tokenizer: TextTokenizer, request: TextRequest, parts: Sequence[Sequence[str]], vocabulary: int | None
) -> "dict[Split, Tensor]":
    rows = [_cut(_encoded(tokenizer, slices, vocabulary), tokenizer.opening, request) for slices in parts]
    by_split = dict(zip(SPLITS, rows, strict=True)) if len(rows) > 1 else _divide(rows[0], request)
    return {split: _spread(by_split[split], request.count(split), request, split) for split in SPLITS}


def save_samples(chosen: "Mapping[Split, ModelInputs]", out_folder: Path, note: str) -> TokenSet:
    """Write the splits of samples that are no tokens alone, under the digest of their content."""
    digests = tuple(chosen[split].digest for split in SPLITS)
    path = out_folder / f"samples-{digest(digests)[:16]}.safetensors"
    parts = {f"{split}.{name}": tensor for split, found in chosen.items() for name, tensor in found.tensors.items()}
    write_safetensors(path, {name: tensor.contiguous() for name, tensor in parts.items()})
    return TokenSet(str(path), note, digests)


def save_tokens(chosen: "dict[Split, Tensor]", out_folder: Path, note: str) -> TokenSet:
    """Write the splits under the digest of their content."""
    digests = tuple(digest(chosen[split].tolist()) for split in SPLITS)
    path = out_folder / f"tokens-{digest(digests)[:16]}.safetensors"
    write_safetensors(path, {str(split): tokens.contiguous() for split, tokens in chosen.items()})
    return TokenSet(str(path), note, digests)


def _encoded(tokenizer: TextTokenizer, slices: Sequence[str], vocabulary: int | None) -> "Tensor":
    """Return the ids of texts, one after the other.

    Raises:
        ModelError: one of them has no row in the embedding.

    """
    import torch

    ids = torch.cat([torch.tensor(tokenizer.ids(text), dtype=torch.long) for text in slices])
    largest = max([*tokenizer.opening, *ids.max(dim=0, keepdim=True).values.tolist()] if len(ids) else [0])
    if vocabulary is not None and largest >= vocabulary:
        raise ModelError(
            f"{tokenizer.folder}: its tokenizer gives the token {largest}, but the model's embedding has {vocabulary} "
            "rows: they do not belong together. Put the model's own tokenizer into the folder."
        )
    return ids


def _cut(ids: "Tensor", opening: Sequence[int], request: TextRequest) -> "Tensor":
    """Return (N, sequence_length) sequences: the opening, and as much text as then fits."""
    import torch

    length = request.sequence_length - len(opening)
    rows = ids[: len(ids) // length * length].view(-1, length)
    return torch.cat([torch.tensor(opening, dtype=torch.long).expand(len(rows), -1), rows], dim=1)


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
            f"split, at least {_MIN_SEQUENCES} are needed. Give more text or a smaller --sequence-length."
        )
    if request.source == STDLIB and len(rows) < count:
        raise CalibrationError(
            f"{STDLIB} holds {len(rows)} sequences for {split}, {count} were asked. Give a smaller --num-sequences or "
            "--sequence-length."
        )
    import torch

    picks = torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long()
    return rows[picks]
