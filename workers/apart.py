"""A worker whose cache folder only its own node sees: it makes there, when first needed, what others made elsewhere.

What it makes follows from what it is made of, so it has the same bytes as elsewhere and measures the same.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from space.errors import LevelDamagedError
from space.measurement import Measurement
from workers.places import CarriedText, carried
from workers.sharing import use
from workers.tasks import BuildLevels, Calibrate, Evaluate, PrepareText, Task, Workspace
from workers.worker import Worker


class Apart:
    """Does a worker's tasks in a folder of its node's own."""

    def __init__(self, workspace: Workspace, fetch: Callable[[], bytes]) -> None:
        """Use the workspace's cache folder; `fetch` gives the content of the text that the current task is about."""
        self._folder, self._fetch = Path(workspace.cache_folder), fetch
        self._in_use = use(self._folder)
        self._worker = Worker(workspace)
        self._max_damages = len(workspace.inventory.modules)  # a plan's levels; a disk that goes on so is told
        self.warm_up = self._worker.warm_up

    def run(self, task: Task) -> Any:
        """Do a task, after what it stands on where that is not here; new text comes with its content."""
        if isinstance(task, PrepareText):
            tokens = self._worker.run(task)
            return CarriedText(tokens, Path(tokens.path).read_bytes())
        here: Task = replace(task, tokens=carried(task.tokens, self._folder, self._fetch))
        if isinstance(here, Evaluate):
            return self._evaluate(here)
        if isinstance(here, BuildLevels):
            with _alone(self._folder):
                self._worker.run(Calibrate(here.tokens))
        return self._worker.run(here)

    def close(self) -> None:
        """Tell that the folder is no longer in use."""
        self._in_use.close()

    def _evaluate(self, task: Evaluate, num_damages: int = 0) -> Measurement:
        with _alone(self._folder):
            self._worker.provide(task.plan, task.tokens, task.split)
        try:
            measured: Measurement = self._worker.run(task)
        except LevelDamagedError:
            if num_damages == self._max_damages:
                raise
            return self._evaluate(task, num_damages + 1)
        return measured


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one worker of a node make what the others would make too."""
    with (folder / ".making").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
