"""What people agreed to: every change of a subscription's status, of a suppression, and erasure.

Lowest layer beside the models. Each change is one conditional UPDATE and leaves a ConsentRecord.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from subscribers.models import ConsentRecord, Subscriber, Subscription, Suppression

if TYPE_CHECKING:
    from collections.abc import Iterable

    from newsletter.models import Newsletter

Action = ConsentRecord.Action
Status = Subscription.Status

LIFTED_BY_OPERATORS = (Suppression.Reason.MANUAL, Suppression.Reason.HARD_BOUNCE)


def record(subscriber: Subscriber, newsletter: Newsletter | None, action: ConsentRecord.Action, source: str) -> None:
    """Note what `subscriber` agreed to or withdrew."""
    ConsentRecord.objects.create(subscriber=subscriber, newsletter=newsletter, action=action, source=source)


def _change(
    subscription: Subscription,
    *,
    to: Subscription.Status,
    allowed: Iterable[Subscription.Status],
    action: ConsentRecord.Action,
    source: str,
) -> bool:
    """Move one subscription; True where this call moved it, False where it stood elsewhere already."""
    with transaction.atomic():
        moved = Subscription.objects.filter(pk=subscription.pk, status__in=allowed).update(status=to, changed_at=Now())
        if moved:
            record(subscription.subscriber, subscription.newsletter, action, source)
    subscription.refresh_from_db(fields=["status", "changed_at"])
    return bool(moved)


def enrol(subscriber: Subscriber, newsletter: Newsletter, *, source: str) -> bool:
    """An operator enters somebody who agreed elsewhere: on paper, by word. Who had left is not brought back by it.

    True where a subscription was made.
    """
    with transaction.atomic():
        _, created = Subscription.objects.get_or_create(
            subscriber=subscriber, newsletter=newsletter, defaults={"status": Status.ACTIVE}
        )
        if created:
            record(subscriber, newsletter, Action.IMPORTED, source)
    return created


def unsubscribe(subscription: Subscription, *, source: str) -> bool:
    """The reader leaves this newsletter, at once: mail that is still queued is skipped. Idempotent."""
    allowed = (Status.PENDING, Status.ACTIVE, Status.PAUSED)
    return _change(subscription, to=Status.UNSUBSCRIBED, allowed=allowed, action=Action.UNSUBSCRIBED, source=source)


def pause(subscription: Subscription, *, source: str) -> bool:
    """No mail of this newsletter until `resume`."""
    return _change(subscription, to=Status.PAUSED, allowed=(Status.ACTIVE,), action=Action.PAUSED, source=source)


def resume(subscription: Subscription, *, source: str) -> bool:
    """Mail again after a pause."""
    return _change(subscription, to=Status.ACTIVE, allowed=(Status.PAUSED,), action=Action.RESUMED, source=source)


def resubscribe(subscription: Subscription, *, source: str) -> bool:
    """The reader takes back having left, by their own act on a page that their own mail led to."""
    allowed = (Status.UNSUBSCRIBED,)
    return _change(subscription, to=Status.ACTIVE, allowed=allowed, action=Action.SUBSCRIBED, source=source)


def choose_sections(subscription: Subscription, *, muted: Iterable[int]) -> None:
    """The standing sections (by id) that the reader does not want from now on."""
    subscription.muted = ",".join(str(pk) for pk in sorted(set(muted)))
    subscription.save(update_fields=["muted"])


def choose_tracking(subscriber: Subscriber, *, tracking: Subscriber.Tracking, source: str) -> None:
    """Whether opens and clicks of this reader may be noted; it counts for mail already sent too."""
    changed = Subscriber.objects.filter(pk=subscriber.pk).exclude(tracking=tracking).update(tracking=tracking)
    subscriber.tracking = tracking
    if changed:
        off = tracking == Subscriber.Tracking.OFF
        record(subscriber, None, Action.TRACKING_OFF if off else Action.TRACKING_ON, source)


def suppress(
    fingerprint: str, *, reason: Suppression.Reason, newsletter: Newsletter | None = None, source: str
) -> None:
    """Never write to the address behind `fingerprint` again, on the whole site or for one newsletter. Idempotent."""
    with transaction.atomic():
        _, created = Suppression.objects.get_or_create(fingerprint=fingerprint, newsletter=newsletter, reason=reason)
        subscriber = Subscriber.objects.filter(fingerprint=fingerprint).first()
        if created and subscriber is not None:
            record(subscriber, newsletter, Action.SUPPRESSED, source)


def lift(suppression: Suppression, *, source: str) -> bool:
    """An operator takes back what keeps mail from an address; True where this call did.

    Never a complaint or an erasure: only the person's own new confirmation undoes those.
    """
    with transaction.atomic():
        lifted, _ = Suppression.objects.filter(pk=suppression.pk, reason__in=LIFTED_BY_OPERATORS).delete()
        subscriber = Subscriber.objects.filter(fingerprint=suppression.fingerprint).first()
        if lifted and subscriber is not None:
            record(subscriber, suppression.newsletter, Action.UNSUPPRESSED, source)
    return bool(lifted)


def erase(subscriber: Subscriber, *, source: str) -> None:
    """Delete a person. Deliveries go on counting without them, and the keyed hash keeps later imports away."""
    with transaction.atomic():
        fingerprint = subscriber.fingerprint
        ConsentRecord.objects.create(subscriber=None, action=Action.ERASED, source=source)
        subscriber.delete()
        Suppression.objects.get_or_create(fingerprint=fingerprint, newsletter=None, reason=Suppression.Reason.ERASED)
