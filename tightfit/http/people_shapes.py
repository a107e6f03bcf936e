"""What the service answers about those who ask."""

from typing import Literal

from pydantic import ConfigDict, Field

from tightfit.http.shapes import Shape


class WhoAmI(Shape):
    """Who asks, and what they may do."""

    user: str | None
    scope: Literal["read", "submit", "admin"]
    token: str | None
    """The public part of the token; null where none is needed."""


class SignIn(Shape):
    """What a page sends so that its browser holds a token."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    token: str = Field(max_length=200)


class AuditInfo(Shape):
    """Something that was asked and might have changed something."""

    number: int
    at: str
    user: str | None
    token: str | None
    action: str
    """Method and route."""
    subject: str
    """The address."""
    status: int
    """HTTP status of the answer."""


class AuditPage(Shape):
    """A page of the audit, oldest first."""

    entries: list[AuditInfo]
    next: int
    """Give it as `after` for what comes later."""


class WebhookRequest(Shape):
    """Where the ends of one's jobs are to be told."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    url: str = Field(max_length=2000, examples=["https://ci.example/tightfit"])


class WebhookInfo(Shape):
    """An address that hears of the ends of a user's jobs."""

    webhook: str
    """Its id."""
    user: str | None
    url: str
    created_at: str


class NewWebhook(WebhookInfo):
    """An address that was just made, with what its news is signed with."""

    secret: str
    """Shown once."""


class WebhookList(Shape):
    """Addresses, oldest first."""

    webhooks: list[WebhookInfo]


class DeliveryInfo(Shape):
    """The news of one end of one job."""

    delivery: str
    """What its `webhook-id` header says."""
    job: str
    created_at: str
    attempts: int
    next_at: str | None
    """When it is sent again; null: it is not."""
    delivered_at: str | None
    error: str | None
    """Why the last attempt failed."""


class DeliveryList(Shape):
    """The news for an address, oldest first."""

    deliveries: list[DeliveryInfo]
