"""The first page of the admin: what is going out, what goes next, how the last issue did, who reads.

Counts of readers are estimates where there are many (`newsletter.counting`), and what a large dispatch has reached is
summed up from its attempts: nothing here reads a million rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse

from newsletter import counting, feedback, fetching, intake, scheduling, stats
from newsletter.admin.site import may_view
from newsletter.models import Attempt, Breach, Delivery, Dispatch, Event, Halt, Issue, Newsletter, Tally
from subscribers.models import Subscription

EXPLAINED = 1  # of the latest issues, those of which the page says why they were blocked
_LEFT_OPEN = (Delivery.Status.FAILED.value, Delivery.Status.UNCONFIRMED.value)
_BY_PEOPLE = {Event.Kind.OPEN.value: "opened", Event.Kind.CLICK.value: "clicked"}
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
    """One newsletter: who reads it, what goes next, what went last and its numbers. `blocked` says of how many readers
    the servers refused the last issue, and why."""

    newsletter: Newsletter
    readers: counting.Count
    drafts: int
    next: Dispatch | None
    last: Dispatch | None
    accepted: int
    numbers: dict[str, int | None] | None
    came_back: dict[Delivery.Verdict, int]
    blocked: str
    step: Step | None = None

    @property
    def returned_total(self) -> int:
        """Of how many readers the last issue came back."""
        return sum(self.came_back.values())

    @property
    def returned(self) -> str:
        """What came back of the last issue, by verdict, in words."""
        return ", ".join(
            feedback.Group(verdict, self.came_back[verdict]).counted
            for verdict in reversed(Delivery.Verdict)
            if verdict in self.came_back
        )


@dataclass(frozen=True)
class Step:
    """What to do next, where something is missing."""

    sentence: str
    label: str
    url: str


@dataclass(frozen=True)
class Alarm:
    """What nobody on this page may overlook; `url` leads to it, or is ""."""

    title: str
    sentence: str
    url: str = ""


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """`context` of the first page with `alarms`, `glances`, `running`, `more` (newsletters not shown) and `step`."""
    if not may_view(request, "newsletter.newsletter"):
        return context
    newsletters = list(_newsletters()[: SHOWN + 1])
    first = Step(
        "A newsletter has a name, a sender and a look. Everything else follows from it.",
        "Make the first newsletter",
        reverse("admin:newsletter_newsletter_add"),
    )
    running = list(_dispatches().filter(status__in=RUNNING).order_by("pk")[:SHOWN])
    shown = newsletters[:SHOWN]
    ends = _dispatches().in_bulk({pk for newsletter in shown for pk in (newsletter.last, newsletter.next) if pk})
    accepted = _accepted([*running, *ends.values()])
    return {
        **context,
        "alarms": _alarms(),
        "glances": _glances(request, shown, ends, accepted),
        "running": [Running(dispatch, *_progress(dispatch, accepted.get(dispatch.pk, 0))) for dispatch in running],
        "more": len(newsletters) > SHOWN,
        "step": first if not newsletters and request.user.has_perm("newsletter.add_newsletter") else None,
    }


def _alarms() -> list[Alarm]:
    """That all sending is halted, or that of single messages, each dispatch whose sums or accepts do not hold and of
    which nobody has taken note, that bounces cannot be read, and what came back and is not written down."""
    halted = Halt.objects.in_words()
    broken = _dispatches().filter(breached=True, pk__in=Breach.objects.new().values("dispatch")).order_by("-pk")
    mailbox, kept_back = fetching.current(), scheduling.kept_back()
    return [
        *([Alarm("All sending is halted.", halted)] if halted else []),
        *([Alarm("Confirmations and other single messages do not go out.", kept_back)] if kept_back else []),
        *(
            Alarm(
                f"{dispatch.issue} {'has ended' if dispatch.status in Dispatch.ENDED else 'is stopped'}:"
                " it does not add up.",
                dispatch.pause_reason,
                reverse("admin:newsletter_dispatch_change", args=[dispatch.pk]),
            )
            for dispatch in broken[:SHOWN]
        ),
        *([Alarm("Bounces cannot be read.", mailbox.trouble)] if mailbox and mailbox.trouble else []),
        *(Alarm("Opens, clicks or notices are missing.", sentence) for sentence in intake.complaints(intake.look())),
    ]


def _newsletters() -> QuerySet[Any]:
    """The newsletters, with the dispatches that went last and go next, and the number of drafts."""
    own = Dispatch.objects.filter(newsletter=OuterRef("pk"), kind=Dispatch.Kind.ISSUE)
    under_way = Dispatch.objects.filter(issue=OuterRef("pk")).exclude(status__in=(Status.DRAFT, Status.CANCELLED))
    drafts = Issue.objects.filter(~Exists(under_way), newsletter=OuterRef("pk")).order_by()
    return Newsletter.objects.order_by("pk").annotate(
        last=Subquery(own.filter(status=Status.SENT).order_by("-pk").values("pk")[:1]),
        next=Subquery(own.filter(status=Status.SCHEDULED).order_by("due_at").values("pk")[:1]),
        drafts=Coalesce(Subquery(drafts.values("newsletter").annotate(number=Count("pk")).values("number")), 0),
    )


def _dispatches() -> QuerySet[Dispatch]:
    return Dispatch.objects.filter(kind=Dispatch.Kind.ISSUE).select_related("newsletter", "issue")


def _glances(
    request: HttpRequest, newsletters: list[Any], dispatches: dict[int, Dispatch], accepted: dict[int, int]
) -> list[Glance]:
    sent = [dispatch for dispatch in dispatches.values() if dispatch.status == Status.SENT]
    numbers, came_back = _numbers(sent), feedback.numbers(sent)
    blocked = _blocked(sent, came_back)
    readers = _readers(newsletters)
    glances = []
    for newsletter in newsletters:
        last = dispatches.get(newsletter.last)
        glance = Glance(
            newsletter=newsletter,
            readers=readers[newsletter.pk],
            drafts=newsletter.drafts,
            next=dispatches.get(newsletter.next),
            last=last,
            accepted=accepted.get(newsletter.last, 0),
            numbers=numbers.get(newsletter.last),
            came_back=came_back.get(newsletter.last, {}),
            blocked=blocked.get(newsletter.last, ""),
        )
        glances.append(replace(glance, step=_next_step(request, glance)))
    return glances


def _readers(newsletters: list[Any]) -> dict[int, counting.Count]:
    """How many read each: counted for all those at once of which that is cheap."""
    if not newsletters:
        return {}
    active = Subscription.objects.filter(newsletter__in=newsletters, status=Subscription.Status.ACTIVE)
    large: dict[int, counting.Count] = {}
    if counting.estimate(active):
        estimates = {each.pk: counting.estimate(active.filter(newsletter=each)) for each in newsletters}
        large = {pk: estimate for pk, estimate in estimates.items() if estimate}
    small = active.exclude(newsletter__in=large).values_list("newsletter")
    counts = dict(small.annotate(number=Count("*")).order_by()) if len(large) < len(newsletters) else {}
    return {each.pk: large.get(each.pk) or counting.Count(counts.get(each.pk, 0)) for each in newsletters}


def _numbers(dispatches: list[Dispatch]) -> dict[int, dict[str, int | None]]:
    """Of what went last, by id: readers who opened and clicked (None where nobody was followed) and left, and mail that
    failed or is in doubt; from tallies and parts of indexes that have no others, for all of them at once."""
    found: dict[int, dict[str, int | None]] = {
        dispatch.pk: dict.fromkeys(("unsubscribed", *_LEFT_OPEN), 0) | dict.fromkeys(_BY_PEOPLE.values())
        for dispatch in dispatches
    }
    followed = stats.knowing_readers(found)
    for pk in followed:
        found[pk] |= dict.fromkeys(_BY_PEOPLE.values(), 0)
    people = Tally.objects.filter(url_digest="", judged=Event.Judged.PERSON, kind__in=_BY_PEOPLE)
    tallies = people.filter(dispatch__in=followed)
    for pk, kind, readers in tallies.values_list("dispatch", "kind", "readers"):
        found[pk][_BY_PEOPLE[kind]] = readers
    rows = Delivery.objects.filter(dispatch__in=found).order_by()
    left = rows.filter(unsubscribed_at__isnull=False).values_list("dispatch", Value("unsubscribed"))
    open_ = rows.filter(status__in=_LEFT_OPEN).values_list("dispatch", "status")
    for pk, name, number in left.annotate(number=Count("*")).union(open_.annotate(number=Count("*")), all=True):
        found[pk][name] = number
    return found


def _blocked(dispatches: list[Dispatch], came_back: dict[int, dict[Delivery.Verdict, int]]) -> dict[int, str]:
    """Whose servers refused each of these; of the EXPLAINED latest also why."""
    verdict = Delivery.Verdict.BLOCK
    refused = [each for each in dispatches if came_back.get(each.pk, {}).get(verdict)]
    refused.sort(key=lambda dispatch: -dispatch.pk)
    found = {}
    for place, dispatch in enumerate(refused):
        number = came_back[dispatch.pk][verdict]
        short = feedback.Group(verdict, number)
        found[dispatch.pk] = feedback.sentence(
            feedback.group(dispatch, verdict, number) if place < EXPLAINED else short
        )
    return found


def _accepted(dispatches: list[Dispatch]) -> dict[int, int]:
    """The mails that were accepted of each, by id: sums over its attempts, a hundredth of its deliveries."""
    rows = Attempt.objects.filter(batch__dispatch__in=dispatches).values_list("batch__dispatch")
    return dict(rows.annotate(number=Sum("accepted")).order_by())


def _progress(dispatch: Dispatch, accepted: int) -> tuple[int, str]:
    deliveries = (dispatch.candidates or 0) - sum(dispatch.exclusions.values())
    share = min(100, 100 * accepted // deliveries) if deliveries > 0 else 0
    return share, f"{accepted:,} of {deliveries:,} accepted" if dispatch.snapshot_at else "not begun"


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
