"""Tasks that only tests give. A worker learns them when it reads one, since that imports this file."""

import os
import time
from dataclasses import dataclass

from workers.text.tokens import TokenSet
from workers.worker import _HANDLERS, Worker

_TEXT = TokenSet(__file__, "", ())  # workers of a cluster are sent the text of each task


@dataclass(frozen=True, slots=True)
class Sleep:
    """Take some time. Result: the worker's process id."""

    seconds: float
    tokens: TokenSet = _TEXT


@dataclass(frozen=True, slots=True)
class Misbehave:
    """Raise an error that nobody expects."""

    text: str


def _sleep(_: Worker, task: Sleep) -> int:
    time.sleep(task.seconds)
    return os.getpid()


def _misbehave(_: Worker, task: Misbehave) -> None:
    raise ZeroDivisionError(task.text)


_HANDLERS[Sleep] = _sleep
_HANDLERS[Misbehave] = _misbehave
