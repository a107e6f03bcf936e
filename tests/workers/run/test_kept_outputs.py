"""What is kept between plans changes no bit, whatever the order of plans, and stays within its limit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from space.level import DENSE, Level
from space.measurement import Measurement
from space.plan import Plan
from tests.workers.tiny_models import Bench, TinyKind
from workers.run.kept_outputs import Key, Trail, Trails
from workers.run.replay import Replay
from workers.tasks import Evaluate
from workers.worker import Worker

Benches = Callable[[TinyKind], Bench]
LEVELS = (Level(2, 32), Level(4, 32), DENSE)


def _walk(at: Bench, count: int, seed: int) -> list[Plan]:
    """Return plans that differ by few modules from one before them, now and then by many."""
    rng, names = np.random.default_rng(seed), at.names
    plans = [Plan.of(dict.fromkeys(names, LEVELS[1]))]
    while len(plans) < count:
        start = plans[-1] if rng.random() < 0.8 else plans[rng.integers(len(plans))]
        changed = rng.choice(names, 1 if rng.random() < 0.7 else rng.integers(1, 6), replace=False)
        plans.append(start.replace({str(n): LEVELS[rng.integers(3)] for n in changed}))
    return plans


@pytest.mark.parametrize("kind", get_args(TinyKind))
def test_a_walk_gives_the_bits_of_fresh_runs(bench: Benches, kind: TinyKind) -> None:
    """Neighbours, returns, jumps, and another number of sequences between them."""
    at = bench(kind)
    walker, fresh = Worker(at.workspace), Worker(at.workspace)
    paid = 0.0
    for turn, plan in enumerate(_walk(at, 40, seed=1)):
        at.build(plan)
        task = Evaluate(at.tokens, plan, "search", 4 if turn % 7 == 3 else None)
        found: Measurement = walker.run(task)
        fresh.engine._trails.of([])  # forgets
        expected: Measurement = fresh.run(task)
        assert replace(found, seconds=0.0, token_forwards=0.0) == replace(expected, seconds=0.0, token_forwards=0.0)
        paid += found.token_forwards / expected.token_forwards
    assert paid < 36


class _Block(nn.Module):
    """A block of two branches and a sum; one module is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.left, self.right = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.act, self.out = nn.Tanh(), nn.Linear(4, 4)

    def forward(self, hidden: Tensor) -> Tensor:
        inside = self.norm(hidden)
        found: Tensor = hidden + self.out(self.act(self.left(inside)) * self.act(self.right(inside)))
        return found


@pytest.mark.parametrize("changed", ["norm", "left", "right", "out"])
def test_only_what_may_differ_is_computed(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls before the change, and beside it on the same input, are answered; what is called twice is not."""
    torch.manual_seed(0)
    block, hidden, replay = _Block(), torch.randn(2, 4), Replay()
    computed: list[str] = []
    for name in ("norm", "left", "right", "act", "out"):
        module = getattr(block, name)

        def watched(x: Tensor, module: Any = module, name: str = name) -> Any:
            computed.append(name)
            return type(module).forward(module, x)

        monkeypatch.setattr(module, "forward", watched, raising=False)
    with torch.no_grad():
        with replay.through(block, None):
            block(hidden)
        computed.clear()
        getattr(block, changed).weight.mul_(2)
        with replay.through(block, [changed]):
            found = block(hidden)
        expected = {
            "norm": ["norm", "left", "act", "right", "act", "out"],
            "left": ["left", "act", "act", "out"],
            "right": ["act", "right", "act", "out"],
            "out": ["act", "act", "out"],
        }
        assert computed == expected[changed]
        assert found.equal(block(hidden))


def test_what_was_written_to_is_not_used() -> None:
    """An output that somebody changed in place is computed anew."""
    block, hidden, replay = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.randn(2, 4), Replay()
    with torch.no_grad():
        with replay.through(block, None):
            expected = block(hidden).clone()
        replay._calls["0"].output.add_(1)
        with replay.through(block, ["1"]):
            assert block(hidden).equal(expected)


@pytest.mark.parametrize(("limit", "kept"), [(10**6, 6), (2 * 3 * 64, 3), (2 * 2 * 64, 2), (1, 1)])
def test_limit(limit: int, kept: int) -> None:
    """As many outputs as fit are kept, evenly spread, the last one always; a plan starts behind the last shared one."""
    keys: list[Key] = [("text", 0, 2)]
    trails = Trails(limit)
    (trail,) = trails.of(keys)
    stages = tuple((Level(b),) for b in (2, 3, 4, 5, 6, 7, 8))
    trail.outputs = [torch.zeros(2, 2, 4) for _ in range(6)]
    trail.keep(stages, trails.share_bytes)
    there = [i for i, output in enumerate(trail.outputs) if output is not None]
    assert len(there) == kept
    assert there[-1] == 5
    assert trails.of(keys)[0].start(stages) == 6
    for block in range(6):
        other = (*stages[:block], (Level(4, 16),), *stages[block + 1 :])
        assert trail.start(other) == max([i + 1 for i in there if i < block], default=0)
    assert trails.of([("text", 1, 2)])[0].start(stages) == 0
    assert trails.of(keys)[0] is not trail


def test_a_broken_run_is_not_used() -> None:
    """While outputs are being replaced they belong to no plan."""
    trail = Trail((), [torch.zeros(1)])
    assert trail.start(((Level(2),),)) == 0
