"""A model's tokenizer as the fields of a GGUF file: out of its tokenizer.json, as llama.cpp's converter writes them.

llama.cpp has two kinds of the tokenizers that the models written here have: "gpt2" merges bytes, after a split of the
text that it knows by name; "llama" (SentencePiece) merges characters by the scores of what comes of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from space.errors import ModelError
from workers.bounded_files import read_json
from workers.text.tokenizer import opening_of

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's `llama_token_type`
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASES = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_SMALL = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPLITS: Mapping[tuple[str, bool], str] = {
    (_WORDS + r"\p{N}{1,3}" + _REST, True): "llama-bpe",
    (_WORDS + r"\p{N}{1,3}" + _REST, False): "smaug-bpe",
    (_WORDS + r"\p{N}" + _REST, False): "qwen2",
    (rf"{_CASES}*{_SMALL}+|{_CASES}+{_SMALL}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+", True): (
        "tekken"
    ),
}
"""(expression that splits text, whether a whole word that is a token is taken without merging) -> llama.cpp's name"""


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer that llama.cpp would run in another way.

    Raises:
        ModelError: says which part of it.

    """
    tokenizer = _read(folder)
    if not _is_sentencepiece(tokenizer):
        _split_name(folder, tokenizer)


def add_tokenizer_fields(writer: Any, folder: Path, vocab_size: int) -> None:
    """Add a tokenizer, with the chat template and the ids of special tokens.

    Args:
        writer: `gguf.GGUFWriter`.
        folder: of the model.
        vocab_size: rows of its embedding; tokens that the tokenizer lacks are padding.

    Raises:
        ModelError: llama.cpp has no such tokenizer.

    """
    import gguf

    tokenizer = _read(folder)
    is_pieces = _is_sentencepiece(tokenizer)
    tokens, kinds = _tokens(tokenizer, vocab_size)
    writer.add_tokenizer_model("llama" if is_pieces else "gpt2")
    writer.add_tokenizer_pre("default" if is_pieces else _split_name(folder, tokenizer))
    writer.add_token_list(tokens)
    if is_pieces:
        writer.add_token_scores(_scores(tokenizer, tokens))
        writer.add_add_space_prefix(_begins_with_space(tokenizer))
    writer.add_token_types(kinds)
    special = gguf.SpecialVocab(folder, load_merges=not is_pieces, n_vocab=vocab_size)
    special.add_special_token["bos"] = _begins_with(folder, special.special_token_ids.get("bos"))
    special.add_special_token["eos"] = False
    special.add_to_gguf(writer, quiet=True)


def token_fields(path: Path) -> tuple[list[str], str | None]:
    """Return the texts of the tokens in a file, and its chat template."""
    import gguf

    reader = gguf.GGUFReader(path)
    tokens, template = (reader.get_field(key) for key in (gguf.Keys.Tokenizer.LIST, gguf.Keys.Tokenizer.CHAT_TEMPLATE))
    return [] if tokens is None else list(tokens.contents()), None if template is None else str(template.contents())


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer.json"
    try:
        found: Any = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: needed for --target gguf, and cannot be read ({error}).") from error
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise ModelError(f"{path}: only tokenizers that merge pairs (BPE) are written as GGUF. Use --target packed.")
    return dict(found)


def _is_sentencepiece(tokenizer: Mapping[str, Any]) -> bool:
    return bool(tokenizer["model"].get("byte_fallback"))


def _split_name(folder: Path, tokenizer: Mapping[str, Any]) -> str:
    """Return what llama.cpp calls the way in which text is split before bytes are merged."""
    split = tokenizer.get("pre_tokenizer") or {}
    parts = [part for part in split.get("pretokenizers", [split]) if part]
    ends_in_bytes = bool(parts) and parts[-1].get("type") == "ByteLevel" and not parts[-1].get("add_prefix_space")
    own_split = ends_in_bytes and parts[-1].get("use_regex", True)
    ignores_merges = bool(tokenizer["model"].get("ignore_merges"))
    before = parts[:-1]
    if own_split and not before and not ignores_merges:
        return "gpt-2"
    if own_split and before == [{"type": "Digits", "individual_digits": True}] and not ignores_merges:
        return "smollm"
    if ends_in_bytes and not own_split and len(before) == 1:
        expression = (before[0].get("pattern") or {}).get("Regex", "")
        if before[0].get("behavior") == "Isolated" and (expression, ignores_merges) in _SPLITS:
            return _SPLITS[expression, ignores_merges]
    raise ModelError(
        f"{folder / 'tokenizer.json'}: it splits text in a way that llama.cpp does not know by name "
        f"({json.dumps(split, ensure_ascii=False)[:200]}), so that prompts would become other tokens there. "
        "Use --target packed."
    )


def _tokens(tokenizer: Mapping[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    """Return texts and types of all rows of the embedding."""
    model = tokenizer["model"]
    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    kinds = [_UNUSED] * vocab_size
    for text, at in model["vocab"].items():
        tokens[at] = text
        kinds[at] = _BYTE if model.get("byte_fallback") and _is_byte(text) else _NORMAL
    for added in tokenizer.get("added_tokens") or ():
        at, text = added["id"], added["content"]
        is_control = added.get("special") or (text.startswith("<|") and text.endswith("|>"))
        tokens[at] = text if is_control else text.replace("\u2581", " ")
        kinds[at] = _CONTROL if is_control else _USER_DEFINED
    unknown = model.get("unk_token")
    if unknown in model["vocab"]:
        kinds[model["vocab"][unknown]] = _UNKNOWN
    return tokens, kinds


def _is_byte(text: str) -> bool:
    return len(text) == len("<0x00>") and text.startswith("<0x") and text.endswith(">")


def _scores(tokenizer: Mapping[str, Any], tokens: list[str]) -> list[float]:
    """Return a score of each token: the earlier a merge, the higher what comes of it."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(tokenizer["model"]["merges"]):
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        ranks.setdefault(left + right, rank)
    return [-float(ranks[text]) if text in ranks else -1e6 for text in tokens]


def _begins_with_space(tokenizer: Mapping[str, Any]) -> bool:
    """Tell whether a text is taken as if a space stood before it."""
    normalizer = tokenizer.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    split = tokenizer.get("pre_tokenizer") or {}
    return any(step.get("type") == "Prepend" for step in steps if step) or (
        split.get("type") == "Metaspace" and split.get("prepend_scheme", "always") != "never"
    )


def _begins_with(folder: Path, first: int | None) -> bool:
    return first is not None and opening_of(folder) == (first,)
