"""News of the ends of jobs: signed, sent again with growing pauses, never to where nobody allowed."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from space.errors import AccessError, ForbiddenError, UsageError
from storage.records import JobState
from tests.http.conftest import Named, World
from tests.http.test_people import bearing
from tests.http.test_refusals_over_http import refused
from tightfit.http.api import ApiOptions
from tightfit.http.callers import Caller, Scope
from tightfit.webhooks.deliverer import PAUSES, Deliverer
from tightfit.webhooks.destinations import Destinations
from tightfit.webhooks.signing import check_webhook, new_secret, signature

HERE = Destinations(frozenset({"127.0.0.1"}))


@dataclass
class Receiver:
    """Keeps what it is sent, and answers as it is told."""

    url: str = ""
    status: int = 204
    location: str = "http://127.0.0.1:1/elsewhere"
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Give who hears news on a socket of this process."""
    found = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.received.append(({name.lower(): text for name, text in self.headers.items()}, body))
            self.send_response(found.status)
            self.send_header("Location", found.location)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_address[1]}/hook?a=b"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give who hears news."""
    with receiving() as found:
        yield found


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    """Give who asks an application of two users, and of which nothing is sent by itself."""
    gate = Named(a=Caller("ann", Scope.SUBMIT), b=Caller("bea", Scope.SUBMIT), r=Caller("ann", Scope.READ))
    app = world.client(gate, ApiOptions(webhook_hosts=["127.0.0.1"]))
    yield app  # not entered: the deliverer of the application is not started
    for hook in world.service.store.list_webhooks():
        world.service.store.delete_webhook(hook.hook_id)


def ended_job(world: World, user: str) -> str:
    """Return a new job of a user that failed."""
    store = world.service.store
    job_id = f"jhook{len(store.list_overviews())}"
    store.create_job(job_id, store.glance(world.done).spec, user)
    store.set_job_state(job_id, JobState.FAILED, "the disk is full")
    return job_id


def test_the_end_of_a_job_is_told_once(world: World, client: TestClient, receiver: Receiver) -> None:
    """To its user's address, signed; of others' jobs and of those that ended before nothing is told."""
    before = ended_job(world, "ann")
    made = client.post("/v1/webhooks", json={"url": receiver.url}, headers=bearing("a")).json()
    assert "secret" not in client.get("/v1/webhooks", headers=bearing("a")).text
    deliverer = Deliverer(world.service.store, HERE)
    job, _ = ended_job(world, "ann"), ended_job(world, "bea")
    deliverer.look()
    deliverer.look()
    ((headers, body),) = receiver.received
    value, now = json.loads(body), datetime.now(UTC).timestamp()
    assert (value["type"], value["data"]["job"], value["data"]["state"]) == ("job.ended", job, "FAILED")
    assert value["data"]["error"] == "the disk is full"
    assert job != before
    delivery_id = check_webhook(made["secret"], headers, body, now)
    told = client.get(f"/v1/webhooks/{made['webhook']}/deliveries", headers=bearing("a")).json()["deliveries"]
    assert [(d["delivery"], d["job"], d["attempts"], d["error"]) for d in told] == [(delivery_id, job, 1, None)]
    assert told[0]["delivered_at"] is not None
    for changed, words in (
        ({"seen": {delivery_id}}, "received before"),
        ({"now": now + 301}, "more than 5 minutes"),
        ({"now": now - 301}, "more than 5 minutes"),
        ({"body": body + b" "}, "signature is not"),
        ({"secret": new_secret()}, "signature is not"),
        ({"headers": headers | {"webhook-timestamp": str(int(now) + 5)}}, "signature is not"),
        ({"headers": {}}, "signature is not"),
    ):
        asked: dict[str, Any] = {"secret": made["secret"], "headers": headers, "body": body, "now": now} | changed
        with pytest.raises(AccessError, match=words):
            check_webhook(**asked)


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the libraries of standardwebhooks.com."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    told = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert told == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_fails_is_sent_again(world: World, client: TestClient, receiver: Receiver, status: int) -> None:
    """After growing pauses, by a service that was started anew meanwhile too; a redirect leads nowhere."""
    receiver.status, now = status, datetime.now(UTC)
    made = client.post("/v1/webhooks", json={"url": receiver.url}, headers=bearing("a")).json()
    ended_job(world, "ann")
    store = world.service.store
    Deliverer(store, HERE).look()
    (news,) = store.list_deliveries(made["webhook"])
    assert (news.attempts, news.error) == (1, f"it answered {status}")
    Deliverer(store, HERE).look()
    assert len(receiver.received) == 1, "it is not yet time"
    for number, pause in enumerate(PAUSES[:3], start=2):
        now += pause + timedelta(seconds=5)
        Deliverer(store, HERE, now=lambda at=now: at).look()  # type: ignore[misc]
        assert len(receiver.received) == number
    receiver.status = 200
    Deliverer(store, HERE, now=lambda: now + PAUSES[3] + timedelta(seconds=5)).look()
    (news,) = store.list_deliveries(made["webhook"])
    assert (news.attempts, news.error, news.next_at) == (5, None, None)
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1


