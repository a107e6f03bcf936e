"""Whole jobs on simulated workers: how many there are, and what happens to them, never changes the front."""

from collections import Counter
from typing import Any

import pytest

from search.controller import Controller
from storage.records import TrialState
from tests.search.house import House, comparable
from tests.search.scripted import ScriptedExecutor
from workers.pool.executor import Executor
from workers.pool.simulator import SimulatedExecutor, Weather
from workers.tasks import Evaluate, Task

STORMY = Weather(spread=0.5, slow_share=0.1, straggler_share=0.1, slow_factor=5.0)


def _simulated(house: House, num_workers: int, weather: Weather) -> tuple[ScriptedExecutor, SimulatedExecutor]:
    """Run a job on simulated workers; one plan in a hundred kills whoever measures it."""
    scripted = ScriptedExecutor(fails=lambda task: int(task.plan.digest[:8], 16) % 100 == 0)
    simulated = SimulatedExecutor(scripted._answer, num_workers, _seconds, weather)

    def start(*_: Any) -> Executor:
        return simulated

    house.submit(max_trials=300, sparsities=(0.0,), ranks=(0,))
    Controller(house.store, start, house.cache_folder, house.notes).run("one")
    return scripted, simulated


def _seconds(task: Task) -> float:
    return float(task.num_sequences or 32) if isinstance(task, Evaluate) else 1.0


@pytest.mark.parametrize("num_workers", [7, 256])
def test_the_front_does_not_depend_on_workers(house: House, num_workers: int) -> None:
    """Every trial is counted once, whoever straggles."""
    alone = House()
    _simulated(alone, 1, Weather())
    scripted, simulated = _simulated(house, num_workers, STORMY)
    assert comparable(house.document()) == comparable(alone.document())
    trials = house.store.list_trials("one")
    assert [t.number for t in trials] == list(range(len(trials)))
    known = [t for t in trials if t.measurement is not None and t.measurement.token_forwards == 0]
    assert len(scripted.searched) + len(known) == len(trials)
    assert len(known) <= 1  # an operating point that was another one's neighbour
    states = Counter(t.state for t in trials)
    assert set(states) <= {TrialState.COMPLETE, TrialState.FAILED}
    assert simulated.closed
