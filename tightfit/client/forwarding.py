"""Requests that are passed on to a server of this machine, and its answers back, in parts."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

import httpx2

from space.errors import OutageError

_SECONDS, _CONNECT_SECONDS = 120.0, 5.0
_HOP = (  # of one connection alone (RFC 9110, 7.6.1), and what the other side shall not know
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "host", "content-length", "authorization", "cookie", "origin", "referer", "forwarded"),
)
_NOT_BACK = ("connection", "keep-alive", "transfer-encoding", "set-cookie", "server", "date", "content-security-policy")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """An answer that begins to come.

    Attributes:
        status: HTTP status.
        headers: those that may be passed on.
        parts: its body as it comes; read to the end or closed, whichever is first.

    """

    status: int
    headers: Mapping[str, str]
    parts: AsyncIterator[bytes]


class Forwarding:
    """Passes requests on; who asks has no say in where to."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(_SECONDS, connect=_CONNECT_SECONDS), trust_env=False, follow_redirects=False
        )

    async def forward(
        self, base: str, method: str, path: str, query: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Forwarded:
        """Return what a server at `base` answers to a request for a path of it. Raises OutageError."""
        url = httpx2.URL(base).copy_with(raw_path=f"{path}?{query}".encode() if query else path.encode())
        sent = [(name, text) for name, text in headers if not name.lower().startswith(("x-", *_HOP))]
        request = self._http.build_request(method, url, headers=sent, content=body or None)
        try:
            answer = await self._http.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise OutageError(f"MLflow does not answer ({error}). It may still be starting; try again.") from error
        told = {name: text for name, text in answer.headers.items() if name.lower() not in _NOT_BACK}
        return Forwarded(answer.status_code, told, _parts(answer))

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()


async def _parts(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()
