"""Files of the `exl3` target: their names, their map, their bytes, and the searched model out of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from search.request.model_checks import MODEL_CHECKS
from space.errors import SpecError
from space.inventory import ModuleInfo, TensorInfo
from space.level import parse_level
from space.site import Site
from space.spec import make_spec
from space.targets.target_table import is_legal
from tests.export.exports import IDS, Export, write_export
from tests.workers.tiny_models import make_bench, make_wide
from tightfit.export.checkpoint import check_format
from tightfit.export.targets.writer import WEIGHTS
from workers.runtime.loaders.exported_loaders import load_exported

LEVELS = ("exl3-3", "exl3-8", "exl3-4", "dense")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Export:
    """Give a mixed plan's files, of a model whose widths are multiples of 128."""
    root = tmp_path_factory.mktemp("exl3")
    bench = make_bench(make_wide(root / "model"), root / "cache", text_file)
    return write_export(bench, bench.plan(LEVELS, "exl3"), "exl3", root / "out")


def test_the_map_is_that_of_the_files(exported: Export) -> None:
    """Each module in tiles has its four tensors, as config.json and the file beside it say; no other has any."""
    config = json.loads((exported.folder / "config.json").read_text())["quantization_config"]
    stored = load_file(exported.folder / WEIGHTS)
    tiles = {name: level for name, level in exported.plan.levels if not level.is_dense}
    assert {level.bits for level in tiles.values()} == {3, 4, 8}
    assert set(config["tensor_storage"]) == set(tiles)
    assert {n.rpartition(".")[0] for n in stored if n.endswith(".trellis")} == set(tiles)
    for name, entry in config["tensor_storage"].items():
        assert set(entry["stored_tensors"]) == {f"{name}.{part}" for part in ("trellis", "suh", "svh", "mul1")}
        for tensor, told in entry["stored_tensors"].items():
            assert list(stored[tensor].shape) == told["shape"]
            assert str(stored[tensor].dtype) == f"torch.{told['torch_dtype']}"
        assert int(stored[f"{name}.mul1"]) & 0xFFFFFFFF == entry["mul1_multiplier"] == 0x83DCD12D
        assert entry["bits_per_weight"] == tiles[name].bits
        assert f"{name}.weight" not in stored
    assert (config["quant_method"], config["codebook"]) == ("exl3", "mul1")
    assert json.loads((exported.folder / "quantization_config.json").read_text()) == config


def test_the_searched_model_comes_out_of_them(exported: Export) -> None:
    """Bytes are the predicted ones; our own reader gives the searched model's logits, to the bit."""
    assert exported.written.size_bytes == exported.written.predicted_bytes
    model, problems = load_exported(exported.folder)
    assert problems == {}
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, exported.searched_logits())


@pytest.mark.parametrize("name", ["BertForMaskedLM", "T5ForConditionalGeneration", "Wav2Vec2ForCTC"])
def test_models_that_its_runtimes_do_not_run_are_refused(tmp_path: Path, name: str) -> None:
    """By what config.json says, before a job exists."""
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [name], "model_type": "any"}))
    with pytest.raises(SpecError, match=rf"is {name}; what loads --target exl3 .* runs decoders of text only"):
        MODEL_CHECKS["exl3"](tmp_path)


def test_stacks_of_experts_cannot_be_tiles() -> None:
    """Their files would hold one weight where exllamav3 reads one of each expert."""
    plain = ModuleInfo("m", "linear", TensorInfo("m.weight", (256, 128), "BF16"), 0)
    assert is_legal(plain, parse_level("exl3-4"), "exl3")
    stack = replace(plain, site=Site("m.experts", (2, 128, 128), ("m.experts",)))
    assert not is_legal(stack, parse_level("exl3-4"), "exl3")


def test_what_it_cannot_hold(exported: Export) -> None:
    """Embeddings stay dense, other codings are refused, and a menu that names none gets EXL3."""
    embedding, *others = exported.bench.workspace.inventory.modules
    assert embedding.kind == "embedding"
    assert not is_legal(embedding, parse_level("exl3-4"), "exl3")
    assert all(is_legal(module, parse_level("exl3-4"), "exl3") for module in others)
    packed = exported.bench.plan(("b4-g32",))
    with pytest.raises(SpecError, match="which exl3 cannot hold"):
        check_format(exported.bench.workspace.inventory, packed, "exl3")
    spec = make_spec(model="model", budget="4bpw", target="exl3")
    assert {level.kind for level in spec.menu.levels()} == {"exl3", "dense"}
