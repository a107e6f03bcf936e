"""Workers on a simulated clock: when tasks end, and what keeps hundreds of workers busy."""

import pytest

from search.measure.dispatch import run_tasks
from space.errors import TrialError
from space.plan import Plan
from workers.pool.executor import Outcome
from workers.pool.simulator import SimulatedExecutor, Weather
from workers.tasks import Evaluate, Task
from workers.text.tokens import TokenSet

TOKENS = TokenSet("/simulated", "", ("a", "b", "c"))
TASK = Evaluate(TOKENS, Plan(()), "search")
LONG, SHORT = Evaluate(TOKENS, Plan(()), "search", 8), Evaluate(TOKENS, Plan(()), "search", 1)
MANY = 256


def _seconds(task: Task) -> float:
    return float(getattr(task, "num_sequences", 1))


def _ends(executor: SimulatedExecutor) -> list[tuple[float, int]]:
    """Return (time, number) of every end."""
    found = []
    while outcomes := executor.wait(1e9):
        found += [(executor.now, outcome.handle.number) for outcome in outcomes]
    return found


def test_time_passes_to_the_next_end() -> None:
    """Two workers, first come, first served; nothing passes where nothing runs or the time given is over."""
    executor = SimulatedExecutor(lambda _: 7, 2, _seconds)
    assert (list(executor.wait(5.0)), executor.now) == ([], 0.0)
    for task in (LONG, SHORT, SHORT):
        executor.submit(task)
    assert (list(executor.wait(0.5)), executor.now) == ([], 0.5)
    (outcome,) = executor.wait(1.0)
    assert (outcome.handle.number, outcome.value, executor.now) == (1, 7, 1.0)
    assert _ends(executor) == [(2.0, 2), (8.0, 0)]
    assert executor.utilisation == pytest.approx(10 / 16)


def test_a_batch_stays_on_one_worker() -> None:
    """Its tasks end one after the other, in their order."""
    executor = SimulatedExecutor(lambda _: None, 2, _seconds)
    executor.submit_all([SHORT, LONG, SHORT])
    executor.submit(LONG)
    assert _ends(executor) == [(1.0, 0), (8.0, 3), (9.0, 1), (10.0, 2)]


def test_a_slow_controller_lets_workers_wait() -> None:
    """What is queued already starts at once; what the controller has yet to send does not."""
    executor = SimulatedExecutor(lambda _: None, 1, controller_seconds=0.5)
    executor.submit(TASK)
    executor.submit(TASK)
    executor.wait(9.0)
    executor.submit(TASK)
    executor.wait(9.0)
    executor.submit(TASK)
    assert _ends(executor) == [(3.5, 2), (4.5, 3)]
    ends_apart = SimulatedExecutor(lambda _: None, 1, controller_seconds=0.5)
    for _ in range(4):
        ends_apart.submit(TASK)
        ends_apart.wait(9.0)
    assert ends_apart.now == 4 * 1.5


def test_failures_are_ends_too() -> None:
    """A worker that dies takes a part of the time, then its restart; an answer may be an error by itself."""
    executor = SimulatedExecutor(lambda _: 7, 1, weather=Weather(failure_share=1.0, restart_seconds=10.0))
    executor.submit(TASK)
    executor.submit(TASK)
    first, second = [(outcome, executor.now) for _ in range(2) for outcome in executor.wait(99.0)]
    assert isinstance(first[0].error, TrialError)
    assert first[1] < 1.0
    assert second[1] == pytest.approx(first[1] + 10.0, abs=1.0)

    def refuse(_: Task) -> object:
        raise TrialError("no")

    refusing = SimulatedExecutor(refuse, 1)
    refusing.submit(TASK)
    (refused,) = refusing.wait(9.0)
    assert str(refused.error) == "no"


@pytest.mark.parametrize(
    "weather",
    [
        Weather(spread=0.2, slow_share=0.1, failure_share=0.01, restart_seconds=2.0),
        Weather(spread=0.2, straggler_share=0.1, failure_share=0.01, restart_seconds=2.0),
    ],
    ids=["slow workers", "slow tasks"],
)
def test_hundreds_of_workers_are_kept_busy(weather: Weather) -> None:
    """256 of them, a tenth straggling, 1 % failures: 95 % of their time is work, and every task ends once."""
    executor = SimulatedExecutor(lambda _: None, MANY, weather=weather, controller_seconds=0.002)
    ends: list[tuple[int, Outcome]] = []
    tasks = [TASK] * (100 * MANY)
    assert run_tasks(executor, tasks, lambda index, outcome: ends.append((index, outcome))) == []
    assert executor.utilisation >= 0.95
    assert sorted(index for index, _ in ends) == list(range(len(tasks)))
    failed = sum(outcome.error is not None for _, outcome in ends)
    assert 0.005 < failed / len(tasks) < 0.015


def test_a_short_batch_cannot_keep_them_busy() -> None:
    """What ends last decides: fewer tasks than workers leave workers idle, whatever the weather."""
    executor = SimulatedExecutor(lambda _: None, MANY, weather=Weather(straggler_share=0.1))
    run_tasks(executor, [TASK] * 32, lambda *_: None)
    assert executor.utilisation < 32 / MANY
