"""Events of jobs as streams: however many listen to a job, the database is asked once at a time."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from anyio import to_thread

from space.errors import AccessError, NotFoundError, OutageError, QuotaError
from storage.events import MAX_EVENTS, Event
from storage.store import Store

POLL_SECONDS = 0.5
PING_SECONDS = 15.0
"""A comment is sent after so long a silence, so that nobody on the way closes the stream."""
_RECENT = 500
ASK_AGAIN_SECONDS = 60.0
"""Until a stream's listener is looked at once more."""
MAX_STREAMS = 1000
"""that follow jobs at a time; each holds a connection"""
_Lines = tuple[int, bytes]  # an event's number, and what a stream says of it


def encoded(event: Event) -> bytes:
    """Return an event as the lines of a stream: its number as `id`, its kind as `event`, facts and time as `data`."""
    data = json.dumps({"job": event.job_id, "at": event.at.isoformat(), **event.facts}, allow_nan=False)
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()


@dataclass
class _Followed:
    """A job that somebody listens to: its newest events as (number, lines), and who reads them from the database."""

    last: int
    recent: deque[_Lines] = field(default_factory=lambda: deque(maxlen=_RECENT))
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    reader: "asyncio.Task[None] | None" = None
    num_listeners: int = 0
    is_gone: bool = False

    def since(self, seq: int) -> list[_Lines] | None:
        """Return the events after one; None where they go back further than is kept."""
        if seq >= self.last:
            return []
        kept = bool(self.recent) and self.recent[0][0] <= seq + 1
        return [lines for lines in self.recent if lines[0] > seq] if kept else None


async def as_long_as(known: Callable[[], object], stream: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Yield what a stream does until `known` raises AccessError, asked every now and then: a token may be revoked."""
    asked_at = time.monotonic()
    async with aclosing(stream):
        async for lines in stream:
            if time.monotonic() - asked_at >= ASK_AGAIN_SECONDS:
                try:
                    await to_thread.run_sync(known)
                except AccessError:
                    return
                asked_at = time.monotonic()
            yield lines


class EventStreams:
    """Follows jobs of a store, each as long as somebody listens."""

    def __init__(
        self,
        store: Store,
        poll_seconds: float = POLL_SECONDS,
        ping_seconds: float = PING_SECONDS,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Follow nobody yet; `changed` is called before anybody is told of new events."""
        self._store, self._poll, self._ping, self._changed = store, poll_seconds, ping_seconds, changed
        self._followed: dict[str, _Followed] = {}
        self._reading: dict[tuple[str, int], asyncio.Task[list[_Lines]]] = {}

    def check_room(self) -> None:
        """Raise QuotaError where as many streams follow jobs as may."""
        if sum(followed.num_listeners for followed in self._followed.values()) >= MAX_STREAMS:
            raise QuotaError(f"{MAX_STREAMS:,} streams follow jobs here, which is the most. Close some, or ask later.")

    async def stream(self, job_id: str, after: int, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield a job's events after a number, encoded, as many as there are at once; those to come too to follow."""
        seq = after
        while events := await self._read(job_id, seq):
            yield _joined(events)
            seq = events[-1][0]
        if not follow:
            return
        followed = self._listen(job_id, seq)
        try:
            while not followed.is_gone:
                found = followed.since(seq)
                events = await self._read(job_id, seq) if found is None else found
                if events:
                    yield _joined(events)
                    seq = events[-1][0]
                elif not await self._woken(followed, seq):
                    yield b": still here\n\n"
        finally:
            self._leave(job_id, followed)

    def _listen(self, job_id: str, seq: int) -> _Followed:
        followed = self._followed.get(job_id)
        if followed is None:
            followed = self._followed[job_id] = _Followed(seq)
            followed.reader = asyncio.create_task(self._follow(job_id, followed))
        followed.num_listeners += 1
        return followed

    def _leave(self, job_id: str, followed: _Followed) -> None:
        followed.num_listeners -= 1
        if followed.num_listeners == 0:
            if self._followed.get(job_id) is followed:
                del self._followed[job_id]
            if followed.reader is not None:
                followed.reader.cancel()

    async def _woken(self, followed: _Followed, seq: int) -> bool:
        """Wait for an event after a number; tell whether one came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ping), followed.changed:
                await followed.changed.wait_for(lambda: followed.last > seq or followed.is_gone)
                return True
        return False

    async def _follow(self, job_id: str, followed: _Followed) -> None:
        """Read a job's new events as they come, for all that listen."""
        while not followed.is_gone:
            await asyncio.sleep(self._poll)
            events: list[_Lines] = []
            try:
                events = await self._read(job_id, followed.last)
            except NotFoundError:  # deleted
                followed.is_gone = True
                self._changed()
            except OutageError:
                continue  # the database is away for a while
            if events or followed.is_gone:
                async with followed.changed:
                    followed.recent.extend(events)
                    followed.last = events[-1][0] if events else followed.last
                    followed.changed.notify_all()

    async def _read(self, job_id: str, after: int) -> list[_Lines]:
        """Return the events after a number; who asks for the same while it is read is given that."""
        key = (job_id, after)
        if key not in self._reading:
            self._reading[key] = asyncio.create_task(self._read_anew(job_id, after))
            self._reading[key].add_done_callback(lambda _: self._reading.pop(key))
        return await asyncio.shield(self._reading[key])

    async def _read_anew(self, job_id: str, after: int) -> list[_Lines]:
        found = await to_thread.run_sync(self._store.list_events, job_id, after, MAX_EVENTS)
        if found:
            self._changed()
        return [(event.seq, encoded(event)) for event in found]


def _joined(events: Sequence[_Lines]) -> bytes:
    return b"".join(lines for _, lines in events)
