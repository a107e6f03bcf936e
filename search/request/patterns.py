"""Regular expressions that users write, tried in a process of its own first: nothing else bounds their time."""

import json
import subprocess
import sys
from collections.abc import Sequence

from space.errors import SpecError

_MAX_SECONDS = 5
_MAX_CHARACTERS = 1_000
_TRY = f"""
import json, re, resource, sys, warnings
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
resource.setrlimit(resource.RLIMIT_CPU, ({_MAX_SECONDS}, {_MAX_SECONDS}))
warnings.simplefilter("ignore")
pattern, names = json.load(sys.stdin)
try:
    expression = re.compile(pattern)
except re.error as error:
    sys.exit(f"{{error}}")
except (OverflowError, RecursionError, MemoryError):
    sys.exit("it is too large")
for name in names:
    expression.search(name)
"""


def try_pattern(pattern: str, names: Sequence[str]) -> None:
    """Search a pattern in all names, and forget what is found.

    Raises:
        SpecError: it is not a regular expression, or it takes too long.

    """
    if len(pattern) > _MAX_CHARACTERS:
        raise SpecError(f"--pin {pattern[:40]!r}...: longer than {_MAX_CHARACTERS:,} characters; write it shorter.")
    command = [sys.executable, "-I", "-S", "-c", _TRY]
    try:
        done = subprocess.run(  # noqa: S603 (our own program)
            command, input=json.dumps([pattern, names]).encode(), capture_output=True, check=False, timeout=_MAX_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SpecError(f"--pin {pattern!r} takes too long to match; write it with fewer repeats.") from None
    if done.returncode > 0:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise SpecError(f"--pin {pattern!r} is not a regular expression: {reason}.")
    if done.returncode < 0:
        raise SpecError(f"--pin {pattern!r} takes too much time or memory to match; write it with fewer repeats.")
