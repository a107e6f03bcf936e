"""A checkpoint whose experts are stored in MXFP4, as gpt-oss is published: read as the values of its codes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from search.request.prepare import prepare
from space.errors import ModelError, SpecError
from space.spec import make_spec
from tests.families.short_path import walk
from tests.families.zoo import make_family
from tightfit.estimate import estimate
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.models.mxfp4 import mxfp4_values

_STACKS = ("experts.gate_up_proj", "experts.down_proj")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small gpt-oss whose experts are random codes and exponents."""
    folder = make_family("gpt_oss", tmp_path_factory.mktemp("mxfp4") / "model")
    tensors, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith(_STACKS)]:
        num_experts, columns, rows = tensors.pop(name).shape
        shape = (num_experts, rows, columns // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
        tensors[f"{name}_scales"] = torch.randint(120, 125, shape, dtype=torch.uint8, generator=generator)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_values_are_those_of_transformers(model: Path) -> None:
    """Code for code and exponent for exponent."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    tensors = load_file(model / "model.safetensors")
    found = dict(load_model(model).named_parameters())
    for name in (f"model.layers.0.mlp.{last}" for last in _STACKS):
        stored = tensors[f"{name}_blocks"], tensors[f"{name}_scales"]
        expected = convert_moe_packed_tensors(*stored)
        assert torch.equal(mxfp4_values(*stored), expected)
        assert torch.equal(found[name], expected.float())


def test_no_number_stays_none() -> None:
    """An exponent of all ones is none, and so is all that it scales."""
    blocks = torch.full((1, 1, 2, 16), 0x21, dtype=torch.uint8)
    values = mxfp4_values(blocks, torch.tensor([[[127, 255]]], dtype=torch.uint8))[0, :, 0]
    assert values[:4].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert values[32:].isnan().all()


@pytest.mark.usefixtures("reload_here")
def test_the_whole_path(model: Path, tmp_path: Path) -> None:
    """Levels are made of the values, and the export holds nothing of the codes."""
    inventory = inspect_model(model)
    stacks = [m for m in inventory.modules if m.name.endswith(_STACKS)]
    assert {m.weight.dtype for m in stacks} == {"BF16"}
    assert not [t.name for t in inventory.others if t.name.endswith(("_blocks", "_scales"))]
    assert walk(model, tmp_path, inventory) == 0
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if "_blocks" in name]


def test_a_dry_run_says_what_it_counts(model: Path) -> None:
    """Dense bytes are those of the values, and no menu keeps the codes."""
    spec = make_spec(model=str(model), budget="50%", group_sizes=(32,))
    prepared = prepare(spec)
    assert any("Stored in MXFP4" in remark for remark in estimate(spec, prepared, spec).remarks)
    stacks = [m.name for m in prepared.inventory.modules if m.name.endswith(_STACKS)]
    assert not any(level.is_dense for name in stacks for level in prepared.space.levels[name])
    with pytest.raises(SpecError, match="is stored in MXFP4 and read as the values"):
        prepare(make_spec(model=str(model), budget="50%", pins=(("experts.down_proj", "dense"),)))
    with pytest.raises(SpecError, match="no level of this menu fits its 64 columns"):
        prepare(make_spec(model=str(model), budget="50%", group_sizes=(256,), kinds=("integer",)))


def test_other_formats_are_refused(model: Path, tmp_path: Path) -> None:
    """They have lost what MXFP4 never had."""
    (tmp_path / "model.safetensors").symlink_to(model / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "gptq"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="already quantized"):
        inspect_model(tmp_path)
