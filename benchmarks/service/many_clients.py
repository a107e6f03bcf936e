"""200 clients beside a job on one worker: errors, times of reads, and what it costs the job.

python -m benchmarks.service.many_clients

Each client reads every 2 s, status and front in turn, and has one stream of events open. One search goes on all the
time: without clients, with them for 60 s, without them again; its rate of trials with them is held against the mean of
both others. Alone on a machine it takes about four minutes. Results: `benchmarks/results/service/many_clients.json`.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from benchmarks.service.serving import Serving, serving
from storage.events import EventKind
from storage.sql.sql_store import SqlStore

RESULTS = Path(__file__).resolve().parents[1] / "results" / "service" / "many_clients.json"
READ_EVERY = 2.0
SPEC = {
    "model": "bundled",
    "budget": "60%",
    "calibration": "python-stdlib",
    "sampler": "random",
    "max_trials": 100_000,
    "workers": 1,
}
_FIRST_TRIALS, _START_SECONDS = 10, 900.0


@dataclass
class Seen:
    """What all clients together saw."""

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    num_events: int = 0

    def told(self) -> dict[str, Any]:
        """Return the figures."""
        took = sorted(self.seconds)
        shares = {"p50_ms": 0.50, "p90_ms": 0.90, "p99_ms": 0.99}
        times = {name: round(1e3 * took[int(share * (len(took) - 1))], 1) for name, share in shares.items()}
        most = round(1e3 * took[-1], 1)
        return {"reads": len(took), **times, "max_ms": most, "events": self.num_events, "errors": dict(self.errors)}


@dataclass(frozen=True)
class Clients:
    """Clients of a job that share an event loop; plain sockets, since the machine is the server's and the job's too."""

    url: str
    job: str
    seen: Seen

    async def run(self, count: int, seconds: float) -> None:
        """Be so many clients for so long."""
        streams = [asyncio.create_task(self._listen()) for _ in range(count)]
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._read(READ_EVERY * number / count, number, end) for number in range(count)))
        for stream in streams:
            if stream.done():
                self.seen.errors["a stream ended"] += 1
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    async def _asked(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
        place = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        return reader, writer, await self._ask(reader, writer, path)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
        """Send a request on a connection; return the length of its answer, which is read up to its body."""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        if " 200 " not in head[0]:
            self.seen.errors[head[0]] += 1
        return next((int(line.split(":")[1]) for line in head if line.startswith("content-length:")), 0)

    async def _read(self, after: float, number: int, end: float) -> None:
        """Read status and front in turn until the end, on one connection."""
        await asyncio.sleep(after)
        paths = (f"/v1/jobs/{self.job}", f"/v1/jobs/{self.job}/front")
        writer = None
        while time.monotonic() < end:
            number, began = number + 1, time.monotonic()
            try:
                if writer is None:
                    reader, writer, length = await self._asked(paths[number % 2])
                else:
                    length = await self._ask(reader, writer, paths[number % 2])
                json.loads(await reader.readexactly(length))
            except (OSError, EOFError, ValueError) as error:
                self.seen.errors[f"read: {error!r}"] += 1
                writer = None
            self.seen.seconds.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, began + READ_EVERY - time.monotonic()))
        if writer is not None:
            writer.close()

    async def _listen(self) -> None:
        """Follow the job, and count each event that is out of turn as an error."""
        reader, writer, _ = await self._asked(f"/v1/jobs/{self.job}/events")
        last = 0
        with suppress(asyncio.CancelledError):
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    number = int(line[4:])
                    if number != last + 1:
                        self.seen.errors["an event out of turn"] += 1
                    self.seen.num_events, last = self.seen.num_events + 1, number
        writer.close()


def trial_times(store: SqlStore, job: str, after: int) -> tuple[list[float], int]:
    """Return when trials behind an event ended, in seconds, and the number of the last event."""
    found = []
    while events := store.list_events(job, after):
        found += [event.at.timestamp() for event in events if event.kind is EventKind.TRIAL]
        after = events[-1].seq
    return found, after


def window(store: SqlStore, job: str, seconds: float, clients: Clients | None = None, count: int = 0) -> float:
    """Return the rate of trials (1/s) over a while, with clients or without."""
    _, last = trial_times(store, job, 0)
    if clients is None:
        time.sleep(seconds)
    else:
        asyncio.run(clients.run(count, seconds))
    times, _ = trial_times(store, job, last)
    return (len(times) - 1) / (times[-1] - times[0])


def started(service: Serving, store: SqlStore) -> str:
    """Return a job whose trials have begun."""
    with httpx2.Client(base_url=service.url, timeout=300) as client:
        job: str = client.post("/v1/jobs", json=SPEC).raise_for_status().json()["job"]
        deadline = time.monotonic() + _START_SECONDS
        while len(trial_times(store, job, 0)[0]) < _FIRST_TRIALS or client.get(f"/v1/jobs/{job}/front").is_error:
            if time.monotonic() > deadline:
                raise TimeoutError(client.get(f"/v1/jobs/{job}").text)
            time.sleep(1)
    return job


def run(home: Path, count: int, seconds: float) -> dict[str, Any]:
    """Return the figures."""
    store = SqlStore(f"sqlite:///{home}/tightfit.db")
    runs = f"sqlite:///{home}/runs.db"  # MLflow's server is not what is measured
    with serving(TIGHTFIT_HOME=str(home), TIGHTFIT_DATABASE_URL="", MLFLOW_TRACKING_URI=runs) as service:
        job, seen = started(service, store), Seen()
        before = window(store, job, seconds)
        cpu = service.cpu_seconds("http_server")
        during = window(store, job, seconds, Clients(service.url, job, seen), count)
        cpu = service.cpu_seconds("http_server") - cpu
        after = window(store, job, seconds)
        store.request_cancel(job)
    rates = {"before": before, "with_clients": during, "after": after}
    return {
        **seen.told(),
        "api_cpu_share": cpu / seconds,
        "trials_per_second": rates,
        "rate_ratio": during / ((before + after) / 2),
    }


def main() -> None:
    """Measure, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        found = run(home, asked.clients, asked.seconds)
    told = {"clients": asked.clients, "seconds": asked.seconds, "cpus": os.cpu_count(), **found}
    asked.out.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
