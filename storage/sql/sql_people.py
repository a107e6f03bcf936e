"""People of a store in SQLite or PostgreSQL: tokens, audit, answered requests."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from space.errors import StateError
from storage.migrations.tables import AnsweredRow, AuditRow, DeliveryRow, TokenRow, WebhookRow
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
from storage.sound_records import reading, sound
from storage.sql.sql_transactions import SqlTransactions

_KEEP, _ADD = (
    {d.__name__.rpartition(".")[2]: d.insert(table).on_conflict_do_nothing() for d in (sqlite, postgresql)}
    for table in (AnsweredRow, DeliveryRow)
)


class SqlPeople(SqlTransactions):
    """The part of `SqlStore` that knows people."""

    def create_token(self, token: Token) -> None:
        """Keep a token. Raises StateError if its id exists."""
        with self._session(write=True) as session:
            try:
                session.execute(insert(TokenRow), [asdict(token)])
            except IntegrityError as error:
                raise StateError(f"Token {token.token_id} exists already; make another one.") from error

    def find_token(self, token_id: str) -> Token | None:
        """Return a token, or None."""
        with self._session() as session:
            row = session.scalar(select(TokenRow).where(TokenRow.token_id == token_id))
            return None if row is None else _token_of(row)

    def list_tokens(self) -> Sequence[Token]:
        """Return all tokens, oldest first."""
        with self._session() as session:
            return [_token_of(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.position))]

    def revoke_token(self, token_id: str) -> None:
        """Forget a token. Raises NotFoundError."""
        gone = delete(TokenRow).where(TokenRow.token_id == token_id).returning(TokenRow.token_id)
        with self._session(write=True) as session:
            if session.scalar(gone) is None:
                raise token_not_found(token_id)

    def add_audit(self, entry: AuditEntry) -> None:
        """Add an entry."""
        values = asdict(entry)
        del values["number"]
        with self._session(write=True) as session:
            session.execute(insert(AuditRow), [values])

    def list_audit(self, after: int = 0, limit: int = MAX_ENTRIES) -> Sequence[AuditEntry]:
        """Return entries of higher numbers, by number, at most so many."""
        found = select(AuditRow).where(AuditRow.number > after).order_by(AuditRow.number).limit(limit)
        with self._session() as session:
            return [_read(AuditEntry, row, f"Entry {row.number} of the audit") for row in session.scalars(found)]

    def create_webhook(self, hook: Webhook) -> None:
        """Keep an address. Raises StateError if its id exists."""
        with self._session(write=True) as session:
            try:
                session.execute(insert(WebhookRow), [asdict(hook)])
            except IntegrityError as error:
                raise StateError(f"Webhook {hook.hook_id} exists already; make another one.") from error

    def list_webhooks(self) -> Sequence[Webhook]:
        """Return all addresses, oldest first."""
        with self._session() as session:
            found = session.scalars(select(WebhookRow).order_by(WebhookRow.position))
            return [_read(Webhook, row, f"Webhook {row.hook_id}") for row in found]

    def delete_webhook(self, hook_id: str) -> None:
        """Forget an address, and what it was to be told. Raises NotFoundError."""
        gone = delete(WebhookRow).where(WebhookRow.hook_id == hook_id).returning(WebhookRow.hook_id)
        with self._session(write=True) as session:
            if session.scalar(gone) is None:
                raise webhook_not_found(hook_id)
            session.execute(delete(DeliveryRow).where(DeliveryRow.hook_id == hook_id))

    def add_delivery(self, delivery: Delivery) -> None:
        """Keep news that is to be told; what is known under its id stays."""
        with self._connection(write=True) as connection:
            connection.execute(_ADD[connection.dialect.name], asdict(delivery))

    def put_delivery(self, delivery: Delivery) -> None:
        """Keep how far news is."""
        change = update(DeliveryRow).where(DeliveryRow.delivery_id == delivery.delivery_id)
        with self._session(write=True) as session:
            session.execute(change.values(asdict(delivery)), execution_options={"synchronize_session": False})

    def list_deliveries(self, hook_id: str | None = None) -> Sequence[Delivery]:
        """Return the news of all addresses, or of one, oldest first."""
        found = select(DeliveryRow).order_by(DeliveryRow.created_at, DeliveryRow.delivery_id)
        found = found if hook_id is None else found.where(DeliveryRow.hook_id == hook_id)
        with self._session() as session:
            return [_read(Delivery, row, f"News {row.delivery_id}") for row in session.scalars(found)]

    def put_answered(self, answered: Answered) -> None:
        """Remember what became of a request; an existing one is kept."""
        with self._connection(write=True) as connection:
            connection.execute(_KEEP[connection.dialect.name], asdict(answered))

    def find_answered(self, user: str, key: str) -> Answered | None:
        """Return what became of a request, or None."""
        asked = select(AnsweredRow).where(AnsweredRow.user == user, AnsweredRow.key == key)
        with self._session() as session:
            row = session.scalar(asked)
            return None if row is None else _read(Answered, row, f"Request {key}")


def _token_of(row: TokenRow) -> Token:
    found: Token = _read(Token, row, f"Token {row.token_id}")
    return found


def _read(kind: Any, row: Any, name: str) -> Any:
    """Return a row's record. Raises StoreError."""
    with reading(name):
        return sound(kind(**{field.name: getattr(row, field.name) for field in fields(kind)}))
