"""Refit: same bytes, nearer to the dense model, and never kept where it is not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from space.cost import module_bytes
from space.level import Level
from space.plan import Plan
from tests.workers.tiny_models import Bench, TinyKind
from tests.workers.weights import correlated_hessian, random_weight
from workers.levels.level_store import LevelStore
from workers.recover import recovery
from workers.recover import refit as refitting
from workers.recover.recovery import Fitted, Lesson, Values, recover_if_better
from workers.recover.refit import REFIT, can_help, estimated_seconds, needed_bytes, refit
from workers.run.memory_limits import building_bytes
from workers.tasks import Evaluate
from workers.text.tokens import TokenSet
from workers.worker import Worker

TEXTS = ("b2-gch-t-h", "b3-g32", "b2-gch-t-h-r2", "b3-gch-s0.5", "b2-g16", "dense", "b3-gch-t", "b2-gch-h", "b4-g32")


def _store(at: Bench, tokens: TokenSet) -> LevelStore:
    return replace(at.store, calibration_digest=tokens.of("calibration"))


def _lesson(at: Bench, plan: Plan) -> Lesson:
    return Lesson(at.workspace, plan, Values(at.tokens, at.workspace.model_folder))


def _kl(at: Bench, plan: Plan, tokens: TokenSet) -> float:
    found = Worker(at.workspace).run(Evaluate(tokens, plan, "held_out"))  # levels of one name, from two stores
    return float(found.kl_divergence)


@pytest.mark.parametrize("kind", ["untied", "opt"])
def test_same_bytes_and_no_level_is_missing(bench: Callable[[TinyKind], Bench], kind: TinyKind) -> None:
    """Refitted levels have the tensors of the levels they replace, which stay as they were."""
    at = bench(kind)
    plan = at.plan(TEXTS)
    before = {n: at.store.path(n, v).read_bytes() for n, v in plan.levels if not v.is_dense}
    seen: list[tuple[int, int]] = []
    named = refit(at.workspace, plan, at.tokens, lambda done, total: seen.append((done, total)))
    assert named.digests[1:] == at.tokens.digests[1:]
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))
    changed = 0
    for module in at.workspace.inventory.modules:
        level = plan[module.name]
        if level.is_dense:
            continue
        old, new = at.store.tensors(module.name, level), _store(at, named).tensors(module.name, level)
        assert {n: (t.shape, t.dtype) for n, t in old.items()} == {n: (t.shape, t.dtype) for n, t in new.items()}
        assert sum(t.nbytes for t in new.values()) == module_bytes(module, level)
        assert all(t.isfinite().all() for t in new.values())
        changed += not all(new[n].equal(t) for n, t in old.items())
    assert changed > 5
    assert {n: at.store.path(n, v).read_bytes() for n, v in plan.levels if not v.is_dense} == before


def test_it_is_done_once(bench: Callable[[TinyKind], Bench]) -> None:
    """The same plan is answered from the store; another plan has other levels."""
    at = bench("untied")
    plan = at.plan(TEXTS)
    named = refit(at.workspace, plan, at.tokens)
    seen: list[int] = []
    assert refit(at.workspace, plan, at.tokens, lambda done, _: seen.append(done)) == named
    assert seen == []
    other = at.plan(("b2-gch-t-h",))
    assert refit(at.workspace, other, at.tokens).digests != named.digests


def test_the_better_one_is_kept(bench: Callable[[TinyKind], Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refit is kept where the interval of what it changes lies below zero; both KL are as measured."""
    at = bench("untied")
    plan = at.plan(("b2-gch-t-h",))
    compared: list[tuple[float, float]] = []
    interval = (-1.0, -0.1)

    def paired(after: Sequence[float], before: Sequence[float]) -> tuple[float, float]:
        compared.append((sum(after) / len(after), sum(before) / len(before)))
        return interval

    monkeypatch.setattr(recovery, "paired_interval", paired)
    found = recover_if_better(REFIT, _lesson(at, plan))
    assert found.kl_after < found.kl_before
    assert compared[0] == pytest.approx((found.kl_after, found.kl_before))
    assert found.kept
    assert found.values.tokens != at.tokens
    assert _kl(at, plan, at.tokens) == pytest.approx(found.kl_before, rel=1e-4)
    assert _kl(at, plan, found.values.tokens) == pytest.approx(found.kl_after, rel=1e-4)
    interval = (-1.0, 0.1)  # lower, but not measurably
    assert recover_if_better(REFIT, _lesson(at, plan)).values.tokens == at.tokens
    monkeypatch.undo()
    nothing = replace(REFIT, fit=lambda lesson: Fitted(lesson.start))  # one that changes nothing does not help
    same = recover_if_better(nothing, _lesson(at, plan))
    assert (same.kept, same.values.tokens, same.kl_after) == (False, at.tokens, same.kl_before)


def test_what_it_takes(bench: Callable[[TinyKind], Bench]) -> None:
    """Memory holds both models at least, time grows with the text, and a plan that is dense in blocks gains nothing."""
    at = bench("untied")
    inventory = at.workspace.inventory
    assert needed_bytes(inventory, 32) > 8 * inventory.num_parameters
    assert needed_bytes(inventory, 64) > needed_bytes(inventory, 32)
    largest = max(building_bytes(m) for m in inventory.modules if m.block is not None)
    assert needed_bytes(inventory, 32, "cuda") > largest > needed_bytes(inventory, 32)
    assert estimated_seconds(inventory, 64) > estimated_seconds(inventory, 32) > 0
    assert can_help(inventory, at.plan(("b2-gch-t-h",)))
    outside = {m.name: Level(8) for m in inventory.modules if m.block is None}
    assert not can_help(inventory, at.dense_plan().replace(outside))


def test_a_module_that_other_tokens_reach_stays(
    bench: Callable[[TinyKind], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an expert may: its inputs in both models belong to different tokens, so that nothing can be learned."""
    at = bench("untied")
    plan = at.plan(("b3-gch-t-h",))
    reached = refitting._Refitter._reached

    def other_tokens(self: Any, index: int, batch: Any, module: Any) -> Any:
        found = reached(self, index, batch, module)
        if found is None or getattr(module, "in_features", 0) != 100:
            return found
        return (found[0][0][:, 1:],), found[1]

    monkeypatch.setattr(refitting._Refitter, "_reached", other_tokens)
    named = refit(at.workspace, plan, at.tokens)
    for module in at.workspace.inventory.modules:
        level = plan[module.name]
        old, new = at.store.tensors(module.name, level), _store(at, named).tensors(module.name, level)
        is_same = all(new[n].equal(t) for n, t in old.items())
        assert is_same == (module.block is None or module.in_features == 100), module.name


def test_weights_turn_towards_the_dense_outputs() -> None:
    """With other inputs than the dense model's, the moved weight is nearer to the dense outputs than the weight."""
    weight = random_weight(8, 24)
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(200, 24, generator=generator) @ correlated_hessian(24)
    fitted = dense + 0.3 * dense.std() * torch.randn(200, 24, generator=generator)
    moved = refitting._towards_dense(weight, fitted.T @ fitted, dense.T @ fitted)
    wanted = dense @ weight.T
    assert float((fitted @ moved.T - wanted).square().sum()) < 0.9 * float((fitted @ weight.T - wanted).square().sum())


def test_nothing_to_do_is_done(bench: Callable[[TinyKind], Bench]) -> None:
    """A plan that leaves all blocks dense has nothing to refit."""
    at = bench("untied")
    assert not recover_if_better(REFIT, _lesson(at, at.dense_plan())).kept
