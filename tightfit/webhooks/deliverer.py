"""Tells addresses of the ends of jobs: what is to be told stands in the database, so that a restart forgets nothing.

News is sent at least once. Its id is the same for the same end of the same job, so that who hears it twice knows.
"""

import http.client
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from space.digest import digest
from space.errors import TightfitError
from storage.job_summary import Overview
from storage.people import Delivery, Webhook
from storage.store import Store
from tightfit.jobs.job_status import JobStatus
from tightfit.webhooks.destinations import Destinations
from tightfit.webhooks.signing import signature

POLL_SECONDS = 2.0
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (10, 60, 300, 1800, 7200, 21600, 43200))
"""between attempts; after the last one it is given up"""
_GOOD = range(200, 300)
_AT_ONCE, _DIGITS = 4, 24
_OF_NEWS = (
    "job",
    "state",
    "user",
    "label",
    "model",
    "budget",
    "error",
    "finished_at",
    "best_kl_divergence",
    "recommended",
)
_log = logging.getLogger("tightfit.webhooks")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Deliverer:
    """Tells what is due.

    Attributes:
        store: of jobs, addresses and news.
        destinations: judges addresses, and sends.
        now: the clock, UTC.

    """

    store: Store
    destinations: Destinations
    now: Callable[[], datetime] = _now
    _ended: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def start(self) -> None:
        """Tell what is due in a thread of its own, until the end."""
        self._thread = Thread(target=self._work, name="tightfit-webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after what is being sent."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Note the ends of jobs that are new, and send what is due."""
        hooks = {hook.hook_id: hook for hook in self.store.list_webhooks()}
        if not hooks:
            return
        jobs = {job.job_id: job for job in self.store.list_overviews()}
        known = {news.delivery_id for news in self.store.list_deliveries()}
        for hook in hooks.values():
            for job in jobs.values():
                news = _news(hook, job)
                if news is not None and news.delivery_id not in known:
                    self.store.add_delivery(news)
        now = self.now()
        due = [
            d for d in self.store.list_deliveries() if d.next_at is not None and d.next_at <= now and d.hook_id in hooks
        ]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda news: self._send(hooks[news.hook_id], jobs.get(news.job_id), news), due))

    def _work(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            try:
                self.look()
            except TightfitError as error:  # the database is away, say: it is looked again
                _log.warning("Webhooks: %s", error)

    def _send(self, hook: Webhook, job: Overview | None, news: Delivery) -> None:
        if job is None:  # it was deleted since
            self.store.put_delivery(replace(news, next_at=None, error="the job was deleted"))
            return
        error = self._tried(hook, job, news)
        told = replace(news, attempts=news.attempts + 1, error=error)
        if error is None:
            told = replace(told, delivered_at=self.now(), next_at=None)
        else:
            pause = PAUSES[news.attempts] if news.attempts < len(PAUSES) else None
            told = replace(told, next_at=None if pause is None else self.now() + pause)
        self.store.put_delivery(told)

    def _tried(self, hook: Webhook, job: Overview, news: Delivery) -> str | None:
        """Send news once; return why that failed, or None."""
        told = JobStatus(job).to_json()
        value = {"type": "job.ended", "timestamp": told["finished_at"], "data": {name: told[name] for name in _OF_NEWS}}
        body, timestamp = json.dumps(value).encode(), int(self.now().timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tightfit",
            "webhook-id": news.delivery_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(hook.secret, news.delivery_id, timestamp, body),
        }
        try:
            status = self.destinations.send(hook.url, body, headers)
        except (TightfitError, OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        return None if status in _GOOD else f"it answered {status}"


def _news(hook: Webhook, job: Overview) -> Delivery | None:
    """Return what an address is to hear of a job; None where there is nothing."""
    ended = job.finished_at
    if not job.state.is_finished or ended is None or job.user != hook.user or ended < hook.created_at:
        return None
    name = digest([hook.hook_id, job.job_id, ended.isoformat()])[:_DIGITS]
    return Delivery(f"msg_{name}", hook.hook_id, job.job_id, ended, next_at=ended)
