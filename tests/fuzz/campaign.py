"""The fuzzer: `python -m tests.fuzz.campaign --inputs 5000` (or `make fuzz`); `--first N --inputs 1` runs one again.

Each input must end by itself within a minute and two gigabytes, with a documented exit code and, where that is not 0,
in one sentence; never in a traceback, nor in an error that nobody foresaw.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.fuzz.inputs import Input, make_input
from tests.fuzz.nursery import MAX_SECONDS

ROOT = Path(__file__).resolve().parents[2]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""A child has only the thread that made it: what waits for another one would wait for ever."""
EXIT_CODES = (0, 2, 3, 4)
KINDS = ("tied", "opt")
_SENTENCE = re.compile(r"tightfit: \S.*[.?]\n?", re.DOTALL)
_USAGE = re.compile(r"Usage: .*--help.*Error", re.DOTALL)


@dataclass(frozen=True)
class Verdict:
    """How an input ended: `fault` says what was wrong with that, and is empty where nothing was."""

    seed: int
    kind: str
    arguments: list[str]
    exit_code: int
    seconds: float
    peak_bytes: int
    fault: str

    def told(self) -> str:
        """Return it in words, with how to run it again."""
        command = " ".join(map(ascii, self.arguments))[:300]
        again = f"python -m tests.fuzz.campaign --first {self.seed} --inputs 1"
        return f"seed {self.seed} ({self.kind}): {self.fault}\n  tightfit {command}\n  again: {again}"


def judged(given: Input, ended: dict[str, Any]) -> Verdict:
    """Return what was wrong with the way an input ended."""
    code, err = ended["exit_code"], ended["err"]
    fault = ""
    if ended["over"]:
        fault = f"too much {ended['over']}: {ended['seconds']:.0f} s, {ended['peak_bytes'] / 1e9:.1f} GB"
    elif "Traceback" in err or "an error that it does not know" in err:
        fault = f"a traceback: {_last_words(given, err)}"
    elif code not in EXIT_CODES:
        fault = f"exit code {code}: {err[-300:]}"
    elif code == 0 and "Error" in err:
        fault = f"an error and exit code 0: {err[-300:]}"
    elif code and not _is_a_sentence(err, ended["out"]):
        fault = f"no sentence: {err[-600:]!r} {ended['out'][-200:]!r}"
    return Verdict(given.seed, given.kind, given.arguments, code, ended["seconds"], ended["peak_bytes"], fault)


def _is_a_sentence(err: str, out: str) -> bool:
    """Tell whether one line says what is wrong: ours, the parser's in its box, or doctor's findings."""
    if _SENTENCE.fullmatch(err):
        return err.rstrip("\n").count("\n") == 0
    return (
        bool(_USAGE.search(err))
        or (not err and '"ok": false' in out)
        or (not err and out.lstrip().startswith("Usage: "))
    )


def _last_words(given: Input, err: str) -> str:
    """Return the end of a traceback, from the log that the sentence names where there is one."""
    named = re.search(r"report it with (\S+error-\S+\.log)", err)
    text = Path(named[1]).read_text() if named and Path(named[1]).exists() else err
    places = re.findall(r'File "[^"]*?/(?:fuz|main)?/?([^"]+)", line (\d+)', text)[-3:]
    return " < ".join(f"{name}:{line}" for name, line in reversed(places)) + ": " + text.strip()[-300:]


class Nursery:
    """A process of tests/fuzz/nursery.py."""

    def __init__(self, models: list[Path]) -> None:
        """Start it; the models are only looked at, to be ready for others like them."""
        command = [sys.executable, "-m", "tests.fuzz.nursery", *map(str, models)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | _ONE_THREAD
        )

    def run(self, given: Input) -> dict[str, Any]:
        """Run an input in a child; return how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"folder": str(given.folder), "arguments": given.arguments, "environment": given.environment}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ended: dict[str, Any] = json.loads(self._process.stdout.readline())
        return ended

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


def _passable(text: str) -> str:
    """Return a text as a system can hand it to a process: half a surrogate has no bytes."""
    return "".join(c if "\udc80" <= c <= "\udcff" else c.encode("utf-8", "replace").decode() for c in text)


class Fresh:
    """A new interpreter for each input."""

    def run(self, given: Input) -> dict[str, Any]:
        """Run an input; return how it ended. Its memory is bounded by the nursery's twin of the same seed."""
        began = time.monotonic()
        command = [sys.executable, "-P", "-m", "tightfit", *map(_passable, given.arguments)]
        own = {name: _passable(value) for name, value in given.environment.items()}
        environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                command, cwd=given.folder, env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False,
                timeout=2 * MAX_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"exit_code": -9, "over": "time", "seconds": 2 * MAX_SECONDS, "peak_bytes": 0, "out": "", "err": ""}
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        seconds = time.monotonic() - began
        return {"exit_code": done.returncode, "over": "", "seconds": seconds, "peak_bytes": 0, "out": out, "err": err}

    def close(self) -> None:
        """Do nothing: each has ended."""


@contextmanager
def made(seed: int, models: list[Path], kinds: Sequence[str] = ()) -> Iterator[Input]:
    """Give an input, with its files for as long."""
    folder = Path(tempfile.mkdtemp(prefix="tightfit-fuzz-"))
    try:
        yield make_input(seed, models, folder, kinds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_all(
    seeds: Iterable[int], models: list[Path], runners: Sequence[Nursery | Fresh], kinds: Sequence[str] = ()
) -> Iterator[Verdict]:
    """Yield how each seed's input ended, as they end."""
    left: SimpleQueue[int | None] = SimpleQueue()
    ended: SimpleQueue[Verdict | BaseException | None] = SimpleQueue()
    for seed in [*seeds, *([None] * len(runners))]:
        left.put(seed)

    def work(runner: Nursery | Fresh) -> None:
        try:
            while (seed := left.get()) is not None:
                with made(seed, models, kinds) as given:
                    ended.put(judged(given, runner.run(given)))
        except BaseException as error:  # noqa: BLE001 (whoever waits raises it)
            ended.put(error)
        ended.put(None)

    threads = [threading.Thread(target=work, args=(runner,), daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    for _ in threads:
        while (verdict := ended.get()) is not None:
            if isinstance(verdict, BaseException):
                raise verdict
            yield verdict


def make_models(folder: Path) -> list[Path]:
    """Return tiny models of several kinds."""
    from tests.workers.tiny_models import make_tiny

    return [make_tiny(folder / kind, kind) for kind in KINDS]  # type: ignore[arg-type]


def main() -> None:
    """Run a campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=[], help="what may be odd [default: anything]")
    parser.add_argument("--fresh", action="store_true", help="a new interpreter for each input")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.inputs)
    faults, codes, slowest, largest = [], Counter[str](), 0.0, 0
    with tempfile.TemporaryDirectory(prefix="tightfit-fuzz-models-") as folder:
        models = make_models(Path(folder))
        runners = [Fresh() if options.fresh else Nursery(models) for _ in range(options.processes)]
        for verdict in run_all(seeds, models, runners, options.kinds):
            codes[f"{verdict.kind} {verdict.exit_code}"] += 1
            slowest, largest = max(slowest, verdict.seconds), max(largest, verdict.peak_bytes)
            if verdict.fault:
                faults.append(verdict)
                print(verdict.told(), flush=True)
        for runner in runners:
            runner.close()
    print(f"{sum(codes.values())} inputs, {len(faults)} faults; at most {slowest:.1f} s, {largest / 1e9:.2f} GB")
    print(", ".join(f"{name}: {count}" for name, count in sorted(codes.items())))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
