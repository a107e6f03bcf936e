"""Calibration counts the tokens of each expert, and gives more to those that routers forget."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from space.results.expert_tokens import ExpertTokens
from tests.families.zoo import make_family
from workers.families.read_inventory import inspect_model
from workers.levels.expert_inputs import COUNTS
from workers.levels.statistics import calibrate, expert_tokens, load_hessian
from workers.run.engine import Engine

_CHOSEN, _HIDDEN = 2, 64


def _calibrated(family: str, folder: Path, num_tokens: int) -> ExpertTokens:
    model = make_family(family, folder / "model")
    inventory = inspect_model(model)
    tokens = torch.randint(5, 250, (num_tokens // 32, 32), generator=torch.Generator().manual_seed(3))
    calibrate(Engine(model, inventory, device="cpu", streams=False), inventory, tokens, folder)
    found = expert_tokens(folder, inventory)
    assert found is not None
    return found


def _counts(folder: Path, block: int) -> dict[str, list[list[int]]]:
    with safe_open(folder / f"block-{block:04d}.safetensors", framework="pt") as file:
        counts: dict[str, list[list[int]]] = json.loads(file.metadata()[COUNTS])
        return counts


def test_every_choice_of_a_router_is_counted_once(tmp_path: Path) -> None:
    """Of each token as many as it has experts, for both projections alike; nobody is given more than was missing."""
    found = _calibrated("qwen3_moe", tmp_path, 96)
    for counts in _counts(tmp_path, 0).values():
        assert sum(sent for sent, _ in counts) == 96 * _CHOSEN
        assert all(sent + more >= _HIDDEN for sent, more in counts)
        assert all(more == 0 for sent, more in counts if sent >= _HIDDEN)
    assert found.given_more > 0
    assert found.too_few == 0
    assert "were given other tokens" in str(found)


def test_one_starved_expert_is_given_more_and_no_other(tmp_path: Path) -> None:
    """Also by code that wants several experts for a token: what the others do with these tokens counts for none."""
    import workers.levels.expert_inputs as module

    few = module.ExpertInputs.starved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.ExpertInputs, "starved", lambda self: {o: e[:1] for o, e in few(self).items()})
        _calibrated("longcat_flash", tmp_path, 96)
    counted = [counts for block in range(3) for counts in _counts(tmp_path, block).values()]
    assert len(counted) == 2 * 3
    for counts in counted:
        assert any(more > 0 for _, more in counts)
        assert all(more == 0 for sent, more in counts if sent >= _HIDDEN)


def test_what_is_given_beside_changes_no_other_statistics(tmp_path: Path) -> None:
    """The block's output stays what routers make of it: inputs of all layers outside the experts are the same."""
    import workers.levels.expert_inputs as module

    _calibrated("qwen3_moe", tmp_path / "more", 96)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.ExpertInputs, "starved", lambda _: {})
        _calibrated("qwen3_moe", tmp_path / "none", 96)
    inventory = inspect_model(tmp_path / "more" / "model")
    for site in inventory.modules:
        more, none = (load_hessian(tmp_path / name, inventory, site.name) for name in ("more", "none"))
        is_expert = site.site is not None and site.site.num_experts is not None
        assert torch.equal(more, none) != is_expert


def test_experts_that_saw_enough_are_given_nothing(tmp_path: Path) -> None:
    """Text that is long enough makes no further calls."""
    found = _calibrated("qwen3_moe", tmp_path, 1024)
    assert (found.given_more, found.too_few) == (0, 0)
    assert found.least >= _HIDDEN


def test_experts_that_cannot_be_called_apart_are_named(tmp_path: Path) -> None:
    """Llama 4 multiplies with all experts at once: rows that are not theirs are zero, and count for none."""
    found = _calibrated("llama4_text", tmp_path, 96)
    (counts, *_) = _counts(tmp_path, 0).values()
    assert sum(sent for sent, _ in counts) == 96 * _CHOSEN
    assert found.too_few > 0
    assert f"{found.too_few} have fewer tokens than inputs" in str(found)
