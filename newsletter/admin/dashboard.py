"""The first page of the admin: what is going out, what goes next, how the last issue did, who reads.

Counts of readers are estimates where there are many (`newsletter.counting`), and each part costs the same few queries
for one newsletter as for twenty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from newsletter import counting, stats
from newsletter.admin.site import may_view
from newsletter.counting import Count
from newsletter.models import Dispatch, Issue, Newsletter
from subscribers.models import Subscription

SHOWN = 4  # newsletters that the page goes into; whoever has more goes through their list

Status = Dispatch.Status
RUNNING = (Status.PREPARING, Status.SENDING, Status.PAUSED, Status.MISSED)


@dataclass(frozen=True)
class Running:
    """A dispatch that is under way, or waits for somebody's word. `share` is what is done of it, in per cent."""

    dispatch: Dispatch
    share: int
    line: str


@dataclass(frozen=True)
class Glance:
    """One newsletter: who reads it, what goes next, what went last and its numbers."""

    newsletter: Newsletter
    readers: Count
    drafts: int
    next: Dispatch | None
    last: Dispatch | None
    numbers: dict[str, Any] | None
    step: Step | None = None


@dataclass(frozen=True)
class Step:
    """What to do next, where something is missing."""

    sentence: str
    label: str
    url: str


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """`context` of the first page with `glances`, `running`, `more` (newsletters not shown) and `step`."""
    if not may_view(request, "newsletter.newsletter"):
        return context
    newsletters = list(Newsletter.objects.order_by("pk")[: SHOWN + 1])
    glances = [_glance(request, newsletter) for newsletter in newsletters[:SHOWN]]
    first = Step(
        "A newsletter has a name, a sender and a look. Everything else follows from it.",
        "Make the first newsletter",
        reverse("admin:newsletter_newsletter_add"),
    )
    return {
        **context,
        "glances": glances,
        "running": [_running(dispatch) for dispatch in _dispatches().filter(status__in=RUNNING).order_by("pk")[:SHOWN]],
        "more": len(newsletters) > SHOWN,
        "step": first if not newsletters and request.user.has_perm("newsletter.add_newsletter") else None,
    }


def _dispatches() -> QuerySet[Dispatch]:
    return Dispatch.objects.filter(kind=Dispatch.Kind.ISSUE).select_related("newsletter", "issue")


def _glance(request: HttpRequest, newsletter: Newsletter) -> Glance:
    of_it = _dispatches().filter(newsletter=newsletter)
    last = of_it.filter(status=Status.SENT).order_by("-pk").first()
    active = Subscription.objects.filter(newsletter=newsletter, status=Subscription.Status.ACTIVE)
    under_way = Dispatch.objects.filter(issue=OuterRef("pk")).exclude(status__in=(Status.DRAFT, Status.CANCELLED))
    drafts = Issue.objects.filter(~Exists(under_way), newsletter=newsletter)
    glance = Glance(
        newsletter=newsletter,
        readers=counting.about(active),
        drafts=drafts.count(),
        next=of_it.filter(status=Status.SCHEDULED).order_by("due_at").first(),
        last=last,
        numbers=stats.count(last) if last else None,
    )
    return replace(glance, step=_next_step(request, glance))


def _next_step(request: HttpRequest, glance: Glance) -> Step | None:
    """What a newsletter lacks before its first issue can go out, if this member of staff may do it."""
    if not glance.newsletter.postal_address and request.user.has_perm("newsletter.change_newsletter"):
        return Step(
            "It has no postal address, which the law wants in every mail.",
            "Add the address",
            reverse("admin:newsletter_newsletter_change", args=[glance.newsletter.pk]),
        )
    if not glance.readers.number and request.user.has_perm("subscribers.add_subscriber"):
        return Step(
            "Nobody reads it yet.",
            "Add a reader",
            reverse("admin:subscribers_subscriber_add"),
        )
    if not (glance.drafts or glance.next or glance.last) and request.user.has_perm("newsletter.add_issue"):
        return Step("It has no issue yet.", "Write the first issue", reverse("admin:newsletter_issue_add"))
    return None


def _running(dispatch: Dispatch) -> Running:
    numbers = stats.count(dispatch)
    waiting = numbers["queued"] + numbers["sending"]
    done = numbers["deliveries"] - waiting
    share = round(100 * done / numbers["deliveries"]) if numbers["deliveries"] else 0
    return Running(dispatch, share, f"{done:,} of {numbers['deliveries']:,}")
