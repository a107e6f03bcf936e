"""The contract of a store, sixth part: tokens, the audit, requests that were answered."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from space.errors import NotFoundError, StateError
from storage.people import Answered, AuditEntry, Delivery, Token, Webhook, new_token, parts_of
from storage.store import Store

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ENTRY = AuditEntry(NOW, "ann", "t1", "POST /v1/jobs", "/v1/jobs", 202)


class PeopleContract:
    """One test per behaviour and per error."""

    def test_tokens_are_kept_without_their_secrets(self, store: Store) -> None:
        """What is kept opens with the text that was shown once, and with no other."""
        token, text = new_token("ann", "submit", NOW, NOW + timedelta(days=1))
        store.create_token(token)
        parts = parts_of(text)
        assert parts is not None
        found = store.find_token(parts[0])
        assert found == token
        assert found is not None
        assert parts[1] not in repr(found)
        assert found.opens(parts[1], NOW)
        assert not found.opens(parts[1][:-1], NOW)
        assert not found.opens("", NOW)
        assert not found.opens(parts[1], NOW + timedelta(days=2))
        assert store.find_token("nobody") is None

    def test_tokens_are_listed_and_revoked(self, store: Store) -> None:
        """In the order of their making; a revoked one is not found any more."""
        tokens = [Token(f"t{number}", "ann", "read", "d", NOW) for number in range(3)]
        for token in tokens:
            store.create_token(token)
        with pytest.raises(StateError, match="Token t1 exists already"):
            store.create_token(replace(tokens[1], user="bob"))
        store.revoke_token("t1")
        assert store.list_tokens() == [tokens[0], tokens[2]]
        assert store.find_token("t1") is None
        with pytest.raises(NotFoundError, match="no token 't1'"):
            store.revoke_token("t1")

    def test_audit_is_numbered(self, store: Store) -> None:
        """From 1 on; read from where one left off."""
        for status in (202, 403, 200):
            store.add_audit(replace(ENTRY, status=status, user=None if status == 200 else "ann"))
        assert list(store.list_audit()) == [
            replace(ENTRY, number=1),
            replace(ENTRY, number=2, status=403),
            replace(ENTRY, number=3, status=200, user=None),
        ]
        assert [entry.number for entry in store.list_audit(after=1, limit=1)] == [2]
        assert list(store.list_audit(after=3)) == []

    def test_the_first_answer_counts(self, store: Store) -> None:
        """Of a user's key; another user's is another one."""
        first = Answered("ann", "k", "d1", "j1")
        store.put_answered(first)
        store.put_answered(replace(first, digest="d2", job_id="j2"))
        store.put_answered(replace(first, user="bob", job_id="j3"))
        assert store.find_answered("ann", "k") == first
        assert store.find_answered("bob", "k") == replace(first, user="bob", job_id="j3")
        assert store.find_answered("ann", "other") is None

    def test_webhooks_and_their_news(self, store: Store) -> None:
        """News is added once, told how far it is, and gone with its address."""
        hooks = [Webhook(f"w{number}", "ann", "https://a.example", "s", NOW) for number in range(2)]
        for hook in hooks:
            store.create_webhook(hook)
        with pytest.raises(StateError, match="Webhook w1 exists already"):
            store.create_webhook(hooks[1])
        assert list(store.list_webhooks()) == hooks
        news = [
            Delivery(f"d{number}", f"w{number}", "j1", NOW + timedelta(seconds=number), next_at=NOW)
            for number in (0, 1)
        ]
        for delivery in (news[1], news[0], replace(news[0], job_id="j2")):
            store.add_delivery(delivery)
        told = replace(news[0], attempts=2, next_at=None, delivered_at=NOW, error="late")
        store.put_delivery(told)
        store.put_delivery(replace(told, delivery_id="unknown"))
        assert list(store.list_deliveries()) == [told, news[1]]
        assert list(store.list_deliveries("w1")) == [news[1]]
        store.delete_webhook("w0")
        assert list(store.list_webhooks()) == hooks[1:]
        assert list(store.list_deliveries()) == news[1:]
        with pytest.raises(NotFoundError, match="no webhook 'w0' of yours"):
            store.delete_webhook("w0")

    def test_a_webhook_keeps_all_that_it_is(self, store: Store) -> None:
        """Of nobody, at a long address, with any secret; news that failed tells why, in any characters."""
        hook = Webhook("w1", None, f"https://a.example/{'x' * 1900}", "whsec_+/=ä", NOW)
        store.create_webhook(hook)
        assert list(store.list_webhooks()) == [hook]
        news = Delivery("d1", "w1", "j1", NOW, next_at=NOW)
        store.add_delivery(news)
        store.add_delivery(replace(news, attempts=7))  # what is known stays
        late = replace(news, attempts=1, next_at=NOW + timedelta(microseconds=1), error="connection to «ä» refused\n")
        store.put_delivery(late)
        assert list(store.list_deliveries("w1")) == [late]
        assert list(store.list_deliveries("w2")) == []
