"""Subscribing by a form: somebody types an address, and its owner confirms by mail (double opt-in).

Whoever types an address learns nothing about it: the answer, and how often mail goes out, is the same for every
address. The mail holds nothing that was typed but the address it goes to.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import translation
from django.utils.translation import gettext as _

from newsletter import scheduling, tracking
from newsletter.content import clean_line
from subscribers import addresses, consent
from subscribers.models import ConsentRecord, Subscriber, Subscription, Suppression

if TYPE_CHECKING:
    from newsletter.models import Newsletter

VALID_FOR = timedelta(days=14)
ONE_MAIL_IN = timedelta(hours=24)  # a form that anybody may fill in must not become a way to pester somebody
NAME_LENGTH = 200
FORM, FORM_WITHOUT_MAIL, CONFIRMATION = "subscribe form", "subscribe form, no second mail", "confirmation page"

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&$^=:-])")


def ask(newsletter: Newsletter, address: addresses.Address, *, name: str, evidence: consent.Evidence) -> None:
    """Somebody typed `address` into the form of `newsletter`: note the wish, and send at most one mail a day.

    The mail asks for confirmation, or says to who gets the newsletter already that they do. `name` counts only for an
    address that is new here. Where an operator suppressed the address by hand nothing happens.
    """
    fingerprint = addresses.fingerprint(address.key)
    with transaction.atomic():
        if Suppression.objects.filter(
            Q(newsletter=newsletter) | Q(newsletter=None), fingerprint=fingerprint, reason=Suppression.Reason.MANUAL
        ).exists():
            return
        fields = {"address": address.given, "fingerprint": fingerprint, "name": clean_line(name)[:NAME_LENGTH]}
        subscriber, _created = Subscriber.objects.get_or_create(address_key=address.key, defaults=fields)
        # Of two posts at once the second waits here and then sees what the first has sent.
        Subscriber.objects.select_for_update().get(pk=subscriber.pk)
        today = ConsentRecord.objects.filter(
            subscriber=subscriber, action=ConsentRecord.Action.REQUESTED, at__gt=Now() - ONE_MAIL_IN
        )
        if today.filter(source=FORM).exists():
            if not today.filter(newsletter=newsletter).exists():
                consent.request(subscriber, newsletter, source=FORM_WITHOUT_MAIL, evidence=evidence)
            return
        requested = consent.request(subscriber, newsletter, source=FORM, evidence=evidence)
        with translation.override(newsletter.language):
            subject, body = _mail(requested, subscriber, newsletter)
        scheduling.send_single(subscriber, newsletter, subject=subject, body=body, useful_for=VALID_FOR)


def _mail(requested: ConsentRecord, subscriber: Subscriber, newsletter: Newsletter) -> tuple[str, str]:
    """Subject and Markdown of the one mail, in the language that is active."""
    name = _MARKS.sub(r"\\\1", newsletter.name)
    if would_change(requested):
        return (
            _("Please confirm: %(name)s") % {"name": newsletter.name},
            _(
                "Somebody, most likely you, asked for **%(name)s** to come to this address. Please confirm it.\n\n"
                "[Confirm](%(url)s){.button}\n\n"
                "The link works for %(days)d days. If it was not you, do nothing: no issue will come."
            )
            % {"name": name, "url": tracking.confirm_url(requested.pk), "days": VALID_FOR.days},
        )
    token = tracking.reader_token(subscriber.public_id, newsletter.public_id)
    return (
        _("You get %(name)s already") % {"name": newsletter.name},
        _(
            "Somebody, most likely you, asked for **%(name)s** to come to this address. You are subscribed already; "
            "there is nothing to confirm.\n\n"
            "[Your preferences](%(url)s){.button}\n\n"
            "There you resume after a break, choose sections, or leave."
        )
        % {"name": name, "url": f"{settings.SITE_URL}/p/{token}"},
    )


def find(token: str) -> ConsentRecord | None:
    """The request that a confirmation link is about, while it can be confirmed; None where it has run out or its data
    is gone. Raises tracking.BadToken."""
    record_id = tracking.read_confirm_token(token)
    valid = ConsentRecord.objects.filter(
        pk=record_id,
        action=ConsentRecord.Action.REQUESTED,
        subscriber__isnull=False,
        newsletter__isnull=False,
        at__gt=Now() - VALID_FOR,
    )
    return valid.select_related("subscriber", "newsletter").first()


def newsletter_of(token: str) -> Newsletter | None:
    """The newsletter that a confirmation link is about, even where it has run out. Raises tracking.BadToken."""
    requested = ConsentRecord.objects.filter(pk=tracking.read_confirm_token(token)).select_related("newsletter").first()
    return requested.newsletter if requested else None


def would_change(requested: ConsentRecord) -> bool:
    """Whether confirming this request would bring mail to who gets none now. False also for a request that the person
    has overtaken, by leaving or complaining after it."""
    own = Subscription.objects.filter(subscriber=requested.subscriber, newsletter=requested.newsletter)
    if own.filter(consent.open_to_confirming(requested)).exists():
        return True
    return consent.liftable(requested).exists()


def others_asked_for(requested: ConsentRecord) -> list[ConsentRecord]:
    """The latest open request for each other newsletter: of all asked for in a day only one comes by mail."""
    records = ConsentRecord.objects.filter(
        subscriber=requested.subscriber, action=ConsentRecord.Action.REQUESTED, at__gt=Now() - VALID_FOR
    ).exclude(newsletter=requested.newsletter)
    latest = {record.newsletter_id: record for record in records.exclude(newsletter=None).order_by("at", "pk")}
    found = ConsentRecord.objects.filter(pk__in=[record.pk for record in latest.values()])
    ordered = found.select_related("subscriber", "newsletter").order_by(F("newsletter__name"))
    return [record for record in ordered if would_change(record)]
