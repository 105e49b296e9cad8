"""What must hold of every dispatch whatever happened, counted from rows that the engine's states do not decide."""

from __future__ import annotations

from django.db.models import Count, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

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
    takes = Attempt.objects.filter(batch__dispatch=dispatch).order_by()
    # One statement, hence one moment: between two of them chunks are noted and readers erased.
    seen = (
        Dispatch.objects.values("candidates", "exclusions", "snapshot_at")
        .annotate(
            stand=_count(rows),
            sent=_count(rows.filter(status=Delivery.Status.SENT)),
            took=Coalesce(Subquery(takes.values("batch__dispatch").annotate(sum=Sum("accepted")).values("sum")), 0),
        )
        .get(pk=dispatch.pk)
    )
    excluded = sum(seen["exclusions"].values())
    if seen["snapshot_at"] and seen["stand"] + excluded != seen["candidates"]:
        found.append(
            f"Of {seen['candidates']} candidates only {seen['stand']} deliveries and {excluded} exclusions stand."
        )
    if seen["took"] > seen["sent"]:
        found.append(
            f"{seen['took']} messages were accepted for {seen['sent']} deliveries sent: somebody got it twice."
        )
    return found


def _count(rows: QuerySet[Delivery]) -> Coalesce:
    """The number of `rows`, all of one dispatch, inside a larger statement."""
    return Coalesce(Subquery(rows.order_by().values("dispatch").annotate(count=Count("pk")).values("count")), 0)
