"""The gradient pass: prices before anything is measured."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, log
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.workers.tiny_models import Bench, TinyKind
from workers.tasks import PRICE_FORWARDS, Evaluate, ModulePrices, PriceModules
from workers.worker import Worker

Benches = Callable[[TinyKind], Bench]
KINDS: tuple[TinyKind, ...] = ("tied", "untied", "phi", "opt", "olmo")


def _priced(at: Bench, worker: Worker | None = None, count: int = 6) -> ModulePrices:
    found: ModulePrices = (worker or at.worker).run(PriceModules(at.tokens, count))
    return found


def _noisy_kl(model: Any, name: str, tokens: torch.Tensor) -> tuple[float, float]:
    """Return (relative output error, KL per scored token) of a model with a little noise on one module's weight."""
    outputs: list[torch.Tensor] = []
    module = model.get_submodule(name)
    hook = module.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    dense = model(tokens).logits[:, :-1].log_softmax(-1)
    weight = module.weight.clone()
    errors, losses = [], []
    for seed in range(4):
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        module.weight.copy_(weight + 0.02 * weight.square().mean(1, keepdim=True).sqrt() * noise)
        changed = model(tokens).logits[:, :-1].log_softmax(-1)
        errors.append(float((outputs[-1] - outputs[0]).square().sum() / outputs[0].square().sum()))
        losses.append(float((dense.exp() * (dense - changed)).sum(-1).mean()))
    module.weight.copy_(weight)
    hook.remove()
    return fmean(errors), fmean(losses)


@pytest.mark.parametrize("kind", KINDS)
def test_a_price_times_an_error_is_near_the_kl(bench: Benches, kind: TinyKind) -> None:
    """For independent noise on every linear module alone, by transformers: right in the mean, and near for each."""
    at = bench(kind)
    prices = dict(_priced(at).prices)
    assert prices.keys() == set(at.names)
    model: Any = AutoModelForCausalLM.from_pretrained(at.folder, dtype=torch.float32)
    ratios = []
    with torch.no_grad():
        for module in at.workspace.inventory.modules:
            if module.kind == "linear":
                error, kl = _noisy_kl(model, module.name, at.tokens.load("search"))
                ratios.append(log(kl / (prices[module.name] * error)))
    assert exp(fmean(ratios)) == pytest.approx(1, rel=0.2)
    assert exp(median(ratios)) == pytest.approx(1, rel=0.1)
    assert stdev(ratios) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_models_have_the_same_prices(bench: Benches, kind: TinyKind) -> None:
    """One block in memory at a time, forwards and back; nothing is left in memory, or in the model's way."""
    at = bench(kind)
    streamed = Worker(replace(at.workspace, memory_bytes=1))
    assert replace(_priced(at, streamed), seconds=0.0) == replace(_priced(at), seconds=0.0)
    plan = at.plan(["b4-g32"])
    task = Evaluate(at.tokens, plan, "search")
    assert streamed.run(task).sequence_kl == at.worker.run(task).sequence_kl


def test_sequences_go_through_in_parts(bench: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there is room for at a time; prices are those of all of them."""
    at = bench("tied")
    whole = _priced(at)
    monkeypatch.setattr("workers.evaluate.gradients._KEPT_BYTES", 1)
    parts = _priced(at)
    assert dict(parts.prices) == pytest.approx(dict(whole.prices), rel=1e-6)
    assert parts.token_forwards == whole.token_forwards == PRICE_FORWARDS * 6 * 32


def test_what_torch_cannot_differentiate_is_told(bench: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason in place of prices; the model measures as before."""
    at = bench("tied")
    worker = Worker(at.workspace)
    block = worker.engine.runner.block(0)
    hook = block.register_forward_hook(lambda _m, _i, output: output.detach() if torch.is_tensor(output) else output)
    found = _priced(at, worker)
    hook.remove()
    assert found.prices == ()
    assert found.reason is not None and "\n" not in found.reason  # noqa: PT018
    task = Evaluate(at.tokens, at.plan(["b4-g32"]), "search")
    assert worker.run(task).sequence_kl == at.worker.run(task).sequence_kl
    assert _priced(at, worker).prices == _priced(at).prices


def test_a_model_that_overflows_has_no_prices(bench: Benches, tmp_path: Path) -> None:
    """Its gradients are not finite."""
    at = bench("tied")
    worker = Worker(at.workspace)
    worker.engine.runner.block(1).register_forward_hook(lambda _m, _i, output: output * float("inf"))
    assert _priced(at, worker).prices == ()
