"""A program of ours that ends with who started it: `python -m tightfit.processes.tethered MODULE ARGUMENTS`.

It is started with a pipe as its standard input, which ends when the process that holds the other end does.
"""

import os
import runpy
import signal
import sys
from threading import Thread


def _end_with_pipe() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run a module as a program, tied to standard input."""
    module, *arguments = sys.argv[1:]
    Thread(target=_end_with_pipe, name="tightfit-tether", daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
