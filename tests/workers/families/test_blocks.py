"""Running from any block on is the same run, and calibration sees what modules see."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from space.errors import ModelError
from tests.workers.tiny_models import Bench, TinyKind
from workers.families.blocks import BlockRunner
from workers.families.kinds.causal_decoder import CAUSAL_DECODER
from workers.families.load_modules import load_model
from workers.levels.output_factors import load_lookups
from workers.levels.statistics import load_hessian

KINDS = get_args(TinyKind)
Benches = Callable[[TinyKind], Bench]


def _runner(folder: Path) -> tuple[Any, BlockRunner, Tensor]:
    model = load_model(folder)
    tokens = torch.randint(2, 300, (3, 20), generator=torch.Generator().manual_seed(3))
    return model, BlockRunner(model, CAUSAL_DECODER), tokens


@pytest.mark.parametrize("kind", KINDS)
def test_any_start_gives_the_same_bits(tiny: Callable[[TinyKind], Path], kind: TinyKind) -> None:
    """Logits from every block on, and from behind the last one, equal those of the model itself."""
    model, runner, tokens = _runner(tiny(kind))
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
    outputs: list[Any] = []
    assert runner.logits(tokens, outputs).equal(expected)
    assert len(outputs) == runner.num_blocks
    for start in range(1, runner.num_blocks + 1):
        assert runner.logits(tokens, outputs, start).equal(expected)
    assert runner.logits(tokens).equal(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_as_transformers_loads(tiny: Callable[[TinyKind], Path], kind: TinyKind) -> None:
    """Parameters, buffers and logits are those of transformers' own loader, to the last bit."""
    from transformers import AutoModelForCausalLM

    model, _, tokens = _runner(tiny(kind))
    other = AutoModelForCausalLM.from_pretrained(tiny(kind), dtype=torch.float32)
    for mine, theirs in (
        (model.named_parameters(), other.named_parameters()),
        (model.named_buffers(), other.named_buffers()),
    ):
        expected = dict(theirs)
        found = dict(mine)
        assert list(found) == list(expected)
        assert all(found[name].equal(expected[name]) and found[name].dtype == expected[name].dtype for name in found)
    with torch.no_grad():
        assert model(input_ids=tokens).logits.equal(other(input_ids=tokens).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_one_block_alone(tiny: Callable[[TinyKind], Path], kind: TinyKind) -> None:
    """A block run by itself gives what it gives in the whole run."""
    _, runner, tokens = _runner(tiny(kind))
    outputs: list[Any] = []
    runner.logits(tokens, outputs)
    for index in range(runner.num_blocks):
        found = runner.run_block(index, tokens, outputs[index - 1] if index else None)
        first, second = (o[0] if isinstance(o, tuple) else o for o in (found, outputs[index]))
        assert first.equal(second)


@pytest.mark.parametrize("kind", ["tied", "phi"])
def test_stubs_go_even_on_error(
    tiny: Callable[[TinyKind], Path], kind: TinyKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed run the model has its own blocks and no hooks."""
    _, runner, tokens = _runner(tiny(kind))
    before = [runner.block(i) for i in range(runner.num_blocks)]
    outputs: list[Any] = []
    expected = runner.logits(tokens, outputs)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(before[-1], "forward", broken)
        for run in (
            lambda: runner.logits(tokens, list(outputs), runner.num_blocks - 1),
            lambda: runner.logits(tokens, []),
            lambda: runner.run_block(runner.num_blocks - 1, tokens, outputs[-2]),
        ):
            with pytest.raises(RuntimeError, match="broken"):
                run()
    assert all(runner.block(i) is block for i, block in enumerate(before))
    assert all(not block._forward_hooks for block in before)
    assert runner.logits(tokens).equal(expected)


def test_model_without_blocks_is_refused() -> None:
    """What has no list of blocks cannot be searched, and says so."""
    with pytest.raises(ModelError, match="Linear has no list"):
        BlockRunner(nn.Linear(2, 2), CAUSAL_DECODER)


@pytest.mark.parametrize("kind", KINDS)
def test_hessians_are_those_of_the_inputs(bench: Benches, kind: TinyKind) -> None:
    """Each module's Hessian is xᵀx of its inputs in a plain run of the model; a lookup has what gradients tell."""
    at = bench(kind)
    model = load_model(at.folder)
    modules = dict(model.named_modules())
    inventory, inputs = at.workspace.inventory, dict[str, Tensor]()

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: inputs.__setitem__(name, args[0].flatten(0, -2).double())

    for module in inventory.modules:
        if module.kind == "linear":
            modules[module.name].register_forward_pre_hook(remember(module.name))
        elif module.tied:
            modules[module.tied[0]].register_forward_pre_hook(remember(module.name))
    with torch.no_grad():
        model(input_ids=at.tokens.load("calibration"))
    folder = at.worker._calibration_folder(at.tokens)
    for module in inventory.modules:
        found = load_hessian(folder, inventory, module.name).double()
        lookups = load_lookups(folder, module)
        assert (lookups is not None) == (module.kind == "embedding")
        expected = torch.zeros_like(found) if lookups is None else lookups[0].double()
        if module.name in inputs:
            expected += inputs[module.name].T @ inputs[module.name] * (1 if lookups is None else lookups[1])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_equal_inputs_are_stored_once(bench: Benches) -> None:
    """q, k and v share one Hessian, gate and up another."""
    at = bench("tied")
    with safe_open(at.worker._calibration_folder(at.tokens) / "block-0001.safetensors", framework="pt") as file:
        owner = json.loads(file.metadata()["owner"])
        assert len(list(file.keys())) == 4
    by_type = {name.rpartition(".")[2]: value for name, value in owner.items()}
    assert by_type["q_proj"] == by_type["k_proj"] == by_type["v_proj"]
    assert by_type["gate_proj"] == by_type["up_proj"]
    assert len(set(owner.values())) == 4
