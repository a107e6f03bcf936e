"""A worker of a cluster, where others may keep levels elsewhere: it makes what a task stands on and its folder lacks.

What it makes follows from what it is made of, so it has the same content as elsewhere and measures the same.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from space.errors import LevelDamagedError
from workers.pool.cache_locks import use
from workers.pool.node_caches import CarriedText, carried
from workers.tasks import DependentTask, PrepareText, Task, TextlessTask, Workspace
from workers.worker import Worker


class Provident:
    """Does a worker's tasks, and before each what it stands on."""

    def __init__(self, workspace: Workspace, fetch: Callable[[], bytes]) -> None:
        """Use the workspace's cache folder; `fetch` gives the content of the text that the current task is about."""
        self._folder, self._fetch = Path(workspace.cache_folder), fetch
        self._in_use = use(self._folder)
        self._worker = Worker(workspace)
        self._max_damages = len(workspace.inventory.modules)  # a plan's levels; a disk that goes on so is told
        self.warm_up = self._worker.warm_up

    def run(self, task: Task) -> Any:
        """Do a task and return its result; new text comes with its content."""
        if isinstance(task, PrepareText):
            tokens = self._worker.run(task)
            return CarriedText(tokens, Path(tokens.path).read_bytes())
        if isinstance(task, TextlessTask):
            return self._worker.run(task)
        here: Task = replace(task, tokens=carried(task.tokens, self._folder, self._fetch))
        for _ in range(self._max_damages):
            self._provide(here)
            try:
                return self._worker.run(here)
            except LevelDamagedError:  # and deleted
                continue
        self._provide(here)
        return self._worker.run(here)

    def close(self) -> None:
        """Tell that the folder is no longer in use."""
        self._in_use.close()

    def _provide(self, task: Task) -> None:
        if isinstance(task, DependentTask) and self._worker.lacks(task):
            with _alone(self._folder):
                self._worker.provide(task)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one worker make what the others would make too."""
    with (folder / ".making").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
