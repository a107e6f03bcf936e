"""Make the environment of an outside tool, apart from the project's.

    python make_env.py autoround DIR
    python make_env.py modelopt DIR

Makes a virtual environment in DIR with the pinned requirements beside this file (Python 3.11) and imports the tool. The
requirements are complete and pip resolves nothing, so no CUDA package is pulled in; torch itself is the build that the
configured index gives, and where that is a CUDA build the import fails: point pip at an index of CPU builds then.
"""

import argparse
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

_IMPORTS = {"autoround": "auto_round.auto_scheme.gen_auto_scheme", "modelopt": "modelopt.torch.quantization"}
_UNREACHABLE = ("No matching distribution", "Connection", "Temporary failure", "Max retries", "timed out", "ProxyError")


def install(tool: str, folder: Path) -> Path:
    """Make the environment and return its interpreter.

    Raises:
        RuntimeError: the folder holds something else, pip failed, or the tool cannot be imported.

    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise RuntimeError(f"{folder} is not empty and no virtual environment; choose another folder")
    requirements = Path(__file__).with_name(f"requirements-{tool}.txt")
    venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    python = folder / "bin" / "python"
    pip = "-m pip install --quiet --no-deps -r"
    run([python, *pip.split(), requirements], f"pip could not install {requirements.name}")
    run([python, "-c", f"import {_IMPORTS[tool]}"], f"{tool} is installed but cannot be imported")
    return python


def run(command: Sequence[str | Path], failure: str) -> None:
    """Run a command of the environment; its last lines of errors become the message.

    Raises:
        RuntimeError: it failed.

    """
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING: Location")]
    hint = "\nIs a package index (PyPI) reachable?" if any(mark in done.stderr for mark in _UNREACHABLE) else ""
    raise RuntimeError(f"{failure} (exit {done.returncode}):\n" + "\n".join(lines[-5:]) + hint)


def main() -> None:
    """Make the environment and say which interpreter runs the tool's script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=sorted(_IMPORTS))
    parser.add_argument("folder", type=Path, help="new, or an environment to replace")
    arguments = parser.parse_args()
    try:
        print(install(arguments.tool, arguments.folder))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
