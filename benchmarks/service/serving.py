"""A service that runs while something is measured."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Serving:
    """`tightfit serve` as a process: its address, and its id, of which all of its processes descend."""

    url: str
    process_id: int

    def processes(self) -> dict[int, str]:
        """Return the id of each of its processes, and what it is."""
        parents = {int(folder.name): _parent(folder) for folder in Path("/proc").iterdir() if folder.name.isdecimal()}
        found = [self.process_id]
        for number in found:
            found += [child for child, parent in parents.items() if parent == number]
        return {number: told for number in found if (told := _command(number))}

    def cpu_seconds(self, name: str) -> float:
        """Return the CPU time that its processes of a name took so far."""
        return sum(_cpu_seconds(number) for number, told in self.processes().items() if name in told)


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[Serving]:
    """Serve the home of an environment, with the output that nobody reads thrown away; stopped at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tightfit", "serve", "--port", "0", "--json", *options],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        told = ""
        while not told.endswith("}\n"):
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError(f"The service ended with {process.wait()}.")
            told += line
        yield Serving(json.loads(told)["page"], process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _cpu_seconds(number: int) -> float:
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS
