"""The author's numbers: where each candidate of an issue stands. Sums are checked, not assumed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import Count, Q

from newsletter import warming
from newsletter.models import Delivery, Dispatch, Event, Issue

Status = Delivery.Status


def report(issue: Issue) -> dict[str, Any]:
    """Where the latest dispatch of `issue` stands: the numbers of `count`, and `issue` (its id) and `title`."""
    return {"issue": issue.pk, "title": issue.title, **count(issue.dispatches.order_by("-pk").first())}


def count(dispatch: Dispatch | None) -> dict[str, Any]:
    """Where every candidate of `dispatch` stands; zeros where there is none, or before its snapshot.

    candidates = deliveries + all of `excluded` (by reason); deliveries = queued + sending + sent + failed + unconfirmed
    + all of `skipped` (by reason). opened, clicked and unsubscribed count readers, open_hits and click_hits requests,
    which is all that anonymous tracking knows. `waits_for` says in a sentence why the rest goes on tomorrow, or "".
    """
    rows = Delivery.objects.filter(dispatch=dispatch) if dispatch else Delivery.objects.none()
    events = Event.objects.filter(dispatch=dispatch) if dispatch else Event.objects.none()
    # One statement, so that a claim in between cannot make the sums disagree.
    by_status: Counter[str] = Counter()
    skipped: dict[str, int] = {}
    for status, reason, number in rows.values_list("status", "reason").annotate(count=Count("pk")).order_by("reason"):
        by_status[status] += number
        if status == Status.SKIPPED:
            skipped[reason] = number
    readers = rows.aggregate(
        opened=Count("pk", filter=Q(opened_at__isnull=False)),
        clicked=Count("pk", filter=Q(clicked_at__isnull=False)),
        unsubscribed=Count("pk", filter=Q(unsubscribed_at__isnull=False)),
    )
    hits = dict(events.values_list("kind").annotate(count=Count("pk")).order_by())
    return {
        "status": dispatch.status if dispatch else Dispatch.Status.DRAFT.value,
        "pause_reason": dispatch.pause_reason if dispatch else "",
        "waits_for": warming.reason(dispatch) if dispatch and dispatch.status == Dispatch.Status.SENDING else "",
        "candidates": (dispatch.candidates or 0) if dispatch else 0,
        "excluded": dispatch.exclusions if dispatch else {},
        "deliveries": sum(by_status.values()),
        **{status.value: by_status[status.value] for status in Status if status != Status.SKIPPED},
        "skipped": skipped,
        **readers,
        "open_hits": hits.get(Event.Kind.OPEN, 0),
        "click_hits": hits.get(Event.Kind.CLICK, 0),
    }


def sums_agree(numbers: dict[str, Any]) -> bool:
    """Whether a report accounts for everybody."""
    states: int = sum(numbers[status.value] for status in Status if status != Status.SKIPPED)
    everyone: bool = numbers["candidates"] == numbers["deliveries"] + sum(numbers["excluded"].values())
    return everyone and numbers["deliveries"] == states + sum(numbers["skipped"].values())


def doubts(dispatch: Dispatch | None) -> list[dict[str, Any]]:
    """Deliveries of which nobody knows whether they arrived: their id, subscriber_id and the last reply."""
    rows = Delivery.objects.filter(dispatch=dispatch, status=Status.UNCONFIRMED).order_by("pk")
    return [dict(row) for row in rows.values("id", "subscriber_id", "reply")]


def put_off(dispatch: Dispatch | None) -> dict[str, Any]:
    """What the relay said "later" to: `deliveries` (how many), `next_try_at` (ISO) and `reply` of the one that is tried
    next, or None and "", and `only`: whether nothing else is left to do."""
    left = Delivery.objects.filter(dispatch=dispatch, status__in=(Status.QUEUED, Status.SENDING))
    waiting = left.filter(status=Status.QUEUED, put_off_at__isnull=False)
    first = waiting.order_by("due_at").first()
    deliveries = waiting.count() if first else 0
    return {
        "deliveries": deliveries,
        "next_try_at": first.due_at.isoformat() if first and first.due_at else None,
        "reply": first.reply if first else "",
        "only": deliveries > 0 and left.count() == deliveries,
    }


def full_report(issue: Issue) -> dict[str, Any]:
    """`report`, with `sums_agree`, what was `put_off`, and the listed `doubts`."""
    numbers, dispatch = report(issue), issue.dispatches.order_by("-pk").first()
    return {
        **numbers,
        "sums_agree": sums_agree(numbers),
        "put_off": put_off(dispatch),
        "doubts": doubts(dispatch),
    }
