"""Addresses are shown without the passwords in them."""

import pytest

from space.parsing.addresses import without_password


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/path", "http://host:5000/path"),
        ("https://secret@host", "https://host"),
        ("postgresql+psycopg://me:sec%2Fret@host/jobs?sslmode=require", "postgresql+psycopg://host/jobs?sslmode=require"),
        ("postgresql://host/jobs?user=me&password=secret&connect_timeout=3", "postgresql://host/jobs?user=me&password=***&connect_timeout=3"),
        ("ray://me:secret@head:10001", "ray://head:10001"),
        ("http://me:sec/ret@host/x", "http://host/x"),
        ("http://me:s#e?cret@host", "http://host"),
        ("http://me:se@cret@host/p", "http://host/p"),
        ("https://host/mlflow?access_token=secret#top", "https://host/mlflow?access_token=***#top"),
        ("https://host/?API_KEY=secret", "https://host/?API_KEY=***"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("http://host:5000/#/models/a@champion", "http://host:5000/#/models/a@champion"),
        ("sqlite:////home/a@b/tightfit.db", "sqlite:////home/a@b/tightfit.db"),
        ("127.0.0.1:6379", "127.0.0.1:6379"),
        ("http://a:secret@one and http://b:secret@two", "http://one and http://two"),
    ],
)  # fmt: skip
def test_address_is_shown_without_password(address: str, shown: str) -> None:
    """What leads to the place stays."""
    assert without_password(address) == shown
    assert "secret" not in shown
