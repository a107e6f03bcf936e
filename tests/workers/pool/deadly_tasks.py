"""Tasks that kill their worker, for tests; a worker learns them when it reads one, since that imports this file."""

import os
from dataclasses import dataclass
from pathlib import Path

from workers.worker import _HANDLERS, Worker

PEAK_BYTES = 300 * 2**20


@dataclass(frozen=True, slots=True)
class Die:
    """End this process by a signal. Result: none, or its process id where it died `num_deaths` times before.

    Attributes:
        signal: its number.
        folder: gets a file per death.
        num_deaths: how often.

    """

    signal: int
    folder: str
    num_deaths: int


def _die(_: Worker, task: Die) -> int:
    folder = Path(task.folder)
    count = len(list(folder.glob("death-*")))
    if count < task.num_deaths:
        (folder / f"death-{count}").touch()
        os.kill(os.getpid(), task.signal)
    return os.getpid()


_HANDLERS[Die] = _die
