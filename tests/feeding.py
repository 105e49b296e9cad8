"""Mails that were sent, and notices of what came back of them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from newsletter import feedback
from newsletter.feedback import Notice
from newsletter.models import Attempt, Delivery, Dispatch, Event, Newsletter
from subscribers.models import Subscriber, Subscription, Suppression
from tests.making import make_dispatch, make_newsletter, make_reader

Kind, Status = Event.Kind, Delivery.Status


def make_delivery(
    newsletter: Newsletter | None = None, *, status: Delivery.Status = Status.SENT, **fields: Any
) -> Delivery:
    """A delivery to a new reader, handed over an hour ago."""
    delivery = make_dispatch(newsletter or make_newsletter(), readers=1).deliveries.get()
    return put(delivery, status=status, **fields)


def put(delivery: Delivery, *, status: Delivery.Status, **fields: Any) -> Delivery:
    sent_at = timezone.now() - dt.timedelta(hours=1)
    attempt = Attempt.objects.create(
        batch_id=delivery.batch_id,
        worker="test",
        transport="smtp",
        idempotency_key=uuid.uuid4(),
        accepted=int(status == Status.SENT),
        started_at=sent_at,
    )
    Delivery.objects.filter(pk=delivery.pk).update(
        **{"status": status, "tries": 1, "attempt": attempt, "settled_at": sent_at, **fields}
    )
    delivery.refresh_from_db()
    return delivery


def make_notice(kind: Event.Kind, **fields: Any) -> Notice:
    defaults: dict[str, Any] = {"key": uuid.uuid4(), "at": timezone.now(), "source": "test"}
    if kind == Kind.BOUNCE:
        defaults["verdict"] = "hard"
    return Notice(kind=kind, **{**defaults, **fields})


def write(kind: Event.Kind, delivery: Delivery, **fields: Any) -> int:
    return feedback.write_notices([make_notice(kind, delivery_id=delivery.pk, **fields)])


def suppressions(delivery: Delivery) -> list[str]:
    assert delivery.subscriber
    rows = Suppression.objects.filter(fingerprint=delivery.subscriber.fingerprint)
    return sorted(rows.values_list("reason", flat=True))


def is_active(delivery: Delivery) -> bool:
    return Subscription.objects.filter(subscriber=delivery.subscriber, status="active").exists()


def issues_of(newsletter: Newsletter, *days_ago: float, reader: Subscriber | None = None) -> list[Delivery]:
    """A reader's mails that were sent so long ago."""
    reader = reader or make_reader(newsletter).subscriber
    found = []
    for days in days_ago:
        dispatch = make_dispatch(newsletter)
        sent_at = timezone.now() - dt.timedelta(days=days)
        Dispatch.objects.filter(pk=dispatch.pk).update(started_at=sent_at)
        delivery = put(dispatch.deliveries.get(subscriber=reader), status=Status.SENT)
        Delivery.objects.filter(pk=delivery.pk).update(settled_at=sent_at)
        Attempt.objects.filter(deliveries=delivery).update(started_at=sent_at)
        found.append(delivery)
    return found


def bounce_softly(mails: Sequence[Delivery]) -> None:
    for mail in mails:
        write(Kind.BOUNCE, mail, verdict="soft")
