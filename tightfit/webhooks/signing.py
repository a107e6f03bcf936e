"""How news is signed, and how whoever receives it checks that: Standard Webhooks 1.0 (standardwebhooks.com).

`webhook-signature` is `v1,` and the base64 of the HMAC-SHA256 of `ID.TIMESTAMP.BODY`, with the bytes that follow
`whsec_` in the secret, in base64, as its key. This needs nothing but the standard library, so that it can be copied.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping

from space.errors import AccessError

TOLERANCE_SECONDS = 300
_PREFIX, _SECRET_BYTES = "whsec_", 32


def new_secret() -> str:
    """Return a secret, of 256 random bits."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of news that is sent at a time (Unix seconds)."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def check_webhook(secret: str, headers: Mapping[str, str], body: bytes, now: float, seen: Collection[str] = ()) -> str:
    """Return the id of news that was received; keep it in `seen` for ten minutes.

    Args:
        secret: of the webhook.
        headers: of the request, their names in lower case.
        body: as it came, unread.
        now: Unix seconds.
        seen: ids of what was received before.

    Raises:
        AccessError: it is not of the service, was changed, is too old or from the future, or was received before.

    """
    delivery_id, text = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    timestamp = int(text) if text.isdecimal() else 0
    expected = signature(secret, delivery_id, timestamp, body)
    if not any(hmac.compare_digest(expected, given) for given in headers.get("webhook-signature", "").split(" ")):
        raise AccessError("This webhook's signature is not that of the secret: it is of somebody else, or was changed.")
    if abs(now - timestamp) > TOLERANCE_SECONDS:
        raise AccessError("This webhook was signed more than 5 minutes from now: somebody sends an old one again.")
    if delivery_id in seen:
        raise AccessError(f"Webhook {delivery_id} was received before: it is sent again.")
    return delivery_id
