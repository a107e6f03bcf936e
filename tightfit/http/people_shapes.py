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
