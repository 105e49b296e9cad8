"""Warming up a sending domain: so many mails on the first day, about twice as many each day while few are refused.

Providers take much mail from an unknown domain for abuse. A day is one in UTC; its row counts for all workers, changed
under its lock. What is over the day's cap waits for the next one. After CEILING there is no cap any more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db.models import F
from django.utils import timezone

from newsletter.models import Dispatch, SendingDay
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result

FIRST_CAP, CEILING = 50, 100_000
HIGH_SHARE = 0.05  # of refusals in a day: then the next is no larger
IDLE = dt.timedelta(days=30)  # without mail, and providers have forgotten the domain


def lock_today(dispatch: Dispatch) -> SendingDay | None:
    """Today's row for the sending domain of `dispatch`, locked until the transaction ends; None where there is no cap.

    Call it in the transaction that claims, and count what was claimed by `take`.
    """
    domain = _domain(dispatch)
    first_day, today = ENV.warm_up.get(domain), _today()
    if first_day is None or today < first_day:
        return None
    row = SendingDay.objects.select_for_update().filter(domain=domain, day=today).first()
    if row is None:
        cap = _cap(domain, today)
        if cap is None:
            return None
        SendingDay.objects.bulk_create([SendingDay(domain=domain, day=today, cap=cap)], ignore_conflicts=True)
        row = SendingDay.objects.select_for_update().get(domain=domain, day=today)
    return row


def left(day: SendingDay, dispatch: Dispatch) -> int:
    """How many more mails of `dispatch` may be claimed today.

    A single message counts and never waits: somebody wants to confirm an address or to sign in now.
    """
    return CEILING if dispatch.kind == Dispatch.Kind.SINGLE else max(0, day.cap - day.taken)


def take(day: SendingDay, claimed: int) -> None:
    """Count `claimed` messages for `day`."""
    SendingDay.objects.filter(pk=day.pk).update(taken=F("taken") + claimed)


def note(day: SendingDay, outcomes: Iterable[Outcome], *, not_begun: int = 0) -> None:
    """Count what became of messages that were taken from `day`: accepted, or refused for good, whoever it was that was
    refused; `not_begun` of them are given back, and so is what was not tried because the other side was away."""
    outcomes = list(outcomes)
    results = [outcome.result for outcome in outcomes]
    given_back = not_begun + sum(outcome.result == Result.LATER and not outcome.tried for outcome in outcomes)
    accepted = results.count(Result.ACCEPTED)
    refused = results.count(Result.REFUSED) + results.count(Result.SENDER_REFUSED)
    SendingDay.objects.filter(pk=day.pk).update(
        accepted=F("accepted") + accepted, refused=F("refused") + refused, taken=F("taken") - given_back
    )


def tomorrow() -> dt.datetime:
    """When the next day's mail may begin."""
    return dt.datetime.combine(_today() + dt.timedelta(days=1), dt.time(), dt.UTC)


def reason(dispatch: Dispatch) -> str:
    """Why the rest of `dispatch` waits for tomorrow, in a sentence; "" where it does not."""
    domain = _domain(dispatch)
    if domain not in ENV.warm_up:
        return ""
    full = SendingDay.objects.filter(domain=domain, day=_today(), taken__gte=F("cap")).first()
    if full is None:
        return ""
    return f"{domain} is being warmed up: the {full.cap:,} mails of today are sent, the rest goes on at 00:00 UTC."


def _cap(domain: str, today: dt.date) -> int | None:
    """How many may go today, by the last day on which any went; None once the domain is warm."""
    last = SendingDay.objects.filter(domain=domain, day__lt=today, taken__gt=0).order_by("-day").first()
    if last is None:
        return FIRST_CAP
    answered = last.accepted + last.refused
    # A day on which little was answered shows nothing, however much was claimed for it.
    good = answered * 2 >= last.cap and last.refused <= answered * HIGH_SHARE
    cap = last.cap * 2 if good else last.cap
    if cap > CEILING:
        return None
    return FIRST_CAP if today - last.day > IDLE else cap


def _domain(dispatch: Dispatch) -> str:
    return dispatch.newsletter.from_address.rpartition("@")[2].lower()


def _today() -> dt.date:
    return timezone.now().date()
