"""Links that work once and soon, for what the weak link of a mail may not do.

A token is 192 random bits, and a row keeps only its hash. (The text of the mail, stored to be sent, says it too; by the
time anybody reads a backup it has run out.)
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db.models.functions import Now

from subscribers.models import OneTimeLink, Subscriber

Purpose = OneTimeLink.Purpose

VALID_FOR = {
    Purpose.OPEN: timedelta(hours=1),
    Purpose.VISIT: timedelta(minutes=30),
    Purpose.ADDRESS: timedelta(hours=1),
}


def issue(subscriber: Subscriber, purpose: OneTimeLink.Purpose, *, target: Subscriber | None = None) -> str:
    """A new link's token; `target` is the row of the new address where the purpose is ADDRESS."""
    token = secrets.token_urlsafe(24)
    OneTimeLink.objects.create(
        subscriber=subscriber,
        purpose=purpose,
        digest=_digest(token),
        target=target,
        expires_at=Now() + VALID_FOR[purpose],
    )
    return token


def find(token: str) -> OneTimeLink | None:
    """The link of `token`, with its subscriber and target, while it is neither used nor run out."""
    valid = OneTimeLink.objects.filter(digest=_digest(token), used_at=None, expires_at__gt=Now())
    return valid.select_related("subscriber", "target").first()


def use(link: OneTimeLink) -> bool:
    """Use the link up: of two who try, one gets True."""
    valid = OneTimeLink.objects.filter(pk=link.pk, used_at=None, expires_at__gt=Now())
    return bool(valid.update(used_at=Now()))


def void_all(subscriber: Subscriber) -> None:
    """Make every link of `subscriber` worthless: their address is no longer the one these went to."""
    OneTimeLink.objects.filter(subscriber=subscriber, used_at=None).update(used_at=Now())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
