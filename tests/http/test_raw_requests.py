"""Requests that no client sends, on real sockets: slow ones, ambiguous ones, too many."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.http.conftest import World
from tests.http.test_clients import answering

_LONG = 60.0
KEPT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
GOOD = KEPT.replace(b"localhost\r\n", b"localhost\r\nConnection: close\r\n")


@pytest.fixture
def place(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Give where a service listens that is less patient than usual."""
    monkeypatch.setattr("tightfit.http.http_server.HEAD_SECONDS", 0.5)
    monkeypatch.setattr("tightfit.http.guards.BODY_SECONDS", 0.5)
    with answering(world) as url:
        yield "127.0.0.1", int(url.rpartition(":")[2])


def answer_to(place: tuple[str, int], *parts: bytes) -> bytes:
    """Send parts of a request, the last one over and over; return all that is answered until the connection ends."""
    with socket.create_connection(place, timeout=_LONG) as connection:
        for part in parts:
            connection.sendall(part)
        found, deadline = b"", time.monotonic() + _LONG
        connection.settimeout(0.05)
        while True:
            assert time.monotonic() < deadline
            try:
                if not (more := connection.recv(65536)):
                    return found
                found += more
            except TimeoutError:
                try:
                    connection.sendall(parts[-1])
                except OSError:
                    return found
            except OSError:
                return found


def statuses(answers: bytes) -> list[int]:
    """Return the status of each answer in what came over a connection."""
    return [int(part.split()[0]) for part in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (KEPT, b"G"),
    ],
    ids=["nothing", "head", "body", "chunks", "second head"],
)
def test_who_sends_drop_by_drop_is_cut_off(place: tuple[str, int], parts: tuple[bytes, ...]) -> None:
    """A head, a body, a second head that never ends; nobody else waits for it."""
    found = answer_to(place, *parts)
    expected = [408] if b"POST" in parts[0] else [200] if parts[0] == KEPT else []
    assert statuses(found) == expected
    assert statuses(answer_to(place, GOOD, b"")) == [200]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nContent-Length: 40\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 4\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Host: elsewhere\r\n",
    ],
)
def test_a_request_with_two_meanings_is_refused(place: tuple[str, int], head: bytes) -> None:
    """What two servers could cut at different places: none of its parts is taken for a request."""
    request = b"POST /v1/session HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n0\r\n\r\n" + GOOD
    found = answer_to(place, request, b"")
    assert statuses(found)[0] in (400, 501)
    assert b'"status":"ok"' not in found


def test_chunks_are_stronger_than_a_length(place: tuple[str, int]) -> None:
    """As RFC 9112 has it: what stands behind the last chunk is the next request, by whatever length."""
    head = b"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = answer_to(place, head + b"0\r\n\r\n" + GOOD, b"")
    assert statuses(found) in ([422, 200], [400])


def test_a_target_does_not_say_whom_it_is_for(place: tuple[str, int]) -> None:
    """`Host` does, and a foreign one is refused whatever the target says."""
    found = answer_to(place, b"GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"")
    assert statuses(found) == [403]


def test_streams_are_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than may follow jobs is told so; who reads what there is without staying is let in."""
    monkeypatch.setattr("tightfit.http.event_streams.MAX_STREAMS", 0)
    with world.client() as client:
        path = f"/v1/jobs/{world.done}/events"
        refused = client.get(path)
        assert (refused.status_code, json.loads(refused.text)["type"]) == (429, "urn:tightfit:quota")
        assert client.get(f"{path}?follow=false").status_code == 200
