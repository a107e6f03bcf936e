"""How fast the points of a job's front run: written for a moment, measured, and gone again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from space.errors import InfeasibleBudgetError, UsageError
from tests.end_to_end.jobs import PlainService, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from tightfit.export.speed import SpeedWish, check_runs_here
from tightfit.jobs import front_speeds

WISH = SpeedWish("", num_prompt=8, num_tokens=4, threads=1, runs=1)


def test_points_of_a_front(
    service: PlainService, tiny: Callable[[TinyKind], Path], text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best within the budget comes first, until one is fast enough; without such a wish all, smallest first."""
    job_id, front = run_job(service, small_spec(tiny("untied"), text_file, max_trials=12))
    job, plans = service.store.get_job(job_id), service.plans(front)
    assert front.recommended is not None
    (found,) = front_speeds.fast_enough(job, front, plans, WISH, 1e-9)
    assert found.point == front.recommended.point
    assert found.size_bytes == front.recommended.size_bytes
    assert found.speed["runtime"].startswith("transformers")
    assert found.tokens_per_second > 0

    asked: list[Path] = []

    def smaller_is_faster(wish: SpeedWish) -> dict[str, Any]:
        asked.append(Path(wish.folder))
        rate = 1e6 / (asked[-1] / "model.safetensors").stat().st_size
        return {"decode": {"tokens_per_second": rate, "slowest": rate, "fastest": rate}}

    monkeypatch.setattr(front_speeds, "speed", smaller_is_faster)
    every = list(front_speeds.front_speeds(job, front, plans, WISH))
    assert [p.size_bytes for p in every] == sorted(p.size_bytes for p in front.front)
    fitting = [p for p in every if p.size_bytes <= front.budget_bytes]
    *_, chosen = front_speeds.fast_enough(job, front, plans, WISH, fitting[0].tokens_per_second)
    assert chosen.point == fitting[0].point
    with pytest.raises(InfeasibleBudgetError, match=rf"the fastest, {fitting[0].point}, makes"):
        list(front_speeds.fast_enough(job, front, plans, WISH, 1e9))
    assert not any(folder.exists() for folder in asked)


def test_what_runs_elsewhere_is_told_first() -> None:
    """Before anything is written."""
    with pytest.raises(UsageError, match="j1: vLLM needs a GPU"):
        check_runs_here("vllm", "j1")
