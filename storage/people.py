"""Who may use the service: tokens, of which only a digest is kept; what was asked by whom; and answers given before."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from space.errors import NotFoundError

MAX_ENTRIES = 1000
_ID_BYTES, _SECRET_BYTES = 4, 32
_PREFIX = "tf"


@dataclass(frozen=True, slots=True)
class Token:
    """What lets somebody use the service.

    Attributes:
        token_id: its public part, by which people name it.
        user: whose it is.
        scope: what it allows: "read", "submit" or "admin".
        digest: sha256 of its secret part, which nobody keeps but its user.
        created_at: UTC.
        expires_at: UTC; None: never.

    """

    token_id: str
    user: str
    scope: str
    digest: str
    created_at: datetime
    expires_at: datetime | None = None

    def opens(self, secret: str, now: datetime) -> bool:
        """Tell whether a secret is this token's, and the token is still good; takes the same time for any secret."""
        is_same = hmac.compare_digest(secret_digest(secret), self.digest)
        return is_same and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that was asked of the service and might have changed something.

    Attributes:
        number: 1, 2, 3 ...; given by the store.
        at: UTC.
        user: who asked.
        token_id: with which token; None where none is needed.
        action: method and route, such as `POST /v1/jobs/{job}/cancel`.
        subject: what it was about: the address.
        status: HTTP status of the answer.

    """

    at: datetime
    user: str | None
    token_id: str | None
    action: str
    subject: str
    status: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered under a key of its sender: the same one again gets the same job.

    Attributes:
        user: who asked.
        key: the sender's, such as an Idempotency-Key.
        digest: of the request.
        job_id: what became of it.

    """

    user: str
    key: str
    digest: str
    job_id: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that hears of the ends of a user's jobs.

    Attributes:
        hook_id: by which people name it.
        user: whose jobs.
        url: where the news is sent.
        secret: what it is signed with; kept as it is, since whoever signs needs it.
        created_at: UTC; of jobs that ended before nothing is told.

    """

    hook_id: str
    user: str | None
    url: str
    secret: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """The news of one end of one job for one address.

    Attributes:
        delivery_id: the same for the same end, so that whoever hears it twice knows.
        hook_id: of the address.
        job_id: of the job.
        created_at: UTC.
        attempts: how often it was sent.
        next_at: UTC, when it is sent again; None: it is not.
        delivered_at: UTC; None: it was not.
        error: why the last attempt failed.

    """

    delivery_id: str
    hook_id: str
    job_id: str
    created_at: datetime
    attempts: int = 0
    next_at: datetime | None = None
    delivered_at: datetime | None = None
    error: str | None = None


class PeopleStore(Protocol):
    """The contract of a store, as far as people go."""

    def create_token(self, token: Token) -> None:
        """Keep a token. Raises StateError if its id exists."""

    def find_token(self, token_id: str) -> Token | None:
        """Return a token, or None."""

    def list_tokens(self) -> Sequence[Token]:
        """Return all tokens, oldest first."""

    def revoke_token(self, token_id: str) -> None:
        """Forget a token. Raises NotFoundError."""

    def add_audit(self, entry: AuditEntry) -> None:
        """Add an entry; its number is given here."""

    def list_audit(self, after: int = 0, limit: int = MAX_ENTRIES) -> Sequence[AuditEntry]:
        """Return entries of higher numbers than `after`, by number, at most so many."""

    def create_webhook(self, hook: Webhook) -> None:
        """Keep an address. Raises StateError if its id exists."""

    def list_webhooks(self) -> Sequence[Webhook]:
        """Return all addresses, oldest first."""

    def delete_webhook(self, hook_id: str) -> None:
        """Forget an address, and what it was to be told. Raises NotFoundError."""

    def add_delivery(self, delivery: Delivery) -> None:
        """Keep news that is to be told; what is known under its id stays as it is."""

    def put_delivery(self, delivery: Delivery) -> None:
        """Keep how far news is, in place of what was kept before; where that was deleted, nothing is."""

    def list_deliveries(self, hook_id: str | None = None) -> Sequence[Delivery]:
        """Return the news of all addresses, or of one, oldest first."""

    def put_answered(self, answered: Answered) -> None:
        """Remember what became of a request; an existing one of the same user and key is kept."""

    def find_answered(self, user: str, key: str) -> Answered | None:
        """Return what became of a request of a user under a key, or None."""


def new_token(user: str, scope: str, now: datetime, expires_at: datetime | None = None) -> tuple[Token, str]:
    """Return a new token, and its text, which is shown once and cannot be had again."""
    token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    return Token(token_id, user, scope, secret_digest(secret), now, expires_at), f"{_PREFIX}_{token_id}_{secret}"


def parts_of(text: str) -> tuple[str, str] | None:
    """Return the public and the secret part of a token's text; None where it is none.

    >>> parts_of("tf_0a1b2c3d_x_y"), parts_of("tf_0a1b2c3d"), parts_of("")
    (('0a1b2c3d', 'x_y'), None, None)
    """
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    return (token_id, secret) if prefix == _PREFIX and token_id and secret else None


def secret_digest(secret: str) -> str:
    """Return what is kept of a secret: it has 256 random bits, so that no slow hash is needed."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def webhook_not_found(hook_id: str) -> NotFoundError:
    """Return the error for an address that is not there."""
    return NotFoundError(f"There is no webhook {hook_id[:100]!a} of yours. GET /v1/webhooks lists those there are.")


def token_not_found(token_id: str) -> NotFoundError:
    """Return the error for a token that is not there."""
    return NotFoundError(f"There is no token {token_id!r}; `tightfit token list` shows those there are.")
