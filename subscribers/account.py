"""Strong actions: whoever reads the mail of an address may see, take, move and erase what is kept for it.

Whoever only types an address learns nothing: the answer is the same whether it is known here or not.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Value, When
from django.db.models.functions import Now
from django.utils import translation
from django.utils.translation import gettext as _

from newsletter import scheduling
from newsletter.models import Newsletter
from subscribers import addresses, consent, one_time
from subscribers.models import OneTimeLink, Subscriber, Subscription, Suppression

Purpose = OneTimeLink.Purpose

LINKS_AN_HOUR = 3
NEW_ADDRESSES_A_DAY = 5
SOURCE = "one-time link"


def send_link(address: addresses.Address) -> None:
    """Mail a one-time link to `address` if it is known here, at most LINKS_AN_HOUR."""
    subscriber = Subscriber.objects.filter(address_key=address.key).first()
    if subscriber is not None:
        send_link_to(subscriber)


def send_link_to(subscriber: Subscriber, newsletter: Newsletter | None = None) -> None:
    """Mail a one-time link to `subscriber`, in the look of `newsletter` or of one that they get."""
    newsletter = newsletter or newsletter_for(subscriber)
    if newsletter is None:
        return
    with transaction.atomic():
        Subscriber.objects.select_for_update().get(pk=subscriber.pk)
        lately = OneTimeLink.objects.filter(
            subscriber=subscriber, purpose=Purpose.OPEN, created_at__gt=Now() - timedelta(hours=1)
        )
        if lately.count() >= LINKS_AN_HOUR:
            return
        url = f"{settings.SITE_URL}/a/{one_time.issue(subscriber, Purpose.OPEN)}"
        with translation.override(newsletter.language):
            subject = _("Your link")
            body = _(
                "Here is the link to what is kept for this address. There you see it, take it with you, change the "
                "address, or erase everything.\n\n"
                "[Open](%(url)s){.button}\n\n"
                "It works once, within an hour. If you did not ask for it, do nothing, and do not pass this mail on."
            ) % {"url": url}
        useful_for = one_time.VALID_FOR[Purpose.OPEN]
        scheduling.send_single(subscriber, newsletter, subject=subject, body=body, useful_for=useful_for)


def newsletter_for(subscriber: Subscriber) -> Newsletter | None:
    """The newsletter whose look and language this person knows; any where they get none."""
    active = When(subscriptions__status=Subscription.Status.ACTIVE, then=Value(0))
    own = Newsletter.objects.filter(subscriptions__subscriber=subscriber).annotate(rank=Case(active, default=Value(1)))
    return own.order_by("rank", "pk").first() or Newsletter.objects.order_by("pk").first()


def ask_for_address(subscriber: Subscriber, address: addresses.Address) -> None:
    """Mail a link to the new `address`; nothing changes until it is followed.

    No mail goes to an address that is suppressed, or that somebody has confirmed for themselves. Nothing is said of
    either.
    """
    newsletter = newsletter_for(subscriber)
    fingerprint = addresses.fingerprint(address.key)
    if newsletter is None or address.key == subscriber.address_key:
        return
    with transaction.atomic():
        Subscriber.objects.select_for_update().get(pk=subscriber.pk)
        today = OneTimeLink.objects.filter(
            subscriber=subscriber, purpose=Purpose.ADDRESS, created_at__gt=Now() - timedelta(days=1)
        )
        suppressed = Suppression.objects.filter(fingerprint=fingerprint, newsletter=None)
        if today.count() >= NEW_ADDRESSES_A_DAY or suppressed.exists():
            return
        fields = {"address": address.given, "fingerprint": fingerprint}
        target, _created = Subscriber.objects.get_or_create(address_key=address.key, defaults=fields)
        if not consent.is_bare(target):
            return
        url = f"{settings.SITE_URL}/a/{one_time.issue(subscriber, Purpose.ADDRESS, target=target)}"
        with translation.override(newsletter.language):
            subject = _("Please confirm your new address")
            body = _(
                "Somebody, most likely you, wants their newsletters to come to this address from now on. "
                "Please confirm it.\n\n"
                "[Use this address](%(url)s){.button}\n\n"
                "It works once, within an hour. If it was not you, do nothing: nothing will come."
            ) % {"url": url}
        useful_for = one_time.VALID_FOR[Purpose.ADDRESS]
        scheduling.send_single(target, newsletter, subject=subject, body=body, useful_for=useful_for)


def take_address(link: OneTimeLink) -> bool:
    """The owner of the new address says yes: it counts from now on. False where the link was used meanwhile or the
    address has become somebody's own."""
    with transaction.atomic():
        if link.target is None or not one_time.use(link):
            return False
        changed = consent.change_address(link.subscriber, link.target, source=SOURCE)
        if changed:
            one_time.void_all(link.subscriber)
    return changed
