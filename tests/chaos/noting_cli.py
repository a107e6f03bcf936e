"""The command line, noting what its workers are asked: `python -m tests.chaos.noting_cli NOTES ARGUMENTS`.

NOTES gets a line per evaluation that is handed to a worker: plan digest, split, first sequence.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tightfit.cli.app import main
from workers.pool.executor import Handle
from workers.pool.ray_executor import RayExecutor
from workers.tasks import Evaluate, Task


def note_evaluations(notes: Path) -> None:
    """Note from now on what every pool of this process is asked."""
    submit_all = RayExecutor.submit_all

    def noting(self: RayExecutor, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        lines = [f"{t.plan.digest} {t.split} {t.first_sequence}\n" for t in tasks if isinstance(t, Evaluate)]
        with notes.open("a", encoding="ascii") as file:
            file.writelines(lines)
        return submit_all(self, tasks, lane)

    setattr(RayExecutor, "submit_all", noting)  # noqa: B010 (a method for mypy)


if __name__ == "__main__":
    note_evaluations(Path(sys.argv.pop(1)))
    main()
