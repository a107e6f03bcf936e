"""How fast an export makes text on this machine, in the runtime that it is for: measured, with its spread."""

import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from space.errors import TightfitError, UsageError
from workers.models.model_files import resolve_model

_PAPER = "compression.json"
_TIMEOUT_SECONDS = 3600
_ELSEWHERE = {
    "vllm": "vLLM needs a GPU and has a command of its own: vllm bench latency --model FOLDER",
    "exl3": "exllamav3 needs a GPU and has a program of its own for it (eval/perf.py in its repository)",
}


@dataclass(frozen=True, slots=True)
class SpeedWish:
    """What is to be measured.

    Attributes:
        folder: an export, a model's folder, or `bundled`.
        num_prompt: tokens of the prompt.
        num_tokens: that follow, one at a time.
        threads: of the runtime on a CPU; 0: as many as this process may use.
        runs: that count.

    """

    folder: str
    num_prompt: int = 128
    num_tokens: int = 64
    threads: int = 0
    runs: int = 5


def speed(wish: SpeedWish) -> dict[str, Any]:
    """Measure in a fresh process and return what it found, as `tightfit speed --json` prints it.

    Raises:
        UsageError: the folder holds nothing that a runtime here makes text of, or fewer positions than are asked.
        TightfitError: the runtime failed; its last words.

    """
    folder = resolve_model(wish.folder, None)
    paper = _paper(folder)
    target = str(paper.get("format", ""))
    check_runs_here(target, wish.folder)
    threads = wish.threads or len(os.sched_getaffinity(0))
    asked = {
        "folder": str(folder.resolve()),
        "target": target,
        "plan": paper.get("plan", {}),
        "prompt": _prompt(wish.num_prompt),
        "num_tokens": wish.num_tokens,
        "threads": threads,
        "runs": wish.runs,
    }
    answer = _answer(asked)
    if "refused" in answer:
        raise UsageError(answer["refused"])
    machine = {"processor": _processor(), "system": platform.system(), "threads": threads}
    return {"path": wish.folder, "format": target or None, **asdict(wish), "machine": machine, **answer}


def check_runs_here(target: str, named: str) -> None:
    """Refuse what is for a runtime that needs other hardware. Raises UsageError: it names that one's own program."""
    if target in _ELSEWHERE:
        raise UsageError(f"{named}: {_ELSEWHERE[target]}.")


def _paper(folder: Path) -> Mapping[str, Any]:
    path = folder / _PAPER
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}.") from error
    return found


def _prompt(count: int) -> list[int]:
    """Return tokens that all vocabularies have; how fast a model runs does not depend on them."""
    drawn = random.Random(0)  # noqa: S311 (no secret)
    return [drawn.randrange(2, 100) for _ in range(count)]


def _answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "workers.runtime.speed"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise TightfitError(f"{asked['folder']}: its runtime ended before it had run ({last}).")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _processor() -> str:
    """Return what this machine calls its processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
