"""A model's embedding of tokens, where it has one: models of sound and images may have none."""

from typing import Any

from torch import nn


def input_embedding(model: Any) -> nn.Embedding | None:
    """Return what looks tokens up; None where nothing does, or what embeds is no table of tokens."""
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Embedding) else None


def hidden_size(model: Any) -> int:
    """Return how many values blocks pass on for each position, about: for what memory they take."""
    embedding = input_embedding(model)
    if embedding is not None:
        return int(embedding.weight.shape[-1])
    sizes = (getattr(model.config, name, None) for name in ("hidden_size", "d_model"))
    return next((size for size in sizes if isinstance(size, int)), 1024)
