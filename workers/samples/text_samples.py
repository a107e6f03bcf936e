"""Texts and pairs of texts as a model's own tokenizer makes inputs of them, with all that it puts around them.

Shape legend: N samples, T tokens.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import CalibrationError, ModelError, in_one_line
from workers.model_inputs import ModelInputs
from workers.text.tokenizer import load_tokenizer

POOLING = "pooling"
"""name of the (N, T) weights with which an embedder sums up its tokens"""
_MODULES, _POOLING_CONFIG = "modules.json", "config.json"
_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",
}
"""fields of sentence-transformers' older configs; a mean over the root of the length has the direction of a mean"""


def make_texts(folder: Path, records: Sequence[tuple[Any, ...]], sequence_length: int, _: object = None) -> ModelInputs:
    """Return texts or pairs as the tokenizer encodes them, cut to a length, padded to the longest.

    Raises:
        ModelError: the folder has no tokenizer, or it cannot encode them.

    """
    encode = load_tokenizer(folder).encode
    texts = [record[0] for record in records]
    pairs = [record[1] for record in records] if len(records[0]) > 1 else None
    try:
        found = encode(texts, pairs, sequence_length)
    except Exception as error:  # tokenizers raise whatever they like
        raise ModelError(f"{folder}: its tokenizer cannot encode a batch of texts: {in_one_line(error)}.") from error
    return ModelInputs({name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)})


def make_embedded_texts(
    folder: Path, records: Sequence[tuple[Any, ...]], sequence_length: int, _: object = None
) -> ModelInputs:
    """Return texts with the weights that the model's pooling gives to their tokens; of pairs both texts are samples."""
    texts = [(text,) for record in records for text in record]
    made = make_texts(folder, texts, sequence_length)
    weights = _WEIGHTS[pooling_of(folder)](made.tensors["attention_mask"].float())
    return ModelInputs({**made.tensors, POOLING: weights})


def pooling_of(folder: Path) -> str:
    """Return how a model sums up its tokens, by the files of sentence-transformers beside it.

    Raises:
        ModelError: in a way that is not supported.

    """
    try:
        modules = json.loads((folder / _MODULES).read_text(encoding="utf-8"))
        place = next(str(m["path"]) for m in modules if str(m["type"]).endswith(".Pooling"))
        config = json.loads((folder / place / _POOLING_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        return _without_files(folder)
    modes = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else []
    modes = modes or [mode for field, mode in _MODES.items() if config.get(field) is True]
    if len(modes) != 1 or modes[0] not in _WEIGHTS:
        raise ModelError(
            f"{folder / place / _POOLING_CONFIG}: its pooling is {' and '.join(modes) or 'none that is known'}; an "
            f"embedder is judged with one of {', '.join(_WEIGHTS)}."
        )
    return str(modes[0])


def _without_files(folder: Path) -> str:
    """Return the usual way where nothing is said: the mean of an encoder's tokens, the last one of a decoder."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    is_decoder = "num_key_value_heads" in config and "type_vocab_size" not in config
    return "lasttoken" if is_decoder else "mean"


def _first(mask_nt: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(mask_nt.argmax(1), mask_nt.shape[1]).float()


def _last(mask_nt: Tensor) -> Tensor:
    last = mask_nt.shape[1] - 1 - mask_nt.flip(1).argmax(1)
    return torch.nn.functional.one_hot(last, mask_nt.shape[1]).float()


def _mean(mask_nt: Tensor) -> Tensor:
    return mask_nt / mask_nt.sum(1, keepdim=True)


_WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "lasttoken": _last,
    "weightedmean": lambda mask_nt: _mean(mask_nt * mask_nt.cumsum(1)),
}
"""pooling -> weights of the tokens, given which of them are no padding"""


def check_given(source: str | None, what: str) -> str:
    """Return a source, where one is given.

    Raises:
        CalibrationError: none is.

    """
    if source is None:
        raise CalibrationError(f"Such a model makes nothing of its own to be judged on: give --calibration {what}.")
    return source
