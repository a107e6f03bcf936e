"""Where news may be sent: to public addresses, and to hosts that the service's owner allows.

A name is looked up anew before each attempt, and the connection goes to the address that was judged: a name that leads
elsewhere a moment later leads nowhere. Redirects are not followed.
"""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from space.errors import ForbiddenError, UsageError

_SECONDS = 10.0
_MAX_ANSWER_BYTES = 1024
_PORTS = {"https": 443, "http": 80}
_MOST_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Destinations:
    """Judges addresses.

    Attributes:
        allowed: hosts, as addresses name them, that may be private ones.

    """

    allowed: frozenset[str] = frozenset()

    def check(self, url: str) -> str:
        """Return an address that news may be sent to.

        Raises:
            UsageError: it cannot be used.
            ForbiddenError: it is, or its name leads to, a private one that nobody allowed.

        """
        self._judged(_parts(url))
        return url

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post news to an address; return the status of its answer.

        Raises:
            UsageError, ForbiddenError: see `check`.
            OSError, http.client.HTTPException: it cannot be reached, or does not answer as it should.

        """
        parts = _parts(url)
        address = self._judged(parts)
        host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        connected = socket.create_connection((address, port), _SECONDS)
        try:
            if parts.scheme == "https":
                connected = ssl.create_default_context().wrap_socket(connected, server_hostname=host)
            connection.sock = connected
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            answer.read(_MAX_ANSWER_BYTES)
            return answer.status
        finally:
            connected.close()

    def _judged(self, parts: SplitResult) -> str:
        """Return the address to connect to."""
        host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{parts.netloc}: no such host ({error}). Check the address.") from error
        private = [address for address in found if not _is_public(address)]
        if private and host not in self.allowed:
            raise ForbiddenError(
                f"{parts.netloc} is {private[0]}, which is no public address. `tightfit serve --webhook-host {host}` "
                "allows it."
            )
        return found[0]


def _is_public(text: str) -> bool:
    """Tell whether an address is of the whole internet.

    >>> [_is_public(t) for t in ("8.8.8.8", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1%eth0")]
    [True, False, False, False, False]
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (mapped is None or mapped.is_global)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url[:100]!a}: no address ({error}).") from error
    is_plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _MOST_CHARACTERS
    if parts.scheme not in _PORTS or not parts.hostname or not is_plain or port == 0:
        raise UsageError(f"{url[:100]!a}: write an address such as https://host/path, in plain characters.")
    if "@" in parts.netloc:
        raise UsageError(f"{parts.scheme}://{parts.hostname}: leave name and password out: news is signed instead.")
    return parts
