"""Addresses as they are shown: without the passwords that they may hold."""

import re

_LOGIN = re.compile(r"://(?:[^/?#\s]*|[^/?#@:\s]+:(?!\d+(?:[/?#\s]|$))\S*)@")
_SECRET = re.compile(
    r"([?&;](?:[a-z_-]*(?:password|passwd|secret|token|signature)|pwd|[a-z_-]*api_?key|key|sig)=)[^&;#\s]+",
    re.IGNORECASE,
)


def without_password(text: str) -> str:
    """Return an address, or a text that holds some, without users and passwords; it still leads to the same place.

    A password that was not quoted as it should be (`/`, `?`, `#` or `@` in it) is left out too.

    Examples:
        >>> without_password("postgresql://me:secret@host/jobs?sslmode=require")
        'postgresql://host/jobs?sslmode=require'
        >>> without_password("MLflow at https://host:5000/?token=abc does not answer")
        'MLflow at https://host:5000/?token=*** does not answer'

    """
    return _SECRET.sub(r"\1***", _LOGIN.sub("://", text))
