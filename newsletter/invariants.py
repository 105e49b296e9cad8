"""What must hold of every dispatch whatever happened, counted from rows that the engine's states do not decide.

What does not hold is a Breach, kept until somebody takes note of it: from then on only what is new is one.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Count, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from newsletter.models import Attempt, Breach, Delivery, Dispatch


def accepted(dispatch: Dispatch) -> int:
    """How many messages transports said they took, by their attempts."""
    return Attempt.objects.filter(batch__dispatch=dispatch).aggregate(sum=Sum("accepted"))["sum"] or 0


def breaches(dispatch: Dispatch) -> list[str]:
    """What does not hold and nobody has taken note of, a sentence each; empty when everybody is accounted for and
    nobody was mailed twice. What it finds is kept.

    A second mail to one reader was seen where its accept was noted (`deliveries.accepting`). Were one missed, attempts
    would have had more accepts than there are deliveries and second mails.
    """
    found = []
    further = Breach.objects.filter(dispatch=dispatch).duplicates()
    takes = Attempt.objects.filter(batch__dispatch=dispatch).order_by()
    # One statement, hence one moment: between two of them chunks are noted and readers erased.
    seen = (
        Dispatch.objects.values("candidates", "exclusions", "snapshot_at")
        .annotate(
            stand=_count(Delivery.objects.filter(dispatch=dispatch)),
            twice=_count(further.filter(attempt__gt=0)),
            new=_count(further.new()),
            took=Coalesce(Subquery(takes.values("batch__dispatch").annotate(sum=Sum("accepted")).values("sum")), 0),
        )
        .get(pk=dispatch.pk)
    )
    excluded = sum(seen["exclusions"].values())
    if seen["snapshot_at"] and seen["stand"] + excluded != seen["candidates"]:
        found.append(
            f"Of {seen['candidates']} candidates only {seen['stand']} deliveries and {excluded} exclusions stand."
        )
    if seen["took"] - seen["twice"] > seen["stand"]:
        found.append(f"{seen['took']} messages were accepted for {seen['stand']} deliveries: somebody got it twice.")
    found = _kept(dispatch, found)
    if seen["new"]:
        mails = "1 mail was" if seen["new"] == 1 else f"{seen['new']:,} mails were"
        found.append(f"{mails} accepted for readers who had it already: they got it twice.")
    return found


def acknowledge(dispatch: Dispatch, by: str) -> int:
    """`by` takes note of every breach of `dispatch` that is known now; how many these were."""
    return Breach.objects.filter(dispatch=dispatch).new().update(acknowledged_at=Now(), acknowledged_by=by[:150])


def _kept(dispatch: Dispatch, sentences: list[str]) -> list[str]:
    """Those of `sentences` that nobody has taken note of."""
    if not sentences:
        return []
    Breach.objects.bulk_create(
        (Breach(dispatch=dispatch, sentence=sentence) for sentence in sentences), ignore_conflicts=True
    )
    new = set(Breach.objects.filter(dispatch=dispatch).new().values_list("sentence", flat=True))
    return [sentence for sentence in sentences if sentence in new]


def _count(rows: QuerySet[Any]) -> Coalesce:
    """The number of `rows`, all of one dispatch, inside a larger statement."""
    return Coalesce(Subquery(rows.order_by().values("dispatch").annotate(count=Count("pk")).values("count")), 0)
