"""What must hold of every dispatch whatever happened, counted from rows that the engine's states do not decide."""

from __future__ import annotations

from django.db.models import Sum

from newsletter.models import Attempt, Delivery, Dispatch


def accepted(dispatch: Dispatch) -> int:
    """How many messages transports said they took, by their attempts."""
    return Attempt.objects.filter(batch__dispatch=dispatch).aggregate(sum=Sum("accepted"))["sum"] or 0


def breaches(dispatch: Dispatch) -> list[str]:
    """What does not hold, a sentence each; empty when everybody is accounted for and nobody was mailed twice.

    Every message that was accepted left one delivery SENT, in the same transaction. More accepts than SENT deliveries
    mean that somebody's second mail was taken.
    """
    found = []
    rows = Delivery.objects.filter(dispatch=dispatch)
    deliveries, sent = rows.count(), rows.filter(status=Delivery.Status.SENT).count()
    excluded = sum(dispatch.exclusions.values())
    if dispatch.snapshot_at and deliveries + excluded != dispatch.candidates:
        found.append(
            f"Of {dispatch.candidates} candidates only {deliveries} deliveries and {excluded} exclusions stand."
        )
    took = accepted(dispatch)
    if took > sent:
        found.append(f"{took} messages were accepted for {sent} deliveries sent: somebody got it twice.")
    return found
