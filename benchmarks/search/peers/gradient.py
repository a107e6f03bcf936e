"""The gradient score of NVIDIA Model Optimizer's auto_quantize: sum of (dL/dy)^2 (y_q - y)^2 over a module's outputs.

One backward of the next-token loss serves all levels, because y_q is recomputed locally. A tied embedding is scored as
table and as head. Paid: three forwards per token for forward and backward, one more for each level's recompute.
Shape legend: B sequences, T tokens, O outputs, I inputs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.search.arena import NUM_SEARCH, SEQUENCE_LENGTH, Arena
from benchmarks.search.peers.common import Budgets, Plans, solve_knapsack
from benchmarks.search.peers.weights import level_change, level_store, load_dense
from space.level import Level

_BATCH = 4
Captured = dict[str, tuple[Tensor, Tensor]]
"""module name as in the model -> (input, output that keeps its gradient)"""


@contextmanager
def capture(modules: Mapping[str, nn.Module]) -> Iterator[Captured]:
    """Yield what goes in and out of modules in the forward passes inside the context."""
    captured: Captured = {}

    def hook(name: str) -> Any:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.requires_grad_()
            output.retain_grad()
            captured[name] = (inputs[0].detach(), output)
            return output

        return keep

    hooks = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield captured
    finally:
        for handle in hooks:
            handle.remove()


def gradient_of(output: Tensor) -> Tensor:
    """Return the gradient that an output kept, zero where the loss does not depend on it."""
    return torch.zeros_like(output) if output.grad is None else output.grad


def output_change(entry: Tensor, change_oi: Tensor) -> Tensor:
    """Return y_q - y for inputs (B, T, I) of a linear, or token ids (B, T) of an embedding."""
    return entry @ change_oi.T if entry.is_floating_point() else change_oi[entry]


def run(arena: Arena, budgets: Budgets, seed: int) -> Plans:  # noqa: ARG001 (the arena's pool has the seed)
    """Return the plans of the least gradient score."""
    model, dense = load_dense(arena)
    store, space = level_store(arena), arena.space
    changes = {n: {v: level_change(store, n, v, dense[n]) for v in levels} for n, levels in space.levels.items()}
    scores: dict[str, dict[Level, float]] = {n: dict.fromkeys(levels, 0.0) for n, levels in space.levels.items()}
    users = {user: m.name for m in arena.inventory.modules for user in (m.name, *m.tied)}
    modules = dict(model.named_modules())
    tokens = arena.tokens.load("search")[:NUM_SEARCH]
    for batch in tokens.split(_BATCH):
        with torch.enable_grad(), capture({user: modules[user] for user in users}) as captured:
            logits = model(input_ids=batch, use_cache=False).logits
            next_tokens = batch[:, 1:].flatten()
            nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), next_tokens, reduction="sum").backward()
        for user, name in users.items():
            entry, output = captured[user]
            weight = gradient_of(output).square()
            for level, change in changes[name].items():
                scores[name][level] += float((weight * output_change(entry, change).square()).sum())
    arena.pay(NUM_SEARCH * SEQUENCE_LENGTH * (3 + len(space.uniform_levels)))
    return solve_knapsack(space, scores, budgets)
