"""What comes back later says what became of a delivery, whatever the hand-over left open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from django.db.models import Case, F, Value, When
from django.db.models.functions import Now

from newsletter.models import Delivery

Status, Verdict = Delivery.Status, Delivery.Verdict


class Change(NamedTuple):
    """The verdict on a delivery before and after a bounce or a complaint that weighs more."""

    before: int | None
    after: int


def came_back(verdicts: Mapping[int, int]) -> dict[int, Change]:
    """Note `verdicts` by the ids of deliveries, where they weigh more than what is known; the changes, by id.

    UNCONFIRMED -> FAILED: somebody had it, and sent it back. What is SENT stays so: it was accepted. The rows are
    locked in the order of their ids until the transaction ends, which the caller has begun.
    """
    rows = (
        Delivery.objects.select_for_update(no_key=True)
        .filter(pk__in=verdicts)
        .order_by("pk")
        .values_list("pk", "verdict")
    )
    changes = {pk: Change(known, verdicts[pk]) for pk, known in rows if (known or 0) < verdicts[pk]}
    settled = When(status=Status.UNCONFIRMED, then=Value(Status.FAILED.value))
    for verdict in Verdict:
        those = [pk for pk, change in changes.items() if change.after == verdict]
        if those:
            Delivery.objects.filter(pk__in=those).update(
                verdict=verdict,
                settled_at=Case(When(status=Status.UNCONFIRMED, then=Now()), default=F("settled_at")),
                status=Case(settled, default=F("status")),
            )
    return changes
