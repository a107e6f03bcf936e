"""People of a store in memory: tokens, audit, answered requests."""

from collections.abc import Sequence
from dataclasses import replace
from threading import RLock

from space.errors import StateError
from storage.people import (
    MAX_ENTRIES,
    Answered,
    AuditEntry,
    Delivery,
    Token,
    Webhook,
    token_not_found,
    webhook_not_found,
)


class MemoryPeople:
    """The part of `MemoryStore` that knows people."""

    def __init__(self) -> None:
        """Know nobody."""
        self._lock = RLock()
        self._tokens: dict[str, Token] = {}
        self._audit: list[AuditEntry] = []
        self._answered: dict[tuple[str, str], Answered] = {}
        self._webhooks: dict[str, Webhook] = {}
        self._deliveries: dict[str, Delivery] = {}

    def create_token(self, token: Token) -> None:
        """Keep a token. Raises StateError if its id exists."""
        with self._lock:
            if token.token_id in self._tokens:
                raise StateError(f"Token {token.token_id} exists already; make another one.")
            self._tokens[token.token_id] = token

    def find_token(self, token_id: str) -> Token | None:
        """Return a token, or None."""
        return self._tokens.get(token_id)

    def list_tokens(self) -> Sequence[Token]:
        """Return all tokens, oldest first."""
        with self._lock:
            return list(self._tokens.values())

    def revoke_token(self, token_id: str) -> None:
        """Forget a token. Raises NotFoundError."""
        with self._lock:
            if self._tokens.pop(token_id, None) is None:
                raise token_not_found(token_id)

    def add_audit(self, entry: AuditEntry) -> None:
        """Add an entry."""
        with self._lock:
            self._audit.append(replace(entry, number=len(self._audit) + 1))

    def list_audit(self, after: int = 0, limit: int = MAX_ENTRIES) -> Sequence[AuditEntry]:
        """Return entries of higher numbers, by number, at most so many."""
        with self._lock:
            return self._audit[max(after, 0) :][:limit]

    def create_webhook(self, hook: Webhook) -> None:
        """Keep an address. Raises StateError if its id exists."""
        with self._lock:
            if hook.hook_id in self._webhooks:
                raise StateError(f"Webhook {hook.hook_id} exists already; make another one.")
            self._webhooks[hook.hook_id] = hook

    def list_webhooks(self) -> Sequence[Webhook]:
        """Return all addresses, oldest first."""
        with self._lock:
            return list(self._webhooks.values())

    def delete_webhook(self, hook_id: str) -> None:
        """Forget an address, and what it was to be told. Raises NotFoundError."""
        with self._lock:
            if self._webhooks.pop(hook_id, None) is None:
                raise webhook_not_found(hook_id)
            self._deliveries = {name: d for name, d in self._deliveries.items() if d.hook_id != hook_id}

    def add_delivery(self, delivery: Delivery) -> None:
        """Keep news that is to be told; what is known under its id stays."""
        with self._lock:
            self._deliveries.setdefault(delivery.delivery_id, delivery)

    def put_delivery(self, delivery: Delivery) -> None:
        """Keep how far news is."""
        with self._lock:
            if delivery.delivery_id in self._deliveries:
                self._deliveries[delivery.delivery_id] = delivery

    def list_deliveries(self, hook_id: str | None = None) -> Sequence[Delivery]:
        """Return the news of all addresses, or of one, oldest first."""
        with self._lock:
            found = [d for d in self._deliveries.values() if hook_id in (None, d.hook_id)]
        return sorted(found, key=lambda d: (d.created_at, d.delivery_id))

    def put_answered(self, answered: Answered) -> None:
        """Remember what became of a request; an existing one is kept."""
        with self._lock:
            self._answered.setdefault((answered.user, answered.key), answered)

    def find_answered(self, user: str, key: str) -> Answered | None:
        """Return what became of a request, or None."""
        return self._answered.get((user, key))
