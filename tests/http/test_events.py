"""Streams of events: whole, in order, resumed where one left off, and cheap for the database."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from space.errors import AccessError, QuotaError
from storage.events import Event
from storage.in_memory import MemoryStore
from storage.records import JobState
from tests.http.conftest import World
from tests.storage.values import spec
from tightfit.http.event_streams import EventStreams, as_long_as


def read(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Return the (number, kind, data) of a stream's events."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def test_a_stream_tells_all_that_happened(world: World, client: TestClient) -> None:
    """As the records have it; from a number on where one left off, by a header or a parameter."""
    path = f"/v1/jobs/{world.done}/events?follow=false"
    answer = client.get(path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = world.service.store.list_events(world.done)
    found = read(answer.text)
    assert [(number, kind) for number, kind, _ in found] == [(e.seq, str(e.kind)) for e in events]
    assert found[-1][2] == {"job": world.done, "at": events[-1].at.isoformat(), **events[-1].facts}
    half = len(events) // 2
    assert read(client.get(f"{path}&after={half}").text) == found[half:]
    assert read(client.get(f"{path}&after=1", headers={"last-event-id": str(half)}).text) == found[half:]
    assert client.get(f"{path}&after={len(events)}").text == ""
    assert client.get(path, headers={"last-event-id": "x"}).status_code == 422
    assert client.get("/v1/jobs/nobody/events").status_code == 404


class Asked(MemoryStore):
    """Counts how often it is asked for events."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def list_events(self, *args: Any, **values: Any) -> Any:
        """Count, and answer."""
        self.count += 1
        return super().list_events(*args, **values)


def run(scenario: "Callable[[Asked, EventStreams], Any]", **values: Any) -> Asked:
    """Run a scenario with a store that has job "one"."""
    store = Asked()
    store.create_job("one", spec())
    asyncio.run(asyncio.wait_for(scenario(store, EventStreams(store, **values)), 60))
    return store


def is_full(streams: EventStreams) -> bool:
    """Tell whether as many streams follow jobs as may."""
    try:
        streams.check_room()
    except QuotaError:
        return True
    return False


async def some(stream: AsyncIterator[bytes], count: int) -> list[int]:
    """Return the numbers of a stream's next events, so many and those that came with them."""
    found: list[int] = []
    while len(found) < count:
        found += [number for number, _, _ in read((await anext(stream)).decode())]
    return found


def test_who_follows_hears_what_happens_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many listeners, each from where it left off, none misses any; the database is asked by one for all."""

    async def scenario(store: Asked, streams: EventStreams) -> None:
        listeners = [streams.stream("one", after, follow=True) for after in (0, 0, 1) * 20]
        begin = [asyncio.create_task(some(listener, 3 - index % 3 // 2)) for index, listener in enumerate(listeners)]
        monkeypatch.setattr("tightfit.http.event_streams.MAX_STREAMS", len(listeners))
        while not is_full(streams):  # noqa: ASYNC110 (until all of them follow)
            await asyncio.sleep(0.05)
        store.update_job("one", phase="text")
        store.update_job("one", phase="levels")
        assert [await task for task in begin] == [[1, 2, 3], [1, 2, 3], [2, 3]] * 20
        asked, began = store.count, time.monotonic()
        more = [asyncio.create_task(some(listener, 1)) for listener in listeners]
        await asyncio.sleep(0.3)
        store.set_job_state("one", JobState.RUNNING)
        assert [await task for task in more] == [[4]] * 60
        looks = (time.monotonic() - began) / 0.05  # of one reader; 60 of them would look 60 times as often
        assert store.count - asked < 20 + 2 * looks
        for listener in listeners:
            await listener.aclose()
        asked = store.count
        await asyncio.sleep(0.3)
        assert store.count == asked  # nobody listens, nobody asks

    run(scenario, poll_seconds=0.05)


def test_a_silent_stream_says_that_it_is_there() -> None:
    """With comments, which are no events."""

    async def scenario(_: Asked, streams: EventStreams) -> None:
        stream = streams.stream("one", 1, follow=True)
        assert [await anext(stream) for _ in range(2)] == [b": still here\n\n"] * 2

    run(scenario, poll_seconds=0.01, ping_seconds=0.05)


def test_a_stream_ends_once_its_token_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for again now and then; nobody follows the job for who is not known any more."""
    monkeypatch.setattr("tightfit.http.event_streams.ASK_AGAIN_SECONDS", 0.0)
    answers: list[Exception | None] = [None, None, AccessError("This token is not good.")]

    def known() -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    async def scenario(_: Asked, streams: EventStreams) -> None:
        monkeypatch.setattr("tightfit.http.event_streams.MAX_STREAMS", 1)
        told = as_long_as(known, streams.stream("one", 0, follow=True))
        assert read((await anext(told)).decode())[0][0] == 1
        assert await anext(told) == b": still here\n\n"
        assert is_full(streams)
        assert await anext(told, None) is None
        assert not is_full(streams)

    run(scenario, poll_seconds=0.01, ping_seconds=0.05)


def test_a_slow_listener_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no longer kept for all is read for one."""
    monkeypatch.setattr("tightfit.http.event_streams._RECENT", 3)

    async def scenario(store: Asked, streams: EventStreams) -> None:
        slow, fast = streams.stream("one", 0, follow=True), streams.stream("one", 0, follow=True)
        waiting = asyncio.create_task(some(fast, 21))
        assert await some(slow, 1) == [1]
        later = asyncio.create_task(some(slow, 20))
        await asyncio.sleep(0.1)
        for number in range(20):
            store.update_job("one", phase=str(number))
        assert await waiting == list(range(1, 22))
        assert await later == list(range(2, 22))

    run(scenario, poll_seconds=0.01)


def test_the_stream_of_a_deleted_job_ends() -> None:
    """And does not wait for ever."""

    async def scenario(store: Asked, streams: EventStreams) -> None:
        stream = streams.stream("one", 1, follow=True)
        rest = asyncio.create_task(anext(stream, None))
        await asyncio.sleep(0.1)
        store.request_cancel("one")
        assert read((await rest or b"").decode())[0][2]["state"] == "CANCELLED"
        store.delete_job("one")
        assert await anext(stream, None) is None

    run(scenario, poll_seconds=0.01)


def test_events_are_lines_that_browsers_read() -> None:
    """No text of ours breaks out of its line."""
    store = MemoryStore()
    store.create_job("one", spec())
    store.update_job("one", phase="a\nevent: evil\r\n\u2028b")
    (event,) = [e for e in store.list_events("one") if e.kind == "phase"]
    assert isinstance(event, Event)
    from tightfit.http.event_streams import encoded

    assert encoded(event).count(b"\n") == 4
    assert read(encoded(event).decode())[0][2]["phase"] == event.facts["phase"]
