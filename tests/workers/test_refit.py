"""Refit: same bytes, nearer to the dense model, and never kept where it is not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from space.cost import module_bytes
from space.plan import Plan
from tests.workers.tiny_models import Bench, TinyKind
from tests.workers.weights import correlated_hessian, random_weight
from workers import refit as refitting
from workers.levels import LevelStore
from workers.models.tokens import TokenSet
from workers.refit import refit, refit_if_better
from workers.tasks import Evaluate
from workers.worker import Worker

TEXTS = ("b2-gch-t-h", "b3-g32", "b2-gch-t-h-r2", "b3-gch-s0.5", "b2-g16", "dense", "b3-gch-t", "b2-gch-h", "b4-g32")


def _store(at: Bench, tokens: TokenSet) -> LevelStore:
    return replace(at.store, calibration_digest=tokens.of("calibration"))


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
    """Whatever the refit is worth on held-out text, the KL of what is kept is the lower one, as measured."""
    at = bench("untied")
    plan = at.plan(("b2-gch-t-h",))
    found = refit_if_better(at.workspace, plan, at.tokens)
    assert found.kl_after != found.kl_before
    assert (found.tokens != at.tokens) == found.kept == (found.kl_after < found.kl_before)
    assert _kl(at, plan, at.tokens) == pytest.approx(found.kl_before, rel=1e-4)
    assert _kl(at, plan, found.tokens) == pytest.approx(min(found.kl_before, found.kl_after), rel=1e-4)
    monkeypatch.setattr(refitting, "refit", lambda *_: at.tokens)  # one that changes nothing does not help
    assert not refit_if_better(at.workspace, plan, at.tokens).kept


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
    assert not refit_if_better(at.workspace, at.dense_plan(), at.tokens).kept
