"""How many workers a search can use, on a simulated clock: what batches that wait for their last trial cost.

    python -m benchmarks.trials.simulated [--blocks 32] [--out FILE]

A tenth of the workers, or of the trials, takes three times as long; 1 % of the trials kill their worker, which is back
after the time of two trials; the others vary by a fifth. First one long batch on 256 workers, with more and more trials
for each; then all batches of a default search on a model of seven modules per block, with two rounds of refinement (a
screened plan and a probe of the wide plan take a quarter of the time, a neighbour half).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.sampler_cost import SEQUENCES, Losses, budget_of, errors_of, make_space
from search.decide.observation import REFINE, Observation, Proposal
from search.decide.steps import FrontStrategy
from search.measure.dispatch import run_tasks
from space.plan import Plan
from workers.pool.simulator import SimulatedExecutor, Weather
from workers.tasks import Evaluate, Task
from workers.text.tokens import TokenSet

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "trials" / "simulated.json"
TOKENS = TokenSet("/simulated", "", ("a", "b", "c"))
WEATHERS = {
    "slow workers": Weather(spread=0.2, slow_share=0.1, failure_share=0.01, restart_seconds=2.0),
    "slow trials": Weather(spread=0.2, straggler_share=0.1, failure_share=0.01, restart_seconds=2.0),
}
PER_WORKER = (1, 2, 4, 8, 16, 32, 64, 128)
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ROUNDS = 2


def search_batches(num_blocks: int) -> list[list[int]]:
    """Return the sequences that each trial of a default search measures, batch by batch; known starts are not again."""
    space = make_space(num_blocks)
    strategy = FrontStrategy(space, errors_of(space), budget_of(space), num_sequences=SEQUENCES)
    losses, batches = Losses(space), []
    observations: list[Observation] = []
    known: dict[tuple[str, bool], int] = {}
    rounds = 0
    while rounds < ROUNDS and (batch := strategy.next_batch(observations)):
        observations += [losses.observe(p) for p in batch]
        batches.append([(p.num_sequences or SEQUENCES) - known.get(_key(p), 0) for p in batch])
        known |= {_key(p): p.num_sequences or SEQUENCES for p in batch}
        rounds += batch[0].origin == REFINE
    return batches


def _key(proposal: Proposal) -> tuple[str, bool]:
    return proposal.plan.digest, proposal.base is not None


def simulate(batches: Sequence[Sequence[int]], num_workers: int, weather: Weather) -> SimulatedExecutor:
    """Return the workers after they did the batches, each after the one before."""
    executor = SimulatedExecutor(lambda _: None, num_workers, _seconds, weather)
    for batch in batches:
        tasks = [Evaluate(TOKENS, Plan(()), "search", count) for count in batch]
        run_tasks(executor, tasks, lambda *_: None)
    return executor


def _seconds(task: Task) -> float:
    assert isinstance(task, Evaluate)  # noqa: S101 (nothing else is asked here)
    return (task.num_sequences or SEQUENCES) / SEQUENCES


def _share(batches: Sequence[Sequence[int]], num_workers: int, weather: Weather) -> float:
    return round(simulate(batches, num_workers, weather).utilisation, 3)


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    batches, most = search_batches(arguments.blocks), WORKERS[-1]
    result: dict[str, Any] = {
        "weathers": {name: asdict(weather) for name, weather in WEATHERS.items()},
        "one_batch": {
            name: {str(n): _share([[SEQUENCES] * (n * most)], most, weather) for n in PER_WORKER}
            for name, weather in WEATHERS.items()
        },
        "search_batches": [len(batch) for batch in batches],
        "search": {name: {str(n): _share(batches, n, w) for n in WORKERS} for name, w in WEATHERS.items()},
    }
    print(json.dumps(result, indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