def test_it_is_given_up_in_the_end(world: World, client: TestClient) -> None:
    """After the last pause; and of a job that was deleted nothing is told."""
    made = client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/"}, headers=bearing("a")).json()
    job, store = ended_job(world, "ann"), world.service.store
    Deliverer(store, HERE).look()
    (news,) = store.list_deliveries(made["webhook"])
    assert "refused" in str(news.error)
    store.put_delivery(replace(news, attempts=len(PAUSES), next_at=datetime.now(UTC)))
    Deliverer(store, HERE).look()
    (news,) = store.list_deliveries(made["webhook"])
    assert (news.attempts, news.next_at, news.delivered_at) == (len(PAUSES) + 1, None, None)
    other = ended_job(world, "ann")
    Deliverer(store, HERE).look()
    store.delete_job(other)
    Deliverer(store, HERE, now=lambda: datetime.now(UTC) + timedelta(days=1)).look()
    assert {news.job_id: news.error for news in store.list_deliveries(made["webhook"])}[other] == "the job was deleted"
    assert job != other


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("http://localhost:8642/v1/jobs", ForbiddenError, "no public address"),
        ("http://127.0.0.1/", ForbiddenError, "no public address"),
        ("http://[::1]/", ForbiddenError, "no public address"),
        ("http://[::ffff:127.0.0.1]/", ForbiddenError, "no public address"),
        ("http://0.0.0.0/", ForbiddenError, "no public address"),
        ("http://10.1.2.3/", ForbiddenError, "no public address"),
        ("http://169.254.169.254/latest/meta-data", ForbiddenError, "no public address"),
        ("http://2130706433/", ForbiddenError, "no public address"),
        ("http://0x7f.1/", ForbiddenError, "no public address"),
        ("file:///etc/passwd", UsageError, "write an address"),
        ("gopher://127.0.0.1/", UsageError, "write an address"),
        ("http://a:b@127.0.0.1/", UsageError, "leave name and password out"),
        ("http://127.0.0.1/\r\nX: y", UsageError, "write an address"),
        ("http://127.0.0.1:99999/", UsageError, "no address"),
        ("nothing", UsageError, "write an address"),
    ],
)
def test_where_news_is_never_sent(url: str, error: type[Exception], words: str) -> None:
    """To this machine, its network, the keys of a cloud, whatever they are written as; nor in another protocol."""
    for verb in (Destinations().check, lambda at: Destinations().send(at, b"", {})):
        with pytest.raises(error, match=words):
            verb(url)


def test_a_name_that_leads_elsewhere_later(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is judged again before each attempt, and the connection goes to the address that was judged."""
    answers = iter(["8.8.8.8", "127.0.0.1"])
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (next(answers), 0))])
    Destinations().check("http://rebinding.example/")
    with pytest.raises(ForbiddenError, match="no public address"):
        Destinations().send("http://rebinding.example/", b"", {})
    assert not receiver.received


def test_webhooks_are_of_who_makes_them(world: World, client: TestClient, receiver: Receiver) -> None:
    """Nobody else sees or deletes one; a few for each; who only reads makes none."""
    made = client.post("/v1/webhooks", json={"url": receiver.url}, headers=bearing("a")).json()
    path = f"/v1/webhooks/{made['webhook']}"
    refused(client.post("/v1/webhooks", json={"url": "http://10.0.0.1/"}, headers=bearing("a")), 403, "no public")
    refused(client.post("/v1/webhooks", json={"url": receiver.url}, headers=bearing("r")), 403, "scope `submit`")
    refused(client.delete(path, headers=bearing("b")), 404, "of yours")
    refused(client.get(f"{path}/deliveries", headers=bearing("b")), 404, "of yours")
    assert client.get("/v1/webhooks", headers=bearing("b")).json() == {"webhooks": []}
    for _ in range(9):
        assert client.post("/v1/webhooks", json={"url": receiver.url}, headers=bearing("a")).status_code == 201
    refused(client.post("/v1/webhooks", json={"url": receiver.url}, headers=bearing("a")), 429, "which is the most")
    assert client.delete(path, headers=bearing("a")).status_code == 204
    refused(client.delete(path, headers=bearing("a")), 404, "of yours")
    assert world.service.store.list_deliveries(made["webhook"]) == []


def test_a_service_tells_by_itself(world: World, receiver: Receiver) -> None:
    """As long as it runs."""
    options = ApiOptions(webhook_hosts=["127.0.0.1"])
    with world.client(Named(a=Caller("ann", Scope.SUBMIT)), options) as client:
        made = client.post("/v1/webhooks", json={"url": receiver.url}, headers=bearing("a")).json()
        ended_job(world, "ann")
        for _ in range(600):
            if receiver.received:
                break
            threading.Event().wait(0.1)
        client.delete(f"/v1/webhooks/{made['webhook']}", headers=bearing("a"))
    assert receiver.received
