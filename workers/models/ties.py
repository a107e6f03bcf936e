"""A head tied to the embedding: one weight under two names, stored once, or twice with the same bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from space.errors import ModelError
from workers.models.headers import StoredTensor

_CHUNK_BYTES = 2**20


def tied_parameters(model: Any) -> dict[str, str]:
    """Return name -> name of the parameter that it is, for those that a model uses under several names.

    Checkpoints have it under the name that transformers ties others to, or else under the first.
    """
    copies = getattr(model, "all_tied_weights_keys", {})
    named = [*model.named_parameters(remove_duplicate=False)]
    owners: dict[int, str] = {}
    for name, parameter in sorted(named, key=lambda pair: pair[0] in copies):
        owners.setdefault(id(parameter), name)
    return {name: owners[id(parameter)] for name, parameter in named if name != owners[id(parameter)]}


def tied_names(model: Any) -> dict[str, str]:
    """Return module -> module whose weight it uses (a head tied to the embedding)."""
    pairs = [(copy.rpartition("."), owner.rpartition(".")) for copy, owner in tied_parameters(model).items()]
    return {copy: owner for (copy, _, last), (owner, _, own) in pairs if last == own == "weight"}


def check_ties(folder: Path, tied: Mapping[str, str], stored: Mapping[str, StoredTensor]) -> None:
    """Refuse a tied weight that is stored under both names with different content: transformers would not tie it.

    Nothing is read where only one of them is stored.

    Args:
        folder: the model.
        tied: module -> module whose weight it uses.
        stored: its tensors by name.

    Raises:
        ModelError: they differ.

    """
    for copy, original in tied.items():
        pair = [stored.get(f"{name}.weight") for name in (copy, original)]
        if pair[0] is not None and pair[1] is not None and not _is_same(pair[0], pair[1]):
            raise ModelError(
                f"{folder}: config.json ties {copy} to {original}, but the files hold a weight for each, and the two "
                "differ: set tie_word_embeddings to false in config.json, so that both count."
            )


def _is_same(one: StoredTensor, other: StoredTensor) -> bool:
    if (one.info.shape, one.info.dtype) != (other.info.shape, other.info.dtype):
        return False
    with one.file.open("rb") as here, other.file.open("rb") as there:
        here.seek(one.start)
        there.seek(other.start)
        for begin in range(0, one.info.size_bytes, _CHUNK_BYTES):
            count = min(_CHUNK_BYTES, one.info.size_bytes - begin)
            if here.read(count) != there.read(count):
                return False
    return True
