"""A service that is killed at random moments while it is used: `python -m tests.chaos.served --kills 20`.

A user uploads a model, submits a job, exports its recommended point and downloads the files, by `tightfit.Client`;
meanwhile the supervisor, the API or the controller gets SIGKILL, and `tightfit serve` is started again where it ended.
Prints a line per kill and per round; exit code 1 where anything was lost, made twice, left behind or other than without
kills.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import httpx2

from space.errors import OutageError
from storage.open_store import open_store
from storage.point_tasks import TaskState
from tests.chaos.campaign import Expected, compare
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.http.test_serve import answers, of_home, until
from tests.workers.tiny_models import make_tiny, write_text_file
from tightfit import Client
from tightfit.client import sending
from tightfit.config import Settings

STAGES = ("upload", "job", "export", "download")
KINDS = {"supervisor": 2, "http_server": 1, "tightfit work": 2}
LIMIT_SECONDS = 1800.0
_PART_BYTES = 2048  # so that a tiny model takes a while to send
_LONGEST_PAUSE = {"upload": 1.5, "job": 12.0, "export": 6.0, "download": 0.2}
_Value = TypeVar("_Value")


@dataclass
class Served:
    """`tightfit serve` on a home, at a port that stays the same; whoever asks finds it there again."""

    home: Path
    texts: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; return once it answers."""
        environment = os.environ | {
            "TIGHTFIT_HOME": str(self.home),
            "TIGHTFIT_DATABASE_URL": "",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.home}/runs.db",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        options = ["--port", str(self.port), "--models", str(self.texts), "--workers", "1"]
        with (self.home.parent / f"{self.home.name}.log").open("ab") as out:
            command = [sys.executable, "-m", "tightfit", "serve", *options]
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        until(lambda: answers(self.url), LIMIT_SECONDS)

    def kill(self, kind: str) -> None:
        """Kill the supervisor, after which its children are to end and it is started again, or one of its children."""
        assert self.process is not None
        if kind == "supervisor":
            self.process.kill()
            self.process.wait()
            until(lambda: not any("tethered" in command for command in of_home(self.home).values()), 120)
            self.start()
            return
        for number, command in of_home(self.home).items():
            if kind in command and "tethered" in command:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        until(lambda: answers(self.url), LIMIT_SECONDS)

    def stop(self) -> list[str]:
        """Stop it as Ctrl-C does; return what it left running."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(120)
        with suppress(AssertionError):
            until(lambda: not of_home(self.home), 60)
        return list(of_home(self.home).values())


@dataclass
class User:
    """Who uploads, submits, exports and downloads, and goes on whenever the service is back."""

    url: str
    model: Path
    text: Path
    out: Path
    reached: dict[str, Event] = field(default_factory=lambda: {stage: Event() for stage in (*STAGES, "end")})
    job: str = ""
    error: BaseException | None = None

    def run(self) -> None:
        """Do all that; what went wrong is kept."""
        try:
            self._use()
        except BaseException as error:  # noqa: BLE001 (told by who waits)
            self.error = error
        finally:
            for event in self.reached.values():
                event.set()

    def _use(self) -> None:
        with Client(self.url) as client:
            self.reached["upload"].set()
            name = outlasting(lambda: client.upload(self.model))
            self.reached["job"].set()
            options = small_spec(self.model, self.text, max_trials=20).model_dump(mode="json")
            asked = {key: value for key, value in options.items() if key not in ("model", "budget")}
            job = outlasting(lambda: client.submit(name, options["budget"], **asked))
            self.job = job.job_id
            outlasting(job.wait)
            self.reached["export"].set()
            export = outlasting(job.export)
            outlasting(export.wait)
            self.reached["download"].set()
            outlasting(lambda: export.download(self.out))


def outlasting(verb: Callable[[], _Value]) -> _Value:
    """Return what a verb returns, asked again while the service is away."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        try:
            return verb()
        except (OutageError, httpx2.HTTPError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def wrong(home: Path, user: User, expected: Expected, left: list[str]) -> list[str]:
    """Return what is wrong with a home after a round."""
    store = open_store(f"sqlite:///{home}/tightfit.db")
    service = PlainService(Settings(home, f"sqlite:///{home}/tightfit.db", None))
    found = [f"still runs: {command}" for command in left]
    if user.error is not None:
        return [*found, f"the user met {user.error!r}"]
    jobs, tasks = store.list_jobs(), store.list_tasks()
    named = jobs[0].document.model if jobs and jobs[0].document else ""  # an upload has another name
    same = replace(expected, document=replace(expected.document, model=named))
    found += [f"{len(jobs)} jobs"] if len(jobs) != 1 else compare(service, user.job, same)
    seqs = [event.seq for event in store.list_events(user.job, limit=100_000)]
    if seqs != list(range(1, len(seqs) + 1)):
        found.append("events with gaps, or twice")
    bad = [task.task_id for task in tasks if task.state is not TaskState.DONE]
    found += [f"exports that are not done: {bad}"] if bad or not tasks else []
    folders = {str(path) for path in (home / "exports").iterdir()}
    if folders != {task.out for task in tasks}:
        found.append(f"exports on disk {sorted(folders)}, recorded {[task.out for task in tasks]}")
    whole = {path.name: path.read_bytes() for path in Path(tasks[0].out).iterdir()} if tasks else {}
    if whole != {path.name: path.read_bytes() for path in user.out.iterdir()} and len(tasks) == 1:
        found.append("what was downloaded is not what was exported")
    store.close()
    service.store.close()
    return found


def round_of(folder: Path, rng: random.Random, num_kills: int, model: Path, text: Path, expected: Expected) -> Any:
    """Return (kinds of kills, what is wrong) of one home that is used while its service is killed so many times."""
    home, kills = Path(tempfile.mkdtemp(prefix="home-", dir=folder)), Counter[str]()
    user_out = folder / f"{home.name}-files"
    served = Served(home, text.parent, free_port())
    served.start()
    user = User(served.url, model, text, user_out)
    thread = Thread(target=user.run, daemon=True)
    thread.start()
    stages = sorted((rng.choice(STAGES[:3]) for _ in range(num_kills)), key=STAGES.index)
    for stage in stages:
        user.reached[stage].wait(LIMIT_SECONDS)
        time.sleep(rng.uniform(0, _LONGEST_PAUSE[stage]))
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        at = next((name for name in reversed((*STAGES, "end")) if user.reached[name].is_set()), "upload")
        served.kill(kind)
        kills[f"{kind} at {at}"] += 1
        tell(kill=kind, at=at)
    thread.join(LIMIT_SECONDS)
    problems = ["the user is stuck"] if thread.is_alive() else []
    return kills, problems + wrong(home, user, expected, served.stop())


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def tell(**values: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps({"at_second": round(time.monotonic()), **values}), flush=True)


@contextmanager
def small_parts() -> Iterator[None]:
    """Send models in parts so small that kills meet them."""
    before, sending.PART_BYTES = sending.PART_BYTES, _PART_BYTES
    try:
        yield
    finally:
        sending.PART_BYTES = before


def run(num_kills: int, each: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Run rounds of so many kills each until enough were killed; return their kinds, and what was wrong."""
    rng, kills, problems = random.Random(seed), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory(prefix="tightfit-served-") as name, small_parts():
        folder = Path(name)
        (folder / "texts").mkdir()
        model, text = make_tiny(folder / "model", "tied"), write_text_file(folder / "texts" / "text.txt")
        service = open_service(folder / "undisturbed")
        job_id, document = run_job(service, small_spec(model, text, max_trials=20))
        expected = Expected(document, tuple(service.store.list_trials(job_id)))
        service.store.close()
        while kills.total() < num_kills and not problems:
            count = min(each, num_kills - kills.total())
            more, problems = round_of(folder, rng, count, model, text, expected)
            kills += more
            tell(kills=dict(more), problems=problems)
    return kills, problems


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--each", type=int, default=4, help="kills of one home")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kills, problems = run(options.kills, options.each, options.seed)
    tell(total=kills.total(), kills=dict(kills), problems=problems)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
