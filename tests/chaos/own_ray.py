"""Private Rays whose parts are killed amid searches: `python -m tests.chaos.own_ray`.

`tightfit work` runs jobs one after another, each with a Ray of its own. At random moments the raylet, the GCS server or
one of Ray's agents is killed, twice in some jobs. A job must end with the front of an undisturbed one, by itself or,
where it ended in one sentence, after it was resumed. Prints a line per kill and per job and the figures as JSON at
the end; exit code 1 where a job hung, ended in anything but a sentence, or with another front.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias

from storage.records import Job, JobState
from tests.chaos.campaign import Expected, compare, tell
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.workers.tiny_models import make_tiny, write_text_file

ROOT = Path(__file__).parents[2]
KINDS = {"raylet": ("raylet",), "gcs": ("gcs_server",), "agent": ("Agent", "RuntimeEnv", "dashboard")}
STUCK_SECONDS = 600.0  # from a kill, or from the start, to the end of a job
MAX_KILLS = 2  # of one run of a job: its second Ray is the last one
NUM_TEXTS, TEXT_CHARACTERS = 4, 24_000
Controller: TypeAlias = "subprocess.Popen[bytes]"
MAX_WAIT_SECONDS = 4.0
MAX_STEPS = 6


@dataclass
class Figures:
    """What was seen: kills by kind, ends of processes that were killed under, and what went wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    sentences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def family(pid: int) -> dict[int, str]:
    """Return the processes under one: id -> how the system names it."""
    under: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            under.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found: dict[int, str] = {}
    left = [pid]
    while left:
        for child in under.get(left.pop(), []):
            left.append(child)
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def parts_of_ray(pid: int, kind: str) -> list[int]:
    """Return the processes of a kind in the private Ray of a controller."""
    named = {child: line.split(" ")[0:3] for child, line in family(pid).items() if line}
    if kind == "agent":
        return [child for child, words in named.items() if any(sign in " ".join(words) for sign in KINDS[kind])]
    return [child for child, words in named.items() if Path(words[0]).name in KINDS[kind]]


class OwnRay:
    """Kills parts of private Rays until each kind was killed often enough."""

    def __init__(self, folder: Path, seed: int, num_each: int, max_trials: int = 30) -> None:
        """Make the model and its texts."""
        self._folder, self._rng, self.figures = folder, random.Random(seed), Figures()
        self._left = Counter(dict.fromkeys(KINDS, num_each))
        model, texts = make_tiny(folder / "model", "tied"), [folder / f"text-{n}.txt" for n in range(NUM_TEXTS)]
        whole = write_text_file(folder / "text.txt", NUM_TEXTS * TEXT_CHARACTERS).read_text(encoding="utf-8")
        for number, text in enumerate(texts):
            text.write_text(whole[number * TEXT_CHARACTERS :][:TEXT_CHARACTERS], encoding="utf-8")
        self._specs = [small_spec(model, text, max_trials=max_trials, workers=1) for text in texts]
        self._expected = cache(self._undisturbed)

    def run(self) -> None:
        """Run jobs under kills: a home after another, in each a controller that works on all texts."""
        while self._left.total() and not self.figures.problems:
            service = open_service(self._folder / f"home-{self.figures.jobs}")
            with _controller(service) as process:
                for number in range(NUM_TEXTS):
                    if self._left.total() and not self.figures.problems:
                        self._job(service, process, number)
            service.store.close()

    def _undisturbed(self, number: int) -> Expected:
        service = open_service(self._folder / f"undisturbed-{number}")
        job_id, document = run_job(service, self._specs[number])
        trials = tuple(service.store.list_trials(job_id))
        service.store.close()
        return Expected(document, trials)

    def _job(self, service: PlainService, process: Controller, number: int) -> None:
        expected, began = self._expected(number), time.monotonic()
        job_id, found = service.submit(self._specs[number]).job_id, list[str]()
        while not found:
            job = self._until_it_rests(service, process, job_id)
            if job.state is not JobState.FAILED:
                found = compare(service, job_id, expected)
                self.figures.ends["by itself"] += 1
                break
            self.figures.ends["one sentence"] += 1
            self.figures.sentences.append(str(job.error))
            found = _wrong_sentence(str(job.error), (service.settings.home / "work.log").read_text())
            service.requeue(job_id)
        self.figures.jobs += 1
        self.figures.problems += found
        tell(job=job_id, seconds=round(time.monotonic() - began), problems=found)

    def _until_it_rests(self, service: PlainService, process: Controller, job_id: str) -> Job:
        """Kill parts of a job's Ray until it rests; return the job."""
        count, deadline = self._rng.randint(1, MAX_KILLS), time.monotonic() + STUCK_SECONDS
        while not (job := service.store.get_job(job_id)).state.rests and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            if count and self._left.total() and self._kill_in_a_while(service, process, job_id):
                count, deadline = count - 1, time.monotonic() + STUCK_SECONDS
            time.sleep(0.1)
        return job

    def _kill_in_a_while(self, service: PlainService, process: Controller, job_id: str) -> bool:
        """Wait for some steps of the job and some time; then kill, if there is something to kill."""
        kind = self._rng.choice([kind for kind in KINDS if self._left[kind]])
        self._wait_for_steps(service, process, job_id)
        time.sleep(self._rng.uniform(0, MAX_WAIT_SECONDS))
        victims = parts_of_ray(process.pid, kind)
        job = service.store.get_job(job_id)
        if not victims or job.state.rests:
            return False
        with suppress(ProcessLookupError):
            os.kill(self._rng.choice(victims), signal.SIGKILL)
            self._left[kind] -= 1
            self.figures.kills[kind] += 1
            tell(kill=kind, number=self.figures.kills.total(), phase=job.phase)
            return True
        return False

    def _wait_for_steps(self, service: PlainService, process: Controller, job_id: str) -> None:
        """Wait for a random number of steps that the job's records show while it has a Ray, or for none."""
        steps, last = self._rng.randint(0, MAX_STEPS), ("", 0)
        deadline = time.monotonic() + STUCK_SECONDS
        while steps > 0 and time.monotonic() < deadline and process.poll() is None:
            job = service.store.get_job(job_id)
            if job.state.rests:
                return
            now = (job.phase, sum(t.state.is_finished for t in service.store.list_trials(job_id)))
            if now != last and parts_of_ray(process.pid, "raylet"):
                steps, last = steps - 1, now
            time.sleep(0.05)


def _wrong_sentence(error: str, log: str) -> list[str]:
    """Return what is wrong with the end of a job that did not succeed."""
    is_one = "\n" not in error and "private Ray" in error and error.endswith("then resume the job.")
    return [] if is_one and "Traceback" not in log else [f"no sentence: {error}; {log[-2000:]}"]


@contextmanager
def _controller(service: PlainService) -> Iterator[Controller]:
    """Run a controller with private Rays that works on the jobs of a home."""
    home = service.settings.home
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"TIGHTFIT_HOME": str(home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (home / "work.log").open("wb") as log:
        command = [sys.executable, "-m", "tightfit", "work"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(60)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tightfit-own-ray-") as name:
        campaign = OwnRay(Path(name), options.seed, options.each)
        campaign.run()
    figures = campaign.figures
    found = {
        "kills": dict(figures.kills),
        "jobs": figures.jobs,
        "ends": dict(figures.ends),
        "sentences": sorted(set(figures.sentences)),
        "problems": figures.problems,
    }
    tell(**found)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if figures.problems else 0)


if __name__ == "__main__":
    main()
