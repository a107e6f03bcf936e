"""What is refused before any resource hears of it: foreign hosts and pages, bodies that are too large or no JSON."""

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from space.budget import format_bytes
from space.errors import ForbiddenError, TightfitError, TooLargeError
from space.parsing.strict_json import parse_json
from space.parsing.toml_text import parse_toml
from tightfit.http.problems import answer, problem_of

LOOPBACK = ("127.0.0.1", "localhost", "::1")
BODY_SECONDS = 60.0
"""Until the whole of a body is there."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""of every answer that has none of its own"""


@dataclass(frozen=True, slots=True)
class Guard:
    """An ASGI application around another one.

    Attributes:
        app: what hears of requests that pass.
        hosts: names that a request may be addressed to: any other one is a name of somebody else for this address.
        max_body_bytes: of a request.
        streams: addresses whose bodies are passed on unread: their resources know first who sends, and how much.

    """

    app: ASGIApp
    hosts: frozenset[str]
    max_body_bytes: int
    streams: re.Pattern[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sending = _with_headers(send)
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            self._check_origin(scope, headers)
            if scope["method"] == "PUT" and self.streams.fullmatch(scope["path"]):
                await self.app(scope, receive, sending)
                return
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(headers, receive)
            if _is_of(headers, "toml") and body:
                body = _as_json(scope, body)
            elif _is_of(headers, "json") and body:
                parse_json(body)
        except TightfitError as error:
            await problem_of(error)(scope, receive, sending)
        except TimeoutError:
            told = f"The body did not come within {BODY_SECONDS:.0f} s. Send the request again."
            await answer(408, told, kind="slow")(scope, receive, sending)
        except ValueError as error:
            told = f"The body is no {'TOML' if _is_of(headers, 'toml') else 'JSON'} that can be used ({error}). "
            told += "Send one JSON value in UTF-8, or TOML as application/toml."
            await answer(400, told, kind="json")(scope, receive, sending)
        else:
            await self.app(scope, _Again(body, receive), sending)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if _name_of(host) not in self.hosts:
            raise ForbiddenError(
                f"This service is not {host[:100]!a}. Use one of {', '.join(sorted(self.hosts))}; "
                "`tightfit serve --allow-host NAME` adds one."
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what a page of another site has a browser send."""
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != headers.get("host")
        site = headers.get("sec-fetch-site", "none")
        if foreign or (site not in ("none", "same-origin") and scope["method"] not in _SAFE):
            raise ForbiddenError(f"A page of {(origin or 'another site')[:100]!a} may not ask this service.")

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Return the body, read to the end."""
        too_large = TooLargeError(
            f"The request is larger than {format_bytes(self.max_body_bytes)}, which is the most. Send less."
        )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_body_bytes:
            raise too_large
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_body_bytes:
                raise too_large
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)


class _Again:
    """Gives a body that was read once more, then what comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def allowed_hosts(bound_to: str, more: Iterable[str] = ()) -> frozenset[str]:
    """Return the names that a service may be called by, of the address that it is bound to and others."""
    return frozenset(name.lower() for name in (*LOOPBACK, bound_to, *more) if name not in ("0.0.0.0", "::"))  # noqa: S104 (left out)


def _name_of(host: str) -> str:
    """Return a Host header's name without its port.

    >>> [_name_of(h) for h in ("localhost:80", "[::1]:80", "::1", "a.b", "")]
    ['localhost', '::1', '::1', 'a.b', '']
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return (host if host.count(":") > 1 else host.partition(":")[0]).lower()


def _is_of(headers: Headers, kind: str) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower().endswith(kind)


def _as_json(scope: Scope, body: bytes) -> bytes:
    """Return a body of TOML as JSON, and have the request say so. Raises ValueError where it cannot be read."""
    found = json.dumps(parse_toml(body.decode()), allow_nan=False).encode()
    headers = MutableHeaders(scope=scope)
    headers["content-type"], headers["content-length"] = "application/json", str(len(found))
    return found


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
