"""Run the steps of deploy/Containerfile in a fresh folder, where no container can be: its COPY, ENV and RUN lines.

    python tools/container_steps.py FOLDER [--build-arg NAME=VALUE ...]

The lines are read from the file, so that what is run is what it says. Its paths (/opt, /src, /data, /models) are
folders in FOLDER. What only a container has (FROM, USER, VOLUME, EXPOSE, CMD) is named and left out, as is its user.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
_OWN_PATHS = re.compile(r"(?<![\w.])/(opt|src|data|models)\b")
_NEEDS_ROOT = ("useradd", "chown")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield (instruction, its arguments) of a Containerfile, continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            yield name.upper(), arguments.strip()


def run_steps(folder: Path, given: dict[str, str]) -> None:
    """Run all steps; raises CalledProcessError where one fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    here = folder
    for name, arguments in instructions(CONTAINERFILE.read_text(encoding="utf-8")):
        own = _OWN_PATHS.sub(lambda found: f"{folder}{found[0]}", arguments)
        if name == "ARG":
            key, _, default = arguments.partition("=")
            environment[key] = given.get(key, default)
        elif name == "ENV":
            key, _, value = own.partition("=")
            environment[key] = value.replace("$PATH", environment["PATH"])
        elif name == "WORKDIR":
            here = Path(own)
            here.mkdir(parents=True)
        elif name == "COPY":
            *sources, target = own.split()
            for source in sources:
                _copy(ROOT / source, here / target, into=target.endswith("/"))
        elif name == "RUN" and not arguments.startswith(_NEEDS_ROOT):
            print(f"$ {own}", flush=True)
            subprocess.run(["/bin/sh", "-ec", own], cwd=here, env=environment, check=True)  # noqa: S603 (our own file's)
        else:
            print(f"left out: {name} {arguments}", flush=True)


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target / source.name if into else target)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    if folder.exists():
        sys.exit(f"{folder} is there already; name a folder that is not.")
    folder.mkdir(parents=True)
    run_steps(folder, dict(argument.split("=", 1) for argument in asked.build_arg))
    print(f"Every step ended well; the program is {folder}/opt/tightfit/bin/tightfit")


if __name__ == "__main__":
    main()
