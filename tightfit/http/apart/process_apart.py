"""A child process that begins when it is first asked and can be ended: what it holds, or dies of, is its own."""

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_END_SECONDS = 5.0


class ProcessApart:
    """A process that begins when it is asked, and is ended."""

    def __init__(self, name: str, work: Callable[..., None], *values: Any) -> None:
        """Start nothing yet; `work` gets a connection, then the values."""
        self._name, self._work, self._values = name, work, values
        self.is_new = False
        """It was started and, as far as who asks it has noted, said nothing yet."""
        self._process: BaseProcess | None = None
        self._questions: Connection | None = None

    def connected(self) -> Connection:
        """Return the connection to the process, which runs from now on."""
        if self._process is None or self._questions is None or not self._process.is_alive():
            self.end()
            context = get_context("spawn")
            self._questions, theirs = context.Pipe()
            self._process = context.Process(
                target=self._work, args=(theirs, *self._values), name=self._name, daemon=True
            )
            self._process.start()
            self.is_new = True
            theirs.close()
        return self._questions

    def end(self) -> None:
        """End the process, where there is one."""
        if self._process is not None:
            self._process.terminate()
            self._process.join(_END_SECONDS)
            self._process.kill()
            self._process.join(_END_SECONDS)
        if self._questions is not None:
            self._questions.close()
        self._process = self._questions = None
