"""The author's numbers: where each candidate of an issue stands. Sums are checked, not assumed."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q

from newsletter.models import Delivery, Dispatch, Event, Issue

Status = Delivery.Status


def report(issue: Issue) -> dict[str, Any]:
    """Where the latest dispatch of `issue` stands.

    candidates = deliveries + all of `excluded` (by reason); deliveries = queued + sending + sent + failed + unconfirmed
    + all of `skipped` (by reason). opened, clicked and unsubscribed count readers, open_hits and click_hits requests,
    which is all that anonymous tracking knows. Zeros before the snapshot.
    """
    dispatch = issue.dispatches.order_by("-pk").first()
    rows = Delivery.objects.filter(dispatch=dispatch) if dispatch else Delivery.objects.none()
    by_status = dict(rows.values_list("status").annotate(count=Count("pk")).order_by())
    skipped = rows.filter(status=Status.SKIPPED).values_list("reason").annotate(count=Count("pk")).order_by("reason")
    readers = rows.aggregate(
        opened=Count("pk", filter=Q(opened_at__isnull=False)),
        clicked=Count("pk", filter=Q(clicked_at__isnull=False)),
        unsubscribed=Count("pk", filter=Q(unsubscribed_at__isnull=False)),
    )
    hits = dict(
        Event.objects.filter(dispatch=dispatch).values_list("kind").annotate(count=Count("pk")).order_by()
        if dispatch
        else []
    )
    return {
        "issue": issue.pk,
        "title": issue.title,
        "status": dispatch.status if dispatch else Dispatch.Status.DRAFT.value,
        "pause_reason": dispatch.pause_reason if dispatch else "",
        "candidates": (dispatch.candidates or 0) if dispatch else 0,
        "excluded": dispatch.exclusions if dispatch else {},
        "deliveries": sum(by_status.values()),
        **{status.value: by_status.get(status.value, 0) for status in Status if status != Status.SKIPPED},
        "skipped": dict(skipped),
        **readers,
        "open_hits": hits.get(Event.Kind.OPEN, 0),
        "click_hits": hits.get(Event.Kind.CLICK, 0),
    }


def sums_agree(numbers: dict[str, Any]) -> bool:
    """Whether a report accounts for everybody."""
    states: int = sum(numbers[status.value] for status in Status if status != Status.SKIPPED)
    everyone: bool = numbers["candidates"] == numbers["deliveries"] + sum(numbers["excluded"].values())
    return everyone and numbers["deliveries"] == states + sum(numbers["skipped"].values())


def doubts(issue: Issue, *, limit: int = 1000) -> list[dict[str, Any]]:
    """The deliveries of `issue` of which nobody knows whether they arrived: delivery, subscriber id and last answer."""
    rows = Delivery.objects.filter(dispatch__issue=issue, status=Status.UNCONFIRMED).order_by("pk")
    return [dict(row) for row in rows.values("id", "subscriber_id", "reply")[:limit]]
