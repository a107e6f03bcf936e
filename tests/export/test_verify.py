"""The check of an export finds every planted fault and names it."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from space.errors import VerificationError
from space.level import Level, parse_level
from space.plan import Plan
from tests.export.exports import Export, write_export
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind
from tightfit.export.targets.writer import WEIGHTS
from tightfit.export.verify import Promise, Verified, verify_export
from workers.models.digests import file_digest
from workers.tasks import Evaluate

MODULE = "model.layers.0.self_attn.k_proj"


@pytest.fixture
def export(bench: Callable[[TinyKind], Bench], tmp_path: Path) -> Export:
    """Give a packed export with levels of every kind."""
    at = bench("untied")
    return write_export(at, at.plan(EVERY_KIND), "packed", tmp_path / "out")


def _promise(export: Export) -> Promise:
    found = export.bench.worker.run(Evaluate(export.bench.tokens, export.plan, "held_out"))
    return Promise(export.written.size_bytes, found.kl_divergence)


def _verify(export: Export, promise: Promise, plan: Plan | None = None) -> Verified:
    at = export.bench
    request = {
        "model_folder": str(at.folder),
        "cache_folder": at.workspace.cache_folder,
        "device": at.workspace.device,
        "model_digest": at.workspace.model_digest,
        "tokens": asdict(at.tokens),
    }
    return verify_export(export.written, at.workspace.inventory, plan or export.plan, "packed", promise, request)


def _fails(export: Export, told: str, promise: Promise | None = None, plan: Plan | None = None) -> None:
    before = {p.name: p.read_bytes() for p in export.folder.iterdir()}
    with pytest.raises(VerificationError, match=told) as caught:
        _verify(export, promise or _promise(export), plan)
    assert str(export.folder) in str(caught.value)
    assert {p.name: p.read_bytes() for p in export.folder.iterdir()} == before


def _change(export: Export, change: Callable[[dict[str, Any]], object]) -> None:
    path = export.folder / WEIGHTS
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, {"format": "pt"})
    _record_digest(export)


def _record_digest(export: Export) -> None:
    """Record the digest of a changed file, so that what is checked after it is met."""
    path = export.folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["digests"] = {WEIGHTS: file_digest(export.folder / WEIGHTS)}
    path.write_text(json.dumps(config))


@pytest.mark.usefixtures("reload_here")
def test_good_export_passes(export: Export) -> None:
    """What was written is what was searched, to the bit."""
    promise = _promise(export)
    verified = _verify(export, promise)
    assert verified.logit_difference == 0.0
    assert verified.kl_divergence == pytest.approx(promise.kl_divergence, rel=1e-9)


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("tensor", [f"{MODULE}.qweight", f"{MODULE}.mask", f"{MODULE}.scale", "model.norm.weight"])
def test_flipped_byte_is_found(export: Export, tensor: str) -> None:
    """One changed byte of packed values, a mask, a scale or a norm changes the logits, even into no numbers."""
    from workers.models.headers import read_header

    plan = export.plan.replace({MODULE: Level(4, 32, 0.5)})
    export.bench.build(plan)
    changed = write_export(export.bench, plan, "packed", export.folder.with_name("changed"))
    path = changed.folder / WEIGHTS
    place = next(t for t in read_header(path) if t.info.name == tensor)
    data = bytearray(path.read_bytes())
    data[place.start + 1] ^= 0x7F
    path.write_bytes(bytes(data))
    _record_digest(changed)
    _fails(changed, "logits differ from the searched model by|cannot be loaded again", Promise(10**9, None))


@pytest.mark.usefixtures("reload_here")
def test_no_number_is_a_difference(export: Export) -> None:
    """Logits that are not numbers compare with nothing, and are refused."""
    _change(export, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    _fails(export, r"logits differ from the searched model by nan.*KL divergence is nan, recorded is")


@pytest.mark.usefixtures("reload_here")
def test_wrong_plan_is_found(export: Export) -> None:
    """Files of another plan have other bytes, and other logits even where the bytes agree."""
    other = export.plan.replace({MODULE: Level(8, None), "lm_head": parse_level("b5-g32")})
    export.bench.build(other)
    _fails(export, f"{MODULE} takes .* bytes, b8-gch has .*lm_head takes .*logits differ", plan=other)


@pytest.mark.usefixtures("reload_here")
def test_changed_record_is_found(export: Export) -> None:
    """A recorded KL that the files do not show is refused."""
    promise = _promise(export)
    assert promise.kl_divergence is not None
    wrong = replace(promise, kl_divergence=promise.kl_divergence * 0.99)
    _fails(export, "KL divergence is .*, recorded is", wrong)


@pytest.mark.usefixtures("reload_here")
def test_a_record_of_another_device_may_differ_by_its_rounding(export: Export) -> None:
    """A per cent, not a tenth."""
    promise = replace(_promise(export), is_same_device=False)
    assert promise.kl_divergence is not None
    assert promise.kl_divergence > 0.05
    _verify(export, replace(promise, kl_divergence=promise.kl_divergence * 0.99))
    _fails(export, "KL divergence is", replace(promise, kl_divergence=promise.kl_divergence * 0.9))


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("tensor", ["model.norm.weight", "lm_head.qweight"])
def test_missing_tensor_is_found(export: Export, tensor: str) -> None:
    """A gap, which transformers fills with random numbers, is named."""
    plan = export.plan.replace({"lm_head": Level(4, 32)})
    export.bench.build(plan)
    changed = write_export(export.bench, plan, "packed", export.folder.with_name("changed"))
    _change(changed, lambda tensors: tensors.pop(tensor))
    _fails(changed, f"missing_keys: {tensor}", Promise(10**9, None))


@pytest.mark.usefixtures("reload_here")
def test_tensor_too_many_is_found(export: Export) -> None:
    """A tensor that nobody reads is named."""
    _change(export, lambda tensors: tensors.update(extra=tensors["model.norm.weight"].clone()))
    _fails(export, "unexpected_keys: extra")


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("chat_template.jinja", "{{ 'other' }}", "tokenizer: its chat template is not the searched model's"),
        ("tokenizer.json", "{", r"tokenizer: cannot be loaded \("),
    ],
)
def test_other_tokenizer_is_found(export: Export, name: str, text: str, told: str) -> None:
    """What a chat is written with is a part of the model."""
    (export.folder / name).write_text(text)
    _fails(export, told)


@pytest.mark.usefixtures("reload_here")
def test_model_that_cannot_generate_is_found(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal logits are not enough to be used."""
    from workers.runtime.loaders import exported_loaders

    def refuse(*_: Any, **__: Any) -> None:
        raise StopIteration

    def load(*arguments: Any) -> tuple[Any, dict[str, list[str]]]:
        model, problems = loader.load(*arguments)
        model.generate = refuse
        return model, problems

    loader = exported_loaders.LOADERS["packed"]
    monkeypatch.setitem(exported_loaders.LOADERS, "packed", replace(loader, load=load))
    _fails(export, "generate: StopIteration")


@pytest.mark.usefixtures("reload_here")
def test_over_budget_is_found(export: Export) -> None:
    """One byte more than was allowed is too much; a wrong prediction is told too."""
    promise = _promise(export)
    size = export.written.size_bytes
    _fails(export, f"take {size:,} bytes, the budget is {size - 1:,}", replace(promise, weight_budget=size - 1))
    wrong = replace(export, written=replace(export.written, predicted_bytes=size - 8))
    _fails(wrong, f"take {size:,} bytes, predicted were {size - 8:,}", promise)


def test_fresh_process_tells_all_and_imports_nothing_else(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be loaded is told beside the other differences; a package in the way is not imported."""
    sprung = tmp_path / "sprung"
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    monkeypatch.chdir(tmp_path)
    (export.folder / "config.json").write_text("{}")
    _fails(export, "the budget is 1; cannot be loaded again: (.|\n)*Unrecognized model", Promise(1, None))
    assert not sprung.exists()
