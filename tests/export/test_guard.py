"""A packed checkpoint is loaded as what it is or not at all."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from space.level import Level
from tests.export.exports import IDS, Export, write_export
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind
from tightfit.export.targets.writer import WEIGHTS
from workers.models.digests import file_digest
from workers.runtime.loaders.exported_loaders import load_exported
from workers.runtime.packed_format import CACHE_VERSION
from workers.runtime.packed_modules import use_fast_kernels

Benches = Callable[[TinyKind], Bench]
PACKED = tuple(text for text in EVERY_KIND if text != "dense")
ALONE: dict[str, tuple[TinyKind, str]] = {
    "embedding alone": ("tied", "model.embed_tokens"),
    "one layer alone": ("tied", "model.layers.1.self_attn.k_proj"),
    "last layer alone": ("untied", "model.layers.1.mlp.down_proj"),
}


def _as_older(export: Export, folder: Path) -> Path:
    """Return the same checkpoint as an older tightfit wrote it: nothing is in the way of other loaders."""
    shutil.copytree(export.folder, folder)
    tensors = {name: tensor for name, tensor in load_file(folder / WEIGHTS).items() if tensor.numel()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config["transformers_weights"]
    config["quantization_config"] |= {"schema_version": 1, "digests": {WEIGHTS: file_digest(folder / WEIGHTS)}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _without_field(export: Export, folder: Path) -> Path:
    """Return a checkpoint as a transformers sees it that does not know the field of config.json."""
    shutil.copytree(export.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("transformers_weights")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def exports(bench: Benches, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    """Give exports with everything packed, and with one module packed alone."""
    root = tmp_path_factory.mktemp("guarded")
    kinds: tuple[TinyKind, ...] = ("tied", "untied")
    found: dict[str, Export] = {}
    for kind in kinds:
        found[kind] = write_export(bench(kind), bench(kind).plan(PACKED), "packed", root / kind)
    for name, (kind, module) in ALONE.items():
        at = bench(kind)
        plan = at.dense_plan().replace({module: Level(8, None)})
        at.build(plan)
        found[name] = write_export(at, plan, "packed", root / name.replace(" ", "-"))
    return found


def _plainly(folders: Mapping[Path, Sequence[str]]) -> dict[str, dict[str, str | None]]:
    """Return folder -> way -> what a fresh process was told; every way where none is named."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.export.load_plainly"],
        input=json.dumps({str(folder): ways for folder, ways in folders.items()}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout)
    assert answer["imported"] == []
    found: dict[str, dict[str, str | None]] = answer["answers"]
    return found


def test_plain_transformers_refuses_packed_checkpoints(exports: dict[str, Export], tmp_path: Path) -> None:
    """By every way in, with the import that is missing; saved again, or to older loaders, by a shape at least."""
    model, _ = load_exported(exports["tied"].folder)
    model.save_pretrained(tmp_path / "again")
    by_shape = [tmp_path / "again", _without_field(exports["tied"], tmp_path / "tied")]
    by_shape += [_without_field(exports[name], tmp_path / str(i)) for i, name in enumerate(ALONE)]
    whole = [export.folder for export in exports.values()]
    answers = _plainly(dict.fromkeys(whole, ("causal", "base")) | dict.fromkeys(by_shape, ("causal",)) | {whole[0]: ()})
    assert len(answers[str(whole[0])]) == 9
    for folder in whole:
        for way, error in answers[str(folder)].items():
            assert "run `import tightfit.hf` before loading it" in str(error), (folder, way)
    for folder in by_shape:
        assert str(answers[str(folder)]["causal"]).startswith("RuntimeError: You set `ignore_mismatched_sizes`"), folder


def test_checkpoint_of_an_older_tightfit_is_loaded(exports: dict[str, Export], tmp_path: Path) -> None:
    """It has the same logits to the bit; one of a newer kind is refused by its number."""
    for name in ("tied", "untied"):
        older = _as_older(exports[name], tmp_path / name)
        model, problems = load_exported(older)
        assert problems == {}
        with torch.no_grad():
            assert model(input_ids=IDS).logits.equal(exports[name].searched_logits())
    config = json.loads((older / "config.json").read_text())
    config["quantization_config"]["schema_version"] = CACHE_VERSION + 1
    (older / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=rf"has schema {CACHE_VERSION + 1}; this tightfit reads 1 to {CACHE_VERSION}\. Update"
    ):
        load_exported(older)


def test_what_is_in_the_way_takes_no_bytes(exports: dict[str, Export]) -> None:
    """The tensors of the file have the bytes that the search counted; the tensors in the way are all there."""
    for export in exports.values():
        stored = load_file(export.folder / WEIGHTS)
        assert sum(t.nbytes for t in stored.values()) == export.written.size_bytes == export.written.predicted_bytes
        packed = [name for name, level in export.plan.levels if not level.is_dense]
        assert all(stored[f"{name}.weight"].shape == (0,) for name in packed)


def test_base_and_other_heads_are_loaded_packed(exports: dict[str, Export]) -> None:
    """A model without its head, or with another one, has the same packed blocks."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    for name in ("tied", "untied"):
        causal, _ = load_exported(exports[name].folder)
        base: Any = AutoModel.from_pretrained(exports[name].folder, dtype=torch.float32)
        other: Any = AutoModelForSequenceClassification.from_pretrained(exports[name].folder, dtype=torch.float32)
        for model in (base, other):
            use_fast_kernels(model, fast=False)
        with torch.no_grad():
            expected = causal.model(input_ids=IDS).last_hidden_state
            assert base.eval()(input_ids=IDS).last_hidden_state.equal(expected)
            assert other.model.eval()(input_ids=IDS).last_hidden_state.equal(expected)
        assert not [n for n, parameter in base.named_parameters() if parameter.ndim > 1]
