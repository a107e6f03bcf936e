"""The cards of models: under which terms one may be passed on, and the front matter of a new one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.models.companions import is_inside, licence_files

_CARD = "README.md"
_MAX_CARD_BYTES = 1_000_000
_FIELDS = ("license", "license_name", "license_link")
_KNOWN = {  # words of a text -> its name on the hub
    ("Apache License", "Version 2.0"): "apache-2.0",
    ("MIT License", "Permission is hereby granted, free of charge"): "mit",
}


def terms_of(folder: Path) -> dict[str, str]:
    """Return the `license` fields of a model, as far as they are known: as its card says, or by its licence's text."""
    found = {field: value for field, value in _front_matter(folder).items() if field in _FIELDS and value}
    texts = [path for path in licence_files(folder) if path.name.startswith("LICEN") and is_inside(folder, path)]
    if "license" in found or not texts:
        return {field: str(value) for field, value in found.items()}
    words = " ".join(texts[0].read_text(encoding="utf-8", errors="replace")[:_MAX_CARD_BYTES].split())
    known = next((name for parts, name in _KNOWN.items() if all(part in words for part in parts)), None)
    return {"license": known} if known else {"license": "other", "license_link": texts[0].name}


def front_matter(values: Mapping[str, Any]) -> str:
    """Return the YAML between two lines that a card begins with; values that are None are left out."""
    from huggingface_hub import ModelCardData

    text: str = ModelCardData(**values).to_yaml(line_break="\n")
    return f"---\n{text.rstrip()}\n---\n"


def _front_matter(folder: Path) -> Mapping[str, Any]:
    from huggingface_hub import metadata_load

    card = folder / _CARD
    if not card.is_file() or not is_inside(folder, card) or card.stat().st_size > _MAX_CARD_BYTES:
        return {}
    try:
        return metadata_load(card) or {}
    except Exception:  # noqa: BLE001 (of YAML too: a card that nobody can read tells nothing)
        return {}
