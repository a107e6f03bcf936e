"""A plan applied without a search: `tightfit convert`, from a file of a plan to files that were loaded again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from space.errors import OutputError, SpecError
from tests.end_to_end.test_variants import Tiny
from tightfit.converting.convert import convert
from tightfit.converting.convert_wish import ConvertWish, accepted

_LAYER = "model.layers.0"
_PLAN = {f"{_LAYER}.self_attn.{kind}_proj": "b4-g32" for kind in "qkv"} | {f"{_LAYER}.mlp.down_proj": "b8-gch"}


@pytest.fixture
def wish(tiny: Tiny, text_file: Path, tmp_path: Path) -> ConvertWish:
    """Give a plan of some modules, for a target that holds it."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(_PLAN))
    out = tmp_path / "out"
    return ConvertWish(str(tiny("tied")), str(plan), "compressed-tensors", out, str(text_file), 32, 16)


@pytest.mark.usefixtures("reload_here")
def test_a_plan_becomes_verified_files(wish: ConvertWish, tmp_path: Path) -> None:
    """What is written is the plan, all else dense; its record is a plan that converts again, with known levels."""
    heard: list[str] = []
    found = convert(wish, tmp_path / "cache", heard.append)
    assert found.size_bytes == found.predicted_bytes
    assert found.kl_divergence == pytest.approx(found.recorded_kl_divergence, rel=1e-4)
    assert 0 < found.kl_divergence < 1
    record = json.loads((wish.out / "compression.json").read_text())
    assert {name: level for name, level in record["plan"].items() if level != "dense"} == _PLAN
    assert "from_pretrained" in (wish.out / "README.md").read_text()
    assert "building levels and measuring the plan" in heard
    again = convert(replace(wish, plan=str(wish.out / "compression.json"), out=tmp_path / "again"), tmp_path / "cache")
    assert (again.size_bytes, again.kl_divergence) == (found.size_bytes, found.kl_divergence)


@pytest.mark.parametrize(
    ("plan", "target", "told"),
    [
        ({"model.layers.7.mlp.up_proj": "b4-g32"}, "packed", "the model has no module model.layers.7.mlp.up_proj"),
        ({f"{_LAYER}.mlp.up_proj": "b4-gch-t-h"}, "compressed-tensors", "cannot be stored as b4-gch-t-h for target"),
        ({f"{_LAYER}.self_attn.q_proj": "b4-g32"}, "vllm", "one level together"),
        ({f"{_LAYER}.mlp.up_proj": "b9-g32"}, "packed", "cannot be stored; use 2 to 8"),
        ({f"{_LAYER}.mlp.up_proj": "q4_K"}, "packed", "cannot be stored as q4_K for target packed"),
        ({}, "packed", "names no module of the model"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    wish: ConvertWish, plan: dict[str, str], target: str, told: str
) -> None:
    """Without a weight read or a folder made."""
    Path(wish.plan).write_text(json.dumps({"plan": plan}))
    with pytest.raises(SpecError, match=told):
        accepted(replace(wish, target=target))
    assert not wish.out.exists()


def test_a_folder_that_is_taken_is_refused(wish: ConvertWish) -> None:
    """As an export's."""
    wish.out.mkdir()
    (wish.out / "mine").touch()
    with pytest.raises(OutputError, match="already there and not empty"):
        accepted(wish)
