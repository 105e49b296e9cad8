"""What was refused while sending: a bounce like any other, only sooner.

The rows are the queue: a delivery that FAILED without a verdict is one that nobody has judged, so that no worker's
death loses any, and sending itself does nothing for it.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from typing import NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from newsletter.bounces import Cause, Judgement, Verdict, judge
from newsletter.feedback.notices import Kind, Notice, key_of
from newsletter.feedback.writing import write_notices
from newsletter.models import Delivery

CHUNK = 500  # judged at one look
SMTP = "smtp"
# What a provider answered to a call: the status of HTTP, and where it spoke of the reader django-anymail's word for it.
_ANSWER = re.compile(r"\d{3} (?:(invalid|rejected)\b ?)?")


class _Refused(NamedTuple):
    """What is known of a refused delivery."""

    pk: int
    attempt_id: int | None
    transport: str | None
    reply: str
    settled_at: dt.datetime | None
    put_off_at: dt.datetime | None


def any_refused() -> bool:
    """Whether anything was refused that nobody has judged. Cheap: they have an index of their own."""
    return _unjudged().exists()


def take_refused() -> int:
    """Judge what was refused and nobody has judged, at most CHUNK; how many. Two at a time do no harm."""
    rows = (
        _unjudged()
        .order_by("pk")
        .values_list("pk", "attempt", "attempt__transport", "reply", "settled_at", "put_off_at")
    )
    return write_notices([_notice(_Refused(*row)) for row in rows[:CHUNK]])


def _unjudged() -> QuerySet[Delivery]:
    return Delivery.objects.filter(status=Delivery.Status.FAILED, verdict=None)


def _notice(row: _Refused) -> Notice:
    judgement = _judgement(row)
    return Notice(
        kind=Kind.BOUNCE,
        key=key_of("refused", row.pk, row.attempt_id, row.settled_at),
        at=row.settled_at or timezone.now(),
        source=row.transport or SMTP,
        delivery_id=row.pk,
        # What never reached a server that knows the reader says nothing of them.
        verdict=judgement.verdict if judgement else Verdict.BLOCK,
        cause=judgement.cause.name if judgement else "",
        status=judgement.status if judgement else "",
        detail=row.reply,
    )


def _judgement(row: _Refused) -> Judgement | None:
    """What the refusal means; None where it is our own word, or a provider's about us."""
    by_smtp = row.transport in (None, SMTP)
    if by_smtp and not re.match(r"[45]\d\d", row.reply):
        return None
    if not by_smtp:
        if row.put_off_at:
            return None
        answer = _ANSWER.match(row.reply)
        judgement = judge(row.reply[answer.end() :] if answer else row.reply, code=550)
        if answer and answer[1] == "invalid" and judgement.cause is Cause.UNCLEAR:
            return replace(judgement, cause=Cause.NO_MAILBOX)
        return judgement
    judgement = judge(row.reply)
    if row.put_off_at and judgement.cause is Cause.TRY_LATER:
        return replace(judgement, cause=Cause.EXPIRED)
    return judgement
