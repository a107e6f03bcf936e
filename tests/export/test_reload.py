"""Exports of every kind of plan, reloaded by plain transformers in a fresh process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from space.cost import module_bytes, plan_bytes
from tests.export.exports import Export, reload_all, write_export
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind
from tightfit.export.targets.writer import WEIGHTS

PACKED: list[TinyKind] = ["tied", "untied", "phi", "opt", "olmo"]
COMPRESSED: list[TinyKind] = ["tied", "untied", "phi", "opt"]
MIXED = ("b2-g32", "b3-gch", "b4-g32", "b5-g64", "b6-gch", "b8-g32", "dense", "b7-g64", "b3-g32", "b2-gch", "b4-g4")
NONE_DENSE = tuple(text for text in EVERY_KIND if text != "dense")
Benches = Callable[[TinyKind], Bench]
Reloaded = dict[TinyKind, tuple[Export, dict[str, Any]]]


@pytest.fixture(scope="module")
def packed(bench: Benches, tmp_path_factory: pytest.TempPathFactory) -> Reloaded:
    """Give packed exports with every kind of level, and what a process with `tightfit.hf` found in them."""
    root = tmp_path_factory.mktemp("packed")
    levels = {k: NONE_DENSE if k == "olmo" else EVERY_KIND for k in PACKED}
    exports = {k: write_export(bench(k), bench(k).plan(levels[k]), "packed", root / k) for k in PACKED}
    answers = reload_all(list(exports.values()), "hf")["answers"]
    return {kind: (export, answers[str(export.folder)]) for kind, export in exports.items()}


@pytest.fixture(scope="module")
def compressed(bench: Benches, tmp_path_factory: pytest.TempPathFactory) -> Reloaded:
    """Give compressed-tensors exports of mixed plans, and what a process without any of our code found in them."""
    root = tmp_path_factory.mktemp("compressed")
    exports: dict[TinyKind, Export] = {}
    for kind in COMPRESSED:
        plan = bench(kind).plan(MIXED, "compressed-tensors")
        exports[kind] = write_export(bench(kind), plan, "compressed-tensors", root / kind)
    answer = reload_all(list(exports.values()))
    assert answer["imported"] == []
    return {kind: (export, answer["answers"][str(export.folder)]) for kind, export in exports.items()}


@pytest.mark.parametrize("kind", PACKED)
def test_packed_export_is_the_searched_model(packed: Reloaded, kind: TinyKind) -> None:
    """No key is missing, unexpected or mismatched, the logits are equal to the bit, and it generates.

    As loaded, with fast kernels, logits differ by less than a hundred thousandth of their range.
    """
    export, answer = packed[kind]
    assert 0 < answer["fast"] < 1e-5
    assert answer["problems"] == {}
    assert export.reloaded_logits().equal(export.searched_logits())
    assert answer["generated"] == 21


@pytest.mark.parametrize("kind", PACKED)
def test_packed_export_stays_packed_in_memory(packed: Reloaded, kind: TinyKind) -> None:
    """What the loaded model holds is what the file holds; only modules left dense have a weight."""
    export, answer = packed[kind]
    assert answer["held_bytes"] == export.written.size_bytes
    dense = {f"{name}.weight" for name, level in export.plan.levels if level.is_dense}
    assert set(answer["dense_weights"]) - {"model.decoder.embed_positions.weight"} == dense


def test_a_model_of_packed_weights_alone_has_a_type(packed: Reloaded) -> None:
    """Where neither norms nor biases are left, transformers still finds what it asks every model for."""
    _, answer = packed["olmo"]
    assert (answer["dense_weights"], answer["dtype"]) == ([], "torch.float32")


@pytest.mark.parametrize("kind", PACKED)
def test_packed_export_can_be_saved_again(packed: Reloaded, kind: TinyKind) -> None:
    """`save_pretrained` and loading once more changes nothing."""
    _, answer = packed[kind]
    assert answer["again"] == 0.0
    assert answer["again_problems"] == {}


@pytest.mark.parametrize("kind", PACKED)
def test_packed_export_can_be_held_dense(packed: Reloaded, kind: TinyKind) -> None:
    """`dequantize` unpacks every weight once: the same logits, and the memory of the dense model in float32."""
    export, answer = packed[kind]
    assert answer["dequantized"] == 0.0
    assert answer["dense_bytes"] == 4 * export.bench.workspace.inventory.num_parameters


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_tensors_export_is_the_searched_model(compressed: Reloaded, kind: TinyKind) -> None:
    """Plain transformers gives the same logits to the bit in float32, and generates."""
    export, answer = compressed[kind]
    assert answer["problems"] == {}
    assert float((export.reloaded_logits() - export.searched_logits()).abs().max()) == 0.0
    assert answer["generated"] == 21


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_tensors_plan_is_mixed(compressed: Reloaded, kind: TinyKind) -> None:
    """The plan under test holds many bit-widths and group sizes; the embedding is dense."""
    levels = [level for _, level in compressed[kind][0].plan.levels]
    assert {2, 3, 4, 5, 6, 8} <= {level.bits for level in levels}
    assert levels[0].is_dense
    assert {level.group_size for level in levels} >= {32, 64, None}


@pytest.mark.parametrize("target", ["packed", "compressed-tensors"])
def test_stored_bytes_are_the_predicted_ones(packed: Reloaded, compressed: Reloaded, target: str) -> None:
    """The whole file and every module of it have the bytes that the search counted."""
    for export, _ in (packed if target == "packed" else compressed).values():
        inventory, name = export.bench.workspace.inventory, export.written
        stored = {n: t.nbytes for n, t in load_file(export.folder / WEIGHTS).items()}
        assert sum(stored.values()) == name.size_bytes == name.predicted_bytes
        assert name.predicted_bytes == plan_bytes(inventory, export.plan, target).weight_bytes
        for module in inventory.modules:
            parts = [b for n, b in stored.items() if n.startswith(f"{module.name}.") and not n.endswith(".bias")]
            assert sum(parts) == module_bytes(module, export.plan[module.name], target)


def test_folder_holds_what_users_need(packed: Reloaded) -> None:
    """Config, tokenizer, card and provenance lie beside the weights; no pickle, no code."""
    names = {p.name for p in packed["tied"][0].folder.iterdir()}
    assert {
        WEIGHTS,
        "config.json",
        "tokenizer.json",
        "README.md",
        "compression.json",
        "generation_config.json",
    } <= names
    assert not [n for n in names if Path(n).suffix in (".py", ".bin", ".pt")]
