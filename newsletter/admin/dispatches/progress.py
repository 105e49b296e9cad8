"""How far a dispatch has come, in numbers that stay cheap with a million deliveries, and in words."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.cache import cache
from django.db.models import Count, Q, Sum
from django.db.models.functions import Now

from newsletter import scheduling, stats
from newsletter.models import Attempt, Breach, Delivery, Dispatch

Status = Dispatch.Status
RUNNING = (Status.PREPARING, Status.SENDING)
FRESH_SECONDS = 1  # however many people watch, the rows are counted once in this time
_PACE_OVER = dt.timedelta(seconds=20)

# Why a reader gets no mail, as the author would say it.
REASONS = {
    "pending": "not confirmed",
    "paused": "paused",
    "unsubscribed": "left",
    "suppressed": "suppressed",
    "erased": "erased",
    "cancelled": "cancelled",
}


def standing(dispatch: Dispatch) -> stats.Standing:
    """Where the deliveries of `dispatch` stand, counted at most once a second in each state: a page that has come to
    rest is not looked at again, so it must not show what was counted before it was paused."""
    found: stats.Standing = cache.get_or_set(  # type: ignore[assignment]
        f"dispatch-{dispatch.pk}-{dispatch.status}-standing", lambda: stats.standing(dispatch), FRESH_SECONDS
    )
    return found


def counts(dispatch: Dispatch) -> dict[str, int]:
    """The deliveries of `dispatch` by status."""
    return standing(dispatch).by_status


def report(dispatch: Dispatch) -> dict[str, Any]:
    """`stats.count`; the deliveries are counted at most once a second."""
    return stats.count(dispatch, standing(dispatch))


def live(dispatch: Dispatch) -> dict[str, Any]:
    """What changes while one looks: `status`, `numbers` by name, `percent`, `pace` in words, and where it waits for its
    start the seconds until then; `in_hand` says what still goes out of one that is paused. `moving` says whether it is
    worth looking again soon."""
    by_status = counts(dispatch)
    deliveries = sum(by_status.values())
    left = by_status[Delivery.Status.QUEUED] + by_status[Delivery.Status.SENDING]
    through = deliveries - left
    waits = dispatch.due_at - dt.datetime.now(dt.UTC) if _waits(dispatch) and dispatch.due_at else None
    return {
        "status": dispatch.status,
        "numbers": {**by_status, "deliveries": deliveries, "through": through},
        "percent": _percent(dispatch, through, deliveries),
        "pace": pace(dispatch, left) if dispatch.status == Status.SENDING else "",
        "in_hand": _in_hand(by_status[Delivery.Status.SENDING]) if dispatch.status == Status.PAUSED else "",
        "starts_in": max(0, round(waits.total_seconds())) if waits is not None else None,
        "moving": dispatch.status in RUNNING
        or (dispatch.status == Status.PAUSED and by_status[Delivery.Status.SENDING] > 0)
        or (waits is not None and waits < dt.timedelta(minutes=2)),
    }


def pace(dispatch: Dispatch, left: int) -> str:
    """How quickly mail goes out and how long the rest will take, in words; "" before anything is known. A sending that
    is spread takes as long as its plan where that is longer."""
    now = dt.datetime.now(dt.UTC)
    rate = _rate(dispatch, now)
    spoken = (f"{rate:,.0f} a second" if rate >= 2 else f"{60 * rate:,.0f} a minute") if rate else ""
    ends = stats.plan_ends(dispatch) if left else None
    by_rate = left / rate if rate else 0
    planned = (ends - now).total_seconds() if ends else 0
    seconds = max(by_rate, planned)
    rest = ", ".join(filter(None, [spoken, f"about {_span(seconds)} left" if seconds else ""]))
    return f"{rest}; {stats.spread(dispatch)}" if planned > by_rate else rest


def _rate(dispatch: Dispatch, now: dt.datetime) -> float:
    """Mails a second that were accepted of late; 0 where none was."""
    recent = Attempt.objects.filter(batch__dispatch=dispatch, finished_at__gte=Now() - _PACE_OVER)
    accepted = recent.aggregate(number=Sum("accepted"))["number"] or 0
    if not accepted or dispatch.started_at is None:
        return 0
    return float(accepted / min(_PACE_OVER, max(now - dispatch.started_at, dt.timedelta(seconds=1))).total_seconds())


def sum_line(numbers: dict[str, Any]) -> str:
    """`Of 1,204 candidates: 1,180 deliveries + 24 left out (20 left, 4 paused).`"""
    excluded = sum(numbers["excluded"].values())
    why = f" ({in_words(numbers['excluded'])})" if excluded else ""
    return (
        f"Of {numbers['candidates']:,} candidates: {numbers['deliveries']:,} deliveries + {excluded:,} left out{why}."
    )


def in_words(reasons: dict[str, int]) -> str:
    """Numbers by reason, the largest first: `20 left, 4 paused`."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{number:,} {REASONS.get(reason, reason)}" for reason, number in ordered)


def notes_taken(dispatch: Dispatch) -> list[str]:
    """Who took note of what did not hold, and when, by the newsletter's clock: a sentence for each time."""
    seen = Breach.objects.filter(dispatch=dispatch, acknowledged_at__isnull=False).order_by("acknowledged_at")
    times = seen.values_list("acknowledged_by", "acknowledged_at").annotate(
        sums=Count("pk", filter=Q(delivery=None)), mails=Count("delivery")
    )
    return [_note_taken(dispatch, *row) for row in times]


def _note_taken(dispatch: Dispatch, by: str, at: dt.datetime, sums: int, mails: int) -> str:
    too_many = f"{mails:,} mail{'s' if mails > 1 else ''} too many" if mails else ""
    of = [too_many, "sums that do not agree" if sums else ""]
    clock = scheduling.wall_time_in(at, dispatch.time_zone)
    return f"{by or 'Somebody'} took note of {' and '.join(filter(None, of))} on {clock.day} {clock:%b %Y, %H:%M}."


def can_be_undone(dispatch: Dispatch) -> bool:
    """Whether it was just sent off and waits out the undo window."""
    if not _waits(dispatch) or dispatch.due_at is None:
        return False
    return dispatch.due_at - dt.datetime.now(dt.UTC) <= scheduling.UNDO_WINDOW


def _waits(dispatch: Dispatch) -> bool:
    return dispatch.status == Status.SCHEDULED


def _in_hand(number: int) -> str:
    if not number:
        return ""
    return "1 mail in hand still goes out." if number == 1 else f"{number:,} mails in hand still go out."


def _percent(dispatch: Dispatch, through: int, deliveries: int) -> int:
    if dispatch.status == Status.SENT:
        return 100
    return 100 * through // deliveries if deliveries else 0


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{round(seconds)} seconds" if seconds >= 1.5 else "a second"
    if seconds < 5400:
        return f"{round(seconds / 60):,} minutes"
    return f"{round(seconds / 3600):,} hours"
