"""Which tensors of a model are modules."""

from collections.abc import Callable
from pathlib import Path

from tests.workers.tiny_models import TinyKind
from workers.models.files import read_headers
from workers.models.inventory import inspect_model


def test_inventory_counts_every_tensor_once(tiny: Callable[[TinyKind], Path]) -> None:
    """Modules and others together are the file; a tied head is no module of its own."""
    kinds: list[TinyKind] = ["tied", "untied", "phi", "opt"]
    for kind in kinds:
        inventory, stored = inspect_model(tiny(kind)), read_headers(tiny(kind))
        names = [m.weight.name for m in inventory.modules] + [t.name for t in inventory.others]
        assert sorted(names) == sorted(stored)
        assert inventory.dense_bytes == sum(t.info.size_bytes for t in stored.values())
        embedding = inventory.modules[0]
        assert embedding.tied == (("lm_head",) if kind in ("tied", "opt") else ())
        assert any(m.name == "lm_head" for m in inventory.modules) == (kind in ("untied", "phi"))


def test_only_plain_embeddings_are_modules(tiny: Callable[[TinyKind], Path]) -> None:
    """An embedding class with rules of its own (OPT's positions) is left alone: nothing else could stand for it."""
    names = [m.name for m in inspect_model(tiny("opt")).modules if m.kind == "embedding"]
    assert names == ["model.decoder.embed_tokens"]
