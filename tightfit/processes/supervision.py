"""Child processes kept alive: started, watched, started again with growing pauses, and stopped, so that none is left.

Each child lives in a process group of its own, so that a Ctrl-C of the terminal reaches its supervisor alone, and holds
the end of a pipe: where the supervisor dies without a word, the pipe ends, and so does the child (see
`tethered`).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO

from storage.private import make_private, make_private_file

STOP_SECONDS = 30.0
"""What a controller may take to give its job back."""
_POLL_SECONDS = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_STEADY_SECONDS = 60.0  # a child that lived so long starts with the first pause again

Tell = Callable[[str], None]


@dataclass
class Child:
    """A process that is to run always.

    Attributes:
        name: for people, and of its log.
        arguments: of Python, such as `-m tightfit work`.
        log: where what it prints goes.
        passed: file descriptors that it inherits.
        environment: of it, beside the supervisor's.

    """

    name: str
    arguments: Sequence[str]
    log: Path
    passed: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    again_at: float = 0.0
    pause: float = _FIRST_PAUSE

    def start(self) -> None:
        """Start the process."""
        make_private(self.log.parent)
        make_private_file(self.log)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603 (our own program)
                [sys.executable, "-P", "-m", "tightfit.processes.tethered", *self.arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
                pass_fds=tuple(self.passed),
                env=os.environ | self.environment,
            )
        self.started_at = time.monotonic()

    def look(self, tell: Tell) -> None:
        """Start the process again where it ended and its pause is over."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.again_at:
                self.start()
        elif (code := self.process.poll()) is not None:
            self._forget()
            self.pause = _FIRST_PAUSE if now - self.started_at >= _STEADY_SECONDS else self.pause
            self.again_at = now + self.pause
            tell(f"{self.name} ended with {code}; it starts again in {self.pause:.1f} s. Its log: {self.log}")
            self.pause = min(2 * self.pause, _LONGEST_PAUSE)

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait for the end until some moment of the monotonic clock, then insist; nothing of its group is left."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._forget()

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def _forget(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)  # what it left behind
            _close(self.process.stdin)
        self.process = None


def supervise(children: Sequence[Child], ended: Event, tell: Tell, each_look: Callable[[], None]) -> None:
    """Keep children alive until `ended` is set, then stop them all; `each_look` is called at every look at them."""
    try:
        while not ended.wait(_POLL_SECONDS):
            for child in children:
                child.look(tell)
            each_look()
    finally:
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            child.ask_to_end()
        for child in children:
            child.end(deadline)


def _close(pipe: "IO[bytes] | None") -> None:
    if pipe is not None:
        with suppress(OSError):
            pipe.close()
