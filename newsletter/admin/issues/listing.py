"""The list of issues: where each stands, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.contrib import admin
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils.html import format_html

from newsletter import scheduling, stats
from newsletter.models import Attempt, Delivery, Dispatch, Event, Issue, Tally

Status = Dispatch.Status
MOVING = (Status.SENDING, Status.PAUSED)
COUNTED = 50_000  # deliveries: so many are counted in a moment
_LEFT_TO_DO = (Delivery.Status.QUEUED, Delivery.Status.SENDING)


@dataclass(frozen=True)
class State:
    """Where an issue stands: a few words for a badge, the kind of badge, and the dispatch, if there is one."""

    words: str
    badge: str  # info, success, warning, danger, primary or "", as desk.css knows them
    dispatch: Dispatch | None


_BADGES = {
    Status.DRAFT: "",
    Status.SCHEDULED: "info",
    Status.PREPARING: "primary",
    Status.SENDING: "primary",
    Status.PAUSED: "warning",
    Status.SENT: "success",
    Status.MISSED: "danger",
    Status.CANCELLED: "",
}


def state_of(dispatch: Dispatch | None, *, percent: int | None = None) -> State:
    """The state of an issue whose latest dispatch is `dispatch`; `percent` says how much is done, where it moves."""
    if dispatch is None:
        return State("draft", "", None)
    done = "" if percent is None else f" {percent} %"
    match dispatch.status:
        case Status.SCHEDULED:
            words = f"scheduled for {scheduling.when(dispatch)}"
        case Status.SENDING:
            words = f"sending{done}"
        case Status.PAUSED:
            words = f"paused{' at' + done if done else ''}"
        case Status.SENT if dispatch.finished_at:
            on = scheduling.wall_time_in(dispatch.finished_at, dispatch.time_zone)
            words = f"sent {on.day} {on:%b %Y}"
        case _:
            words = dispatch.get_status_display()
    return State(words, _BADGES[Status(dispatch.status)], dispatch)


def badge(state: State) -> str:
    """`state` as a badge."""
    return format_html('<span class="desk-badge" data-kind="{}">{}</span>', state.badge, state.words)


def states(issues: Iterable[Issue]) -> dict[int, State]:
    """The state of each of `issues`, by its id, in two queries."""
    ids = [issue.pk for issue in issues]
    latest = {dispatch.issue_id: dispatch for dispatch in Dispatch.objects.filter(issue__in=ids).order_by("pk")}
    percents = percent_done(dispatch for dispatch in latest.values() if dispatch.status in MOVING)
    found = ((pk, latest.get(pk)) for pk in ids)
    return {pk: state_of(dispatch, percent=percents.get(dispatch.pk) if dispatch else None) for pk, dispatch in found}


def people(states: Iterable[State]) -> dict[int, dict[str, int]]:
    """How many people opened and clicked what was sent, `open` and `click`, by the id of the dispatch, as far as
    readers are followed; two queries."""
    sent = stats.knowing_readers(state.dispatch.pk for state in states if state.dispatch and state.dispatch.snapshot_at)
    rows = Tally.objects.filter(dispatch__in=sent, judged=Event.Judged.PERSON, url_digest="")
    found: dict[int, dict[str, int]] = {pk: {} for pk in sent}
    for pk, kind, readers in rows.values_list("dispatch", "kind", "readers"):
        found[pk][kind] = readers
    return found


def percent_done(dispatches: Iterable[Dispatch]) -> Mapping[int, int]:
    """How many of a hundred deliveries of each dispatch are through, by its id; none before its snapshot.

    Counts what is left to do, from the index of deliveries by dispatch and status; of a dispatch with more than COUNTED
    deliveries it sums what its attempts handed over, a row for every hundred.
    """
    expected = {
        dispatch.pk: dispatch.candidates - sum(dispatch.exclusions.values())
        for dispatch in dispatches
        if dispatch.candidates is not None
    }
    large = {pk for pk, number in expected.items() if number > COUNTED}
    rows = Delivery.objects.filter(dispatch__in=expected.keys() - large, status__in=_LEFT_TO_DO)
    left = dict(rows.values_list("dispatch").annotate(count=Count("pk")).order_by())
    attempts = Attempt.objects.filter(batch__dispatch__in=large)
    accepted = dict(attempts.values_list("batch__dispatch").annotate(sum=Sum("accepted")).order_by())
    left |= {pk: expected[pk] - min(expected[pk], accepted.get(pk, 0)) for pk in large}
    return {pk: 100 * (number - left.get(pk, 0)) // number if number else 100 for pk, number in expected.items()}


class StateFilter(admin.SimpleListFilter):
    """Narrows the list to the issues in one state."""

    title = "state"
    parameter_name = "state"
    CHOICES = {
        "draft": ("Drafts", (Status.DRAFT,)),
        "scheduled": ("Scheduled", (Status.SCHEDULED,)),
        "sending": ("On their way", (Status.PREPARING, Status.SENDING, Status.PAUSED)),
        "sent": ("Sent", (Status.SENT,)),
        "missed": ("Missed", (Status.MISSED,)),
        "cancelled": ("Cancelled", (Status.CANCELLED,)),
    }

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """The states to choose from."""
        return [(key, label) for key, (label, _) in self.CHOICES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Issue]) -> QuerySet[Issue]:
        """The issues whose latest dispatch is in the chosen state; an issue without one is a draft."""
        chosen = self.CHOICES.get(self.value() or "")
        if chosen is None:
            return queryset
        latest = Dispatch.objects.filter(issue=OuterRef("pk")).order_by("-pk").values("status")[:1]
        never = Q(state=None) if self.value() == "draft" else Q(pk__in=[])
        return queryset.annotate(state=Subquery(latest)).filter(Q(state__in=chosen[1]) | never)
