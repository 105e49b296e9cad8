"""What time ends: requests that nobody confirmed, pauses, links that ran out."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from subscribers import consent
from subscribers.models import ConsentRecord, FormPost, Membership, OneTimeLink, Subscriber, Subscription

UNCONFIRMED_FOR = timedelta(days=30)
LINKS_FOR = timedelta(days=1)  # so that the limits of an hour and a day can be counted
POSTS_FOR = timedelta(hours=1)
END_OF_PAUSE = "end of the pause"


def tidy() -> None:
    """End what has run out. Idempotent; any number may run at once."""
    resume_ended_pauses()
    forget_unconfirmed()
    forget_links()
    FormPost.objects.filter(at__lt=Now() - POSTS_FOR).delete()


def resume_ended_pauses() -> None:
    """Mail again to those whose pause was to end by now."""
    ended = Subscription.objects.filter(status=Subscription.Status.PAUSED, paused_until__lte=Now())
    for subscription in ended.select_related("subscriber", "newsletter").iterator():
        consent.resume(subscription, source=END_OF_PAUSE)


def forget_unconfirmed() -> None:
    """Delete requests that nobody has confirmed for UNCONFIRMED_FOR, what proves them, and people known by nothing
    else."""
    with transaction.atomic():
        stale = Subscription.objects.select_for_update().filter(
            status=Subscription.Status.PENDING, changed_at__lt=Now() - UNCONFIRMED_FOR
        )
        for pk, subscriber, newsletter in list(stale.values_list("pk", "subscriber", "newsletter")):
            Subscription.objects.filter(pk=pk).delete()
            ConsentRecord.objects.filter(
                subscriber=subscriber, newsletter=newsletter, action=ConsentRecord.Action.REQUESTED
            ).delete()
            _delete_if_nothing_is_left(subscriber)


def forget_links() -> None:
    """Delete links that have run out, and the rows of new addresses that did not come into use."""
    with transaction.atomic():
        over = OneTimeLink.objects.filter(expires_at__lt=Now() - LINKS_FOR)
        targets = list(over.exclude(target=None).values_list("target", flat=True))
        over.delete()
        for target in targets:
            _delete_if_nothing_is_left(target)


def _delete_if_nothing_is_left(subscriber_id: int) -> None:
    """Delete a person without subscription or membership, unless a link still waits to give their address a use."""
    Subscriber.objects.filter(
        ~Exists(Subscription.objects.filter(subscriber=OuterRef("pk"))),
        ~Exists(Membership.objects.filter(subscriber=OuterRef("pk"))),
        ~Exists(OneTimeLink.objects.filter(target=OuterRef("pk"))),
        pk=subscriber_id,
    ).delete()
