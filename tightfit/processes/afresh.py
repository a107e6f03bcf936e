"""A controller with nothing to do starts its own program again in the same process, so that its memory is free."""

import os
import sys
from typing import NoReturn


def begin_afresh() -> NoReturn:
    """Run the program of this process again, with its arguments, from its beginning; who watches it sees no end.

    Libraries that a job needs (torch, transformers, Ray) stay in memory once they are imported, and so do the arenas
    that their threads allocated from: 700 MB that no `del` gives back.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (our own program)
