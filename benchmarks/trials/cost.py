"""What a trial costs against the bare dense forward over the same tokens, in the same process and thread."""

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.search.arena import SEQUENCE_LENGTH, Arena
from benchmarks.trials.timing import Split, cpu_seconds, paired, ratio
from search.measure.shared_prefixes import in_batches
from workers.evaluate import quality
from workers.families.blocks import BlockRunner
from workers.run.held_weights import Resident
from workers.tasks import BATCH, Evaluate

NUM_SEQUENCES = 16
NUM_ROUNDS = 21
NUM_CHANGED = 3


def bare_forward(arena: Arena, num_sequences: int = NUM_SEQUENCES) -> Callable[[], None]:
    """Return a function that runs the model, as it is now, over the first search sequences."""
    tokens = arena.tokens.load("search")[:num_sequences]
    runner = arena.worker.engine.runner

    def forward() -> None:
        with torch.no_grad():
            for batch in tokens.split(BATCH):
                runner.logits(batch)

    return forward


def trial(arena: Arena) -> dict[str, Any]:
    """Return the cost of trials that change three modules each, the first one in the first block: nothing is shared."""
    arena.teach("search")
    space, rng, split = arena.space, np.random.default_rng(0), Split()
    names = list(space.levels)
    _, base = list(space.uniform_plans())[1]
    arena.worker.run(Evaluate(arena.tokens, base, "search", NUM_SEQUENCES))

    def change(turn: int) -> None:
        changed = [names[0], *rng.choice(names[1:], NUM_CHANGED - 1, replace=False)]
        levels = {n: space.levels[n][(turn + i) % len(space.levels[n])] for i, n in enumerate(changed)}
        arena.worker.run(Evaluate(arena.tokens, base.replace(levels), "search", NUM_SEQUENCES))

    with ExitStack() as stack:
        stack.enter_context(split.watching(Resident, "hold", "swap"))
        stack.enter_context(split.watching(BlockRunner, "logits", "forward"))
        stack.enter_context(split.watching(quality, "_score", "loss"))
        plain = bare_forward(arena)
        ours, theirs = paired(change, plain, NUM_ROUNDS)
    split.seconds["forward"] -= sum(theirs)
    total = sum(ours)
    return {
        "ratio_to_bare_forward": ratio(ours, theirs),
        "bare_microseconds_per_token": 1e6 * median(theirs) / (NUM_SEQUENCES * SEQUENCE_LENGTH),
        "shares": {name: seconds / total for name, seconds in split.seconds.items()},
    }


def sweep(arena: Arena, num_sequences: int = BATCH) -> dict[str, Any]:
    """Return the cost of all modules at all levels, around the widest uniform plan, against as many bare forwards."""
    arena.teach("search")
    *_, (_, base) = arena.space.uniform_plans()
    plans = [base.replace({n: v}) for n, levels in arena.space.levels.items() for v in levels if v != base[n]]
    tasks = [Evaluate(arena.tokens, plan, "search", num_sequences, sketch=True) for plan in plans]
    arena.worker.run(tasks[0])
    forward, ours, bare = bare_forward(arena, num_sequences), 0.0, []
    for batch in in_batches(tasks, 1, 0.0):
        bare.append(cpu_seconds(forward))
        ours += cpu_seconds(lambda batch=batch: [arena.worker.run(tasks[index]) for index in batch.indices])  # type: ignore[misc]
    return {"probes": len(tasks), "ratio_to_bare_forwards": ours / (len(tasks) * median(bare))}
