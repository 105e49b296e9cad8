"""Whether mail may go to a person, why not, and what came back of theirs: what stands above their form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from newsletter import feedback
from newsletter.admin.bounces import BADGES, WAYS, WORDS
from newsletter.models import Bounce
from subscribers import consent
from subscribers.models import Subscriber, Suppression

SHOWN = 20
Reason = Suppression.Reason
WHY = {
    Reason.HARD_BOUNCE: "A mail server said that the address does not exist.",
    Reason.SOFT_BOUNCE: "Five issues or more came back over two weeks, and none arrived between.",
    Reason.COMPLAINT: "They marked a mail as spam. Only their own new confirmation lifts that.",
    Reason.ERASED: "They had themselves erased. Only their own new confirmation lifts that.",
    Reason.MANUAL: "Somebody of the staff wanted it so.",
}


@dataclass(frozen=True)
class Suppressed:
    """Why no mail goes to an address; `lift` is where that can be taken back, "" where it cannot be or not by you."""

    words: str
    where: str
    row: Suppression
    lift: str


@dataclass(frozen=True)
class Returned:
    """One bounce or complaint of theirs."""

    event: Bounce
    badge: str
    word: str
    reason: str
    way: str


def standing(request: HttpRequest, person: Subscriber) -> dict[str, Any]:
    """What `admin/subscribers/standing.html` shows: `suppressed`, and `returned`, the newest first; `more` where there
    are more of them than SHOWN."""
    suppressions = Suppression.objects.filter(fingerprint=person.fingerprint).select_related("newsletter")
    may_lift = request.user.has_perm("subscribers.delete_suppression")
    may_see = request.user.has_perm("newsletter.view_bounce")
    events = Bounce.objects.filter(subscriber=person).exclude(verdict="").select_related("newsletter").order_by("-pk")
    found = list(events[: SHOWN + 1]) if may_see else []
    return {
        "suppressed": [_suppressed(row, person, may_lift=may_lift) for row in suppressions.order_by("pk")],
        "returned": [
            Returned(
                event,
                BADGES[event.verdict],
                WORDS[event.verdict],
                feedback.words_of(event.verdict, event.reasons),
                WAYS.get(event.source, event.source),
            )
            for event in found[:SHOWN]
        ],
        "returned_more": len(found) > SHOWN,
    }


def _suppressed(row: Suppression, person: Subscriber, *, may_lift: bool) -> Suppressed:
    reason = Reason(row.reason)
    liftable = may_lift and reason in consent.LIFTED_BY_OPERATORS
    lift = reverse("admin:subscribers_suppression_delete", args=[row.pk])
    return Suppressed(
        words=WHY[reason],
        where=str(row.newsletter) if row.newsletter else "the whole site",
        row=row,
        lift=f"{lift}?reader={person.pk}" if liftable else "",
    )
