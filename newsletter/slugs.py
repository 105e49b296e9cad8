"""Which words a newsletter may have in its address: those that no other page of this site needs."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug

# First parts of the paths in `newsletter.urls`, and names that browsers and proxies ask for.
RESERVED_SLUGS = frozenset(
    {
        "a",
        "account",
        "admin",
        "api",
        "c",
        "healthz",
        "i",
        "mailbox",
        "o",
        "p",
        "readyz",
        "static",
        "media",
        "u",
        "webhooks",
        "y",
    }
)


def validate_newsletter_slug(value: str) -> None:
    """Refuse what is no slug, or is the path of another page. Raises ValidationError."""
    validate_slug(value)
    if value.lower() in RESERVED_SLUGS:
        raise ValidationError(
            "“%(slug)s” is the path of another page of this site; choose another word.", params={"slug": value}
        )
