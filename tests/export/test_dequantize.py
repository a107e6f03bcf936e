"""A packed model in other types: held dense, or converted while it stays packed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import workers.runtime.transformers_hook  # noqa: F401 (registers the format)
from tests.export.exports import IDS, write_export
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind

Load = Callable[[TinyKind, torch.dtype], Any]
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32
KINDS: tuple[TinyKind, ...] = ("tied", "phi", "opt", "olmo")


@pytest.fixture(scope="module")
def load(bench: Callable[[TinyKind], Bench], tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Give a function that loads a kind of model, with levels of every kind, in a type."""
    root = tmp_path_factory.mktemp("types")
    for kind in KINDS:
        levels = tuple(t for t in EVERY_KIND if t != "dense") if kind == "olmo" else EVERY_KIND
        write_export(bench(kind), bench(kind).plan(levels), "packed", root / kind)
    return lambda kind, dtype: AutoModelForCausalLM.from_pretrained(root / kind, dtype=dtype).eval()


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS).logits
        made = model.generate(IDS[:1], max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=1)
    assert made.shape[1] == IDS.shape[1] + 3
    assert logits.isfinite().all()
    return logits


def _types(model: Any) -> dict[str, torch.dtype]:
    return {name: t.dtype for name, t in (*model.named_parameters(), *model.named_buffers())}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("loaded", "wanted"),
    [(SINGLE, BRAIN), (SINGLE, HALF), (SINGLE, None), (BRAIN, SINGLE), (BRAIN, None), (BRAIN, HALF), (HALF, BRAIN)],
)
def test_held_dense_in_any_type(
    load: Load, tmp_path: Path, kind: TinyKind, loaded: torch.dtype, wanted: torch.dtype | None
) -> None:
    """All that plain transformers would load in the type has it, with the same logits to the bit, and is saved so."""
    model = load(kind, loaded).dequantize(*([] if wanted is None else [wanted]))
    dtype = wanted or loaded
    assert (model.dtype, model.config.dtype) == (dtype, dtype)
    model.save_pretrained(tmp_path)
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert _types(model) == _types(plain)
    assert {t for n, t in _types(model).items() if n in dict(model.named_parameters())} == {dtype}
    assert _logits(model).equal(_logits(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_keeps_in_float32_stays(load: Load, kind: TinyKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model says which of its modules lose too much in a type of 16 bits."""
    model = load(kind, SINGLE)
    monkeypatch.setattr(model, "_keep_in_fp32_modules_strict", {"layers.1.*.k_proj"})
    types = _types(model.dequantize(BRAIN))
    kept = {name for name in types if "layers.1." in name and "k_proj" in name}
    assert {types[name] for name in kept} == {SINGLE}
    assert {types[name] for name, _ in model.named_parameters() if name not in kept} == {BRAIN}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("convert", [lambda m: m.to(BRAIN), lambda m: m.bfloat16(), lambda m: m.to("cpu", BRAIN)])
def test_converted_while_packed(load: Load, kind: TinyKind, convert: Callable[[Any], Any]) -> None:
    """What is stored keeps its bits; the rest has the type, and the model runs in it."""
    before, model = load(kind, SINGLE), load(kind, SINGLE)
    stored = {name: t.clone() for name, t in before.named_buffers() if name.endswith(("scale", "qweight", "left"))}
    assert convert(model) is model
    buffers = dict(model.named_buffers())
    assert all(buffers[name].dtype == t.dtype and buffers[name].equal(t) for name, t in stored.items())
    assert model.dtype == BRAIN
    logits = _logits(model)
    assert logits.dtype == BRAIN
    if kind == "opt":  # the others' rotary frequencies are rounded by torch's `to`, not by loading
        assert logits.equal(_logits(load(kind, BRAIN)))
    assert _logits(model.to(SINGLE)).dtype == SINGLE
