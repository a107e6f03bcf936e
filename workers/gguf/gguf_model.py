"""A model as it is written in a GGUF file: what is renamed, what stands in another order, what is refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.gguf.gguf_architectures import (
    GgufArchitecture,
    architecture_of,
    check_attention,
    load_config,
    num_heads_permuted,
    tensor_names,
)
from workers.gguf.gguf_tokenizer import check_tokenizer
from workers.models.model_files import read_config, read_headers


@dataclass(frozen=True, slots=True)
class GgufModel:
    """How a model is written.

    Attributes:
        architecture: of llama.cpp.
        config: as transformers reads it.
        renamed: stored name -> name in the file.

    """

    architecture: GgufArchitecture
    config: Any
    renamed: Callable[[str], str]

    def num_heads_permuted(self, name: str) -> int | None:
        """Return of how many heads a stored tensor's rows are in another order in the file; None: in the same."""
        return num_heads_permuted(self.architecture, self.config, name)

    def added(self, name: str) -> float:
        """Return what is added to a stored tensor that is left alone."""
        return float(self.architecture.norms_from_one and name.endswith("norm.weight"))


def check_model(folder: Path) -> None:
    """Refuse a model that llama.cpp would run in another way, or not at all.

    Raises:
        ModelError: names the part of it.

    """
    model = gguf_model(folder)
    for name in read_headers(folder):
        model.renamed(name)
    check_tokenizer(folder)


def gguf_model(folder: Path) -> GgufModel:
    """Return how a model is written.

    Raises:
        ModelError: it cannot be.

    """
    architecture = architecture_of(folder, read_config(folder))
    config = load_config(folder)
    check_attention(folder, architecture, config)
    return GgufModel(architecture, config, tensor_names(architecture.name, config.num_hidden_layers))
