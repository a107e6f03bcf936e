"""What lies beside a model's config and weights and belongs to it: by name, and only what is really in its folder.

A folder may be anybody's, and what is exported is published: a link in it could lead to any file of this machine.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from space.budget import format_bytes
from space.errors import ModelError

COMPANIONS = (  # how it generates, its tokenizer in all spellings of transformers, pooling, processors, chat templates
    *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "normalizer.json", "vocab.json", "vocab.txt", "vocab.bpe", "merges.txt", "bpe.codes"),
    *("tokenizer.model", "tokenizer.model.v[0-9]*", "sentencepiece.model", "sentencepiece.bpe.model", "spiece.model"),
    *("spm.model", "spm_char.model", "source.spm", "target.spm", "tiktoken.model", "*.tiktoken", "tekken.json"),
    *("dict.txt", "emoji.json", "byte_maps.json", "entity_vocab.json"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "[0-9]_*/config.json"),
    *(
        "[0-9]_*/model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
    ),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
"""Patterns of the files that a user of the model needs."""
PAPERS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE", "NOTICE.txt", "NOTICE.md")
"""The card of a model, and the terms that its copies are given away under."""
_MAX_BYTES = 256 * 2**20  # eight times the largest tokenizer of today; libraries read such a file whole
_SETTINGS = ("tokenizer_config.json", "generation_config.json")
_OF_CODE = ("auto_map", "trust_remote_code", "custom_pipelines")
_OF_PLACES = ("_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file", "vocab_file", "merges_file")


def companion_files(folder: Path) -> list[Path]:
    """Return what lies beside config and weights and is needed to use a model: tokenizer, chat templates.

    Raises:
        ModelError: one of them is too large to be what its name says.

    """
    return _matching(folder, COMPANIONS)


def licence_files(folder: Path) -> list[Path]:
    """Return the files that say under which terms a model may be passed on.

    Raises:
        ModelError: one of them is too large to be what its name says.

    """
    return _matching(folder, PAPERS[1:])


def check_inside(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse files that are not in a model's folder, or in the hub's cache that the folder is of.

    Raises:
        ModelError: names a link that leads elsewhere.

    """
    for path in paths:
        if not is_inside(folder, path):
            raise ModelError(
                f"{path}: a link to a file outside the model's folder, which is not copied into what is passed on. "
                "Put a copy of the file in its place, or take the link away."
            )


def is_inside(folder: Path, path: Path) -> bool:
    """Tell whether a file is really in a folder, or in the hub's cache where the folder is a snapshot there."""
    home = folder.resolve()
    roots = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    return any(path.resolve().is_relative_to(root) for root in roots)


def published(value: Any) -> Any:
    """Return the settings of a model without what asks for code and what names places on somebody's machine."""
    if isinstance(value, dict):
        return {key: published(inner) for key, inner in value.items() if key not in (*_OF_CODE, *_OF_PLACES)}
    return [published(inner) for inner in value] if isinstance(value, list) else value


def published_bytes(path: Path) -> bytes:
    """Return what a copy of a companion holds: its bytes, or its settings as far as they are fit to be published."""
    found = path.read_bytes()
    try:
        value = json.loads(found) if path.name in _SETTINGS else None
    except (ValueError, RecursionError):  # nothing reads it, and verifying the copy tells so
        return found
    fit = published(value)
    return found if fit == value else (json.dumps(fit, indent=2, ensure_ascii=False) + "\n").encode()


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    for path in found:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelError(
                f"{path}: {format_bytes(size)}, more than {format_bytes(_MAX_BYTES)}, which no such file needs. "
                "Download the model again."
            )
    return found
