"""Leaving by one click (RFC 8058): a POST and nothing else, for programs and people alike, as long as the mail exists.

Looking (GET, HEAD) changes nothing: programs follow every link of a mail. No cookie, no sign-in, no redirect, no
cross-site token: the signed link is the authority.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.core import signing
from django.db import Error, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from newsletter import events
from newsletter.models import Newsletter
from newsletter.views import readers
from newsletter.views.pages import page, private
from subscribers import consent
from subscribers.models import Subscriber, Subscription

logger = logging.getLogger(__name__)

UNDO_FOR = timedelta(hours=1)  # a slip is noticed at once; later the same link may be in other hands
ONE_CLICK, PAGE, UNDO = "one click", "unsubscribe page", "undo of an unsubscribe"

_UNDO = signing.TimestampSigner(salt="newsletter.views.leaving.undo")
_BACK_TO = {Subscription.Status.ACTIVE, Subscription.Status.PAUSED}


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a page with a button; POST leaves, whatever its body says, and says so in the same words every time."""
    if request.method != "POST":
        return private(_asking(token))
    reader = readers.find(token)
    # The page's own button says so in the address: a body that cannot be read is no reason not to leave.
    source = PAGE if "page" in request.GET else ONE_CLICK
    left_from = _leave(reader, source)
    note(request, reader.subscriber, reader.newsletter, delivery_id=reader.said.delivery_id)
    undo = _UNDO.sign(f"{token}:{left_from}") if left_from in _BACK_TO else ""
    return private(page("left", {"token": token, "undo": undo}, newsletter=reader.newsletter))


def _asking(token: str) -> HttpResponse:
    readers.read(token)
    try:
        newsletter = readers.find(token).newsletter
    except Error:
        # The way out stays open; only the newsletter's name is missing on it.
        logger.exception("The unsubscribe page was shown without the database")
        newsletter = None
    return page("unsubscribe", {"token": token}, newsletter=newsletter)


def _leave(reader: readers.Reader, source: str) -> str | None:
    """Unsubscribe; the status that the reader had, where this call ended it."""
    subscription = reader.subscription()
    if subscription is None:
        return None
    before = subscription.status
    return before if consent.unsubscribe(subscription, source=source) else None


def note(
    request: HttpRequest,
    subscriber: Subscriber | None,
    newsletter: Newsletter | None,
    *,
    delivery_id: int | None = None,
) -> None:
    """Record that somebody left; they have left even where that fails."""
    try:
        events.record(
            events.Kind.UNSUBSCRIBE,
            delivery_id=delivery_id,
            subscriber=subscriber,
            newsletter=newsletter,
            hit=events.hit_of(request),
        )
    except Error:
        logger.exception("An unsubscribe was done but not recorded as an event")


@csrf_exempt
@require_POST
def undo(request: HttpRequest, token: str) -> HttpResponse:
    """Take back having just left. It needs what only the page after leaving shows, and lifts no suppression."""
    reader = readers.find(token)
    try:
        signed_for, _, status = _UNDO.unsign(request.POST.get("undo", ""), max_age=UNDO_FOR).partition(":")
    except signing.BadSignature:
        signed_for = status = ""
    subscription = reader.subscription()
    if signed_for != token or subscription is None:
        return private(page("undo_over", {"token": token}, newsletter=reader.newsletter, status=400))
    with transaction.atomic():
        if consent.resubscribe(subscription, source=UNDO):
            if status == Subscription.Status.PAUSED:
                consent.pause(subscription, source=UNDO, until=subscription.paused_until)
            if reader.said.delivery_id:
                events.take_back_unsubscribe(reader.said.delivery_id)
    return private(
        page("undone", {"token": token, "paused": status == Subscription.Status.PAUSED}, newsletter=reader.newsletter)
    )
