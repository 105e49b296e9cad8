"""After a backup was restored: what stood in it may have gone out after the backup was made, and nothing here knows.

So none of it goes out unasked. `unsure` and `unsure_of_refused` are the only places that know what that is; what was
made since the restoration is nobody's doubt.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import Exists, Max, Min, OuterRef

from newsletter import deliveries
from newsletter.models import Delivery, Dispatch, Issue, Restoration

Status = Dispatch.Status
OPEN = (Delivery.Status.QUEUED, Delivery.Status.SENDING)


@dataclass
class Distrusted:
    """How many deliveries are `unconfirmed`, and single messages `cancelled`; the dispatches that are `paused` in
    mid-send, and `waiting` before it."""

    unconfirmed: int = 0
    cancelled: int = 0
    paused: list[Dispatch] = field(default_factory=list)
    waiting: list[Dispatch] = field(default_factory=list)


def distrust(since: dt.datetime) -> Distrusted:
    """After restoring a backup made at `since`: what may have been sent after it is in doubt, and a human decides.

    Rows that are open become UNCONFIRMED, and their dispatch is PAUSED; so is one that waits for its time, whenever
    that is, since it may have been sent at another. Single messages are cancelled: whoever misses one asks again. Run
    it before any worker starts.
    """
    done = Distrusted()
    with transaction.atomic():
        Restoration.objects.create(made_at=since)
        deliveries.repeat_nothing()
        singles = Dispatch.objects.live().filter(kind=Dispatch.Kind.SINGLE)
        done.cancelled = singles.update(status=Status.CANCELLED, finished_at=None)
        left = Exists(Delivery.objects.filter(dispatch=OuterRef("pk"), status__in=OPEN))
        for dispatch in Dispatch.objects.filter(left).exclude(status=Status.CANCELLED).order_by("pk"):
            done.unconfirmed += deliveries.distrust(dispatch)
        going = Dispatch.objects.filter(status__in=(Status.SCHEDULED, Status.PREPARING, Status.SENDING, Status.PAUSED))
        for dispatch in going.select_related("issue").order_by("pk"):
            begun = dispatch.snapshot_at is not None
            (done.paused if begun else done.waiting).append(dispatch)
            settle = "settle what is in doubt, then resume."
            look = f"{_twice(dispatch.issue)} Find out, then resume or cancel it."
            reason = f"{_restored(since)} {settle if begun else look}"
            Dispatch.objects.filter(pk=dispatch.pk).update(status=Status.PAUSED, pause_reason=reason)
    return done


def unsure(issue: Issue) -> str:
    """Why it is not sure that `issue` has not gone out, in a sentence for whoever sends it; "" where it is sure, or
    somebody was."""
    sure_at = Dispatch.objects.filter(issue=issue).aggregate(at=Max("sure_at"))["at"]
    backup = _oldest_with(max(issue.created_at, sure_at or issue.created_at))
    return f"{_restored(backup.made_at)} {_twice(issue)}" if backup else ""


def unsure_of_refused(dispatch: Dispatch) -> str:
    """The same of what was refused, for whoever has it tried again: that may have been done after the backup."""
    refused = Delivery.objects.filter(dispatch=dispatch, status=Delivery.Status.FAILED)
    first = refused.aggregate(at=Min("settled_at"))["at"]
    backup = _oldest_with(first) if first else None
    if backup is None:
        return ""
    return f"{_restored(backup.made_at)} if this was tried again after it, readers may get it twice."


def _oldest_with(moment: dt.datetime) -> Restoration | None:
    """The oldest backup that what was there at `moment` stood in."""
    return Restoration.objects.filter(restored_at__gte=moment).order_by("made_at").first()


def _restored(made_at: dt.datetime) -> str:
    return f"The database was restored from a backup of {made_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC:"


def _twice(issue: Issue | None) -> str:
    return f"if “{issue}” went out after it, readers get it twice."
