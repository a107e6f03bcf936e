"""Asking a service: one question after the other, streams, and downloads that go on where they broke off."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx2

from tightfit.client.wire import checked, connection, error_of, unreachable


class Asking:
    """A connection to a service; who asks knows its addresses."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Know where the service is; nothing is asked yet.

        Args:
            url: of the service; None: TIGHTFIT_URL, or that of `tightfit serve` on this machine.
            token: None: TIGHTFIT_TOKEN, or none, which does on loopback.

        """
        self._http = httpx2.Client(**connection(url, token))
        weakref.finalize(self, self._http.close)  # where nobody did so

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON that the service answers. Raises what it tells of; OutageError where it is not there."""
        try:
            return checked(self._http.request(method, path, **options))
        except httpx2.HTTPError as error:
            raise unreachable(self._http.base_url, error) from error

    def lines(self, path: str, **params: Any) -> Iterator[str]:
        """Yield the lines of a stream."""
        try:
            with self._http.stream("GET", path, params=params) as answer:
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer)
                yield from answer.iter_lines()
        except httpx2.HTTPError as error:
            raise unreachable(self._http.base_url, error) from error

    def download(self, path: str, file: Path) -> None:
        """Write what an address gives to a file; what is there already is not asked for again."""
        start = file.stat().st_size if file.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self._http.stream("GET", path, headers=headers) as answer:
                if answer.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
                    return  # it is whole
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer)
                with file.open("ab" if answer.status_code == httpx2.codes.PARTIAL_CONTENT else "wb") as out:
                    for part in answer.iter_bytes():
                        out.write(part)
        except httpx2.HTTPError as error:
            raise unreachable(self._http.base_url, error) from error

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
