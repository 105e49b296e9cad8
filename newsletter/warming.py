"""Warming up a sending domain: so many mails on the first day, about twice as many each day while few are refused.

Providers take much mail from an unknown domain for abuse. A day is one in UTC; its row counts for all workers, changed
under its lock. What is over the day's cap waits for the next one. After CEILING there is no cap any more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from newsletter.models import Attempt, Batch, Dispatch, SendingDay
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result

FIRST_CAP, CEILING = 50, 100_000
HIGH_SHARE = 0.05  # of refusals in a day: then the next is no larger
IDLE = dt.timedelta(days=30)  # without mail, and providers have forgotten the domain
LOOK = dt.timedelta(seconds=5)  # between two looks of a batch whose places others hold
LONGEST_LOOK = dt.timedelta(minutes=10)  # the setting that makes it wait may be taken back


def lock_today(dispatch: Dispatch) -> SendingDay | None:
    """Today's row for the sending domain of `dispatch`, locked until the transaction ends; None where there is no cap.

    Call it in the transaction that claims, and count what was claimed by `take`.
    """
    domain = dispatch.sender_domain
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


def hold(day: SendingDay) -> None:
    """Lock `day` until the transaction ends: before any delivery, as those who claim do, so that no two wait for each
    other."""
    SendingDay.objects.select_for_update().filter(pk=day.pk).first()


def note(day: SendingDay, outcomes: Sequence[Outcome], *, not_begun: int = 0) -> None:
    """Count what became of messages that were taken from `day`: accepted, or refused for good, whoever it was that was
    refused; `not_begun` of them are given back, and so is what was not tried.

    Call it once for each attempt, in the transaction that closes it.
    """
    results = [outcome.result for outcome in outcomes if outcome.tried]
    given_back = not_begun + len(outcomes) - len(results)
    accepted = results.count(Result.ACCEPTED)
    refused = results.count(Result.REFUSED) + results.count(Result.SENDER_REFUSED)
    SendingDay.objects.filter(pk=day.pk).update(
        accepted=F("accepted") + accepted, refused=F("refused") + refused, taken=F("taken") - given_back
    )


def look_again(batch: Batch) -> Now | dt.datetime:
    """When to look again for a batch that found no place left: tomorrow or after LONGEST_LOOK, but in a moment where
    another batch of its sending domain is in the midst of a chunk, since what is not tried of that gives its places
    back."""
    others = _in_the_midst(batch.dispatch.sender_domain).exclude(pk=batch.pk)
    if others.exists():
        return Now() + LOOK  # type: ignore[return-value]
    return min(tomorrow(), timezone.now() + LONGEST_LOOK)


def tomorrow() -> dt.datetime:
    """When the next day's mail may begin."""
    return _midnight(_today() + dt.timedelta(days=1))


def reason(dispatch: Dispatch) -> str:
    """Why the rest of `dispatch` waits for tomorrow, in a sentence; "" where it does not."""
    domain = dispatch.sender_domain
    if domain not in ENV.warm_up:
        return ""
    full = SendingDay.objects.filter(domain=domain, day=_today(), taken__gte=F("cap")).first()
    if full is None or _in_the_midst(domain).exists():
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


def _in_the_midst(domain: str) -> QuerySet[Batch]:
    """The batches of a sending domain that a worker holds with places of today in its hands."""
    begun = Attempt.objects.filter(batch=OuterRef("pk"), finished_at=None, started_at__gte=_midnight(_today()))
    return Batch.objects.filter(
        Exists(begun),
        leased_until__gt=Now(),
        # No chunk is in the midst for long once its dispatch is paused, and these are few among all there ever were.
        dispatch__status__in=(Dispatch.Status.SENDING, Dispatch.Status.PAUSED),
        dispatch__sender_domain=domain,
    )


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _today() -> dt.date:
    return timezone.now().date()
