"""What processes that train together are told, and what one of them does with it: `python -m` runs this file in each.

The first one says on stdout, as lines of JSON, what it sees of the selection text; each one, how much memory it took.
"""

import json
import os
import pickle
import resource
import sys
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from space.plan import Plan
from workers.recover.distill import Course, Distillation, TaughtText, adam
from workers.recover.recovery import Values
from workers.recover.sharded.crew import Crew, MakeOptimizer
from workers.recover.trainable_model import MakeWeight, trainable_model
from workers.recover.training_state import Judged
from workers.tasks import Workspace

WAIT_SECONDS = 300.0
"""so long a process waits for the others at a step, before it gives up"""
_KIB = 1024 if sys.platform != "darwin" else 1


@dataclass(frozen=True, slots=True)
class Assignment:
    """A training as its processes are told of it; all of it can be pickled.

    Attributes:
        workspace: the dense model and its cache.
        plan: the point's.
        start: its values so far.
        text: to learn from, and to select by.
        answers: where the dense model's answers to both are.
        course: how long and how fast.
        make: the trained form of a level.
        state_path: where the state of the training is kept; its last one holds what came of it.
        sharding: one of SHARDINGS.
        recomputes: blocks keep their inputs alone for the way back.
        meeting: a path that is not there yet, where the processes find each other.
        threads: of each process.
        make_optimizer: of what is trained.
        in_double: compute in float64.

    """

    workspace: Workspace
    plan: Plan
    start: Values
    text: Any
    answers: tuple[Path, Path]
    course: Course
    make: MakeWeight
    state_path: Path
    sharding: str
    recomputes: bool
    meeting: Path = Path()
    threads: int = 1
    make_optimizer: MakeOptimizer = adam
    in_double: bool = False


def distillation(assignment: Assignment, crew: Crew, **others: Any) -> Distillation:
    """Return a training as one of a crew has it."""
    from workers.evaluate.teacher import read_teacher
    from workers.levels.level_store import LevelStore

    workspace, start = assignment.workspace, assignment.start
    levels = Path(workspace.cache_folder) / "levels"
    store = LevelStore(levels, workspace.model_digest, start.tokens.of("calibration"))
    workspace = replace(workspace, model_folder=start.model_folder)
    model = trainable_model(workspace, assignment.plan, store, assignment.make)
    if assignment.in_double:
        model.model.double()
    if assignment.recomputes:
        model.recompute_blocks()
    crew.divide(model.blocks(), model.model, model.trained())
    train, selection = (
        TaughtText(assignment.text.load(split), read_teacher(path))
        for split, path in zip(("calibration", "search"), assignment.answers, strict=True)
    )
    return Distillation(
        model, train, selection, assignment.course, assignment.state_path,
        device=workspace.device, crew=crew, make_optimizer=assignment.make_optimizer, **others,
    )  # fmt: skip


def _say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def main() -> None:
    """Read an assignment and a place in the crew from stdin, and train."""
    import torch

    assignment, rank, size = pickle.load(sys.stdin.buffer)  # noqa: S301 (our own program wrote it)
    parent = os.getppid()
    torch.set_num_threads(assignment.threads)

    def look() -> None:
        if os.getppid() != parent:
            raise SystemExit("whoever started this training is gone")

    def watch(judged: Judged, steps: int, seconds_left: float) -> None:
        if not rank:
            _say(judged=asdict(judged), steps=steps, seconds_left=seconds_left)

    torch.distributed.init_process_group(
        "gloo", f"file://{assignment.meeting}", timedelta(seconds=WAIT_SECONDS), size, rank
    )
    distillation(assignment, Crew(assignment.sharding, rank, size), look=look, watch=watch).run()
    _say(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
