"""Single messages, each to one person who waits for it. None is ever paused, since nobody would resume it: where the
sender is refused they are tried again while they are of use, and whoever runs the site hears of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from newsletter import alerts
from newsletter.models import Delivery, Dispatch

LISTED_FOR = dt.timedelta(days=14)
Status = Delivery.Status


def tell_of_kept_back(dispatch: Dispatch) -> None:
    """Alert that `dispatch`, a single message, and others like it do not go out: once for each reason, which the first
    words of the answer are, until they do."""
    mine = _kept_back().filter(dispatch=dispatch, put_off_at__gte=F("attempt__started_at")).first()
    if mine is None:  # it has been told of when it was put off first
        return
    alike = _kept_back().exclude(pk=mine.pk).filter(reply__startswith=" ".join(mine.reply.split()[:2]))
    if not alike.filter(put_off_at__lt=mine.put_off_at).exists():
        alerts.alert("Confirmations and other single messages do not go out", kept_back())


def kept_back() -> str:
    """Why single messages do not go out, and how many, in a sentence; "" where nothing keeps them back."""
    first = _kept_back().first()
    if first is None or first.put_off_at is None:
        return ""
    number = _kept_back().count()
    wait = "1 waits" if number == 1 else f"{number:,} wait"
    return f"{wait}, since {first.put_off_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC: {first.reply}"


def unsettled() -> list[dict[str, Any]]:
    """The single messages of two weeks that were put off, failed or are in doubt, without what they say, the latest
    first: ids of `delivery` and `subscriber`, the `newsletter` (its slug), when it was `asked_for`, its `status` and
    the last `reply`."""
    lately = Dispatch.objects.filter(kind=Dispatch.Kind.SINGLE, created_at__gt=Now() - LISTED_FOR)
    open_ = Q(status=Status.QUEUED, put_off_at__isnull=False) | Q(status__in=(Status.FAILED, Status.UNCONFIRMED))
    rows = Delivery.objects.filter(open_, dispatch__in=lately).order_by("-pk")
    names = ("delivery", "subscriber", "newsletter", "asked_for", "status", "reply")
    fields = ("pk", "subscriber", "dispatch__newsletter__slug", "dispatch__created_at", "status", "reply")
    return [dict(zip(names, row, strict=True)) for row in rows.values_list(*fields)]


def _kept_back() -> QuerySet[Delivery]:
    """Those that wait because their sender is refused, or no mail can be made of them; the longest first."""
    going = Dispatch.objects.filter(kind=Dispatch.Kind.SINGLE, status=Dispatch.Status.SENDING)
    waiting = Delivery.objects.filter(dispatch__in=going, status=Status.QUEUED, reason=Delivery.SENDER_REFUSED)
    return waiting.order_by("put_off_at", "pk")
