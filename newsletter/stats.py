"""The author's numbers: where each candidate of an issue stands, who opened and clicked. Sums are checked, not assumed.

People come first: `opened` and `clicked` are readers of whom a person's open or click came. Machines, and hits of which
nobody can tell, stand beside (`newsletter.judging` says how they are told apart). All of that is read from tallies and
indexes, never counted from events. A share is one of those whose opens and clicks can be known: a reader who is counted
without a name never stands among those who opened, and must not lower it.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, F, Value

from newsletter import feedback, warming
from newsletter.content import TrackingMode
from newsletter.models import Breach, Delivery, Dispatch, DispatchProfile, Event, Halt, Issue, Tally

Status = Delivery.Status
Kind, Judged = Event.Kind, Event.Judged

# Classes of hits by their names in a report. The tally of all of them has no class.
CLASSES = {"people": Judged.PERSON.value, "unknown": Judged.UNKNOWN.value, "machines": Judged.MACHINE.value, "all": ""}
KINDS = {"opens": Kind.OPEN.value, "clicks": Kind.CLICK.value}

Count_ = dict[str, int]


def report(issue: Issue) -> dict[str, Any]:
    """Where the latest dispatch of `issue` stands: the numbers of `count`, and `issue` (its id) and `title`."""
    return {"issue": issue.pk, "title": issue.title, **count(issue.dispatches.order_by("-pk").first())}


@dataclass(frozen=True)
class Standing:
    """Deliveries by status, and the skipped ones by reason."""

    by_status: Count_
    skipped: Count_

    @property
    def deliveries(self) -> int:
        """How many there are."""
        return sum(self.by_status.values())


def standing(dispatch: Dispatch | None) -> Standing:
    """Where the deliveries of `dispatch` stand now.

    One statement, so that a claim in between cannot make the sums disagree. A part of it for each status, each counted
    in an index (rows, not ids, which `delivery_sent` does not hold): of a million that takes a fifth of what it takes
    to group them, and reasons are asked of the skipped alone.
    """
    by_status = dict.fromkeys((status.value for status in Status), 0)
    skipped: Count_ = {}
    if dispatch is not None:
        rows = Delivery.objects.filter(dispatch=dispatch).order_by()
        skipped_ones = rows.filter(status=Status.SKIPPED)
        reasons = skipped_ones.values_list(Value(Status.SKIPPED.value), "reason").annotate(number=Count("*"))
        others = (
            rows.filter(status=status).values_list(Value(status.value), Value("")).annotate(number=Count("*"))
            for status in Status
            if status != Status.SKIPPED
        )
        for status, reason, number in reasons.union(*others, all=True):
            by_status[status] += number
            if status == Status.SKIPPED:
                skipped[reason] = number
    return Standing(by_status, dict(sorted(skipped.items())))


def count(dispatch: Dispatch | None, stands: Standing | None = None) -> dict[str, Any]:
    """Where every candidate of `dispatch` stands; zeros where there is none, or before its snapshot. `stands` is its
    `standing` where that is known.

    candidates = deliveries + all of `excluded` (by reason); deliveries = queued + sending + sent + failed + unconfirmed
    + all of `skipped` (by reason). followed are those of `sent` whose mail said whose opens and clicks they are: none
    of anonymous tracking. opened and clicked are readers of whom a person's open or click came, open_rate and
    click_rate their share of those followed (None: nobody was), unsubscribed those who left by it. `opens` and `clicks`
    have `readers` and `hits` by CLASSES; of those who were not followed hits alone are known. A reader may stand in
    several classes. `twice` is how many readers were mailed more than once. `waits_for` says in a sentence why the
    rest does not go on now, or "", and `spread` what `spread` does.
    """
    stands = stands or standing(dispatch)
    hits = engagement(dispatch)
    opened, clicked = (hits[name]["people"]["readers"] for name in ("opens", "clicks"))
    followed = _followed(dispatch, stands)
    breaches = Breach.objects.filter(dispatch=dispatch)
    left = Delivery.objects.filter(dispatch=dispatch, unsubscribed_at__isnull=False)
    return {
        "status": dispatch.status if dispatch else Dispatch.Status.DRAFT.value,
        "pause_reason": dispatch.pause_reason if dispatch else "",
        "waits_for": waits_for(dispatch) if dispatch else "",
        "spread": spread(dispatch) if dispatch else "",
        "candidates": (dispatch.candidates or 0) if dispatch else 0,
        "excluded": dispatch.exclusions if dispatch else {},
        "deliveries": stands.deliveries,
        **{status: number for status, number in stands.by_status.items() if status != Status.SKIPPED},
        "skipped": stands.skipped,
        "followed": followed,
        "twice": breaches.duplicates().values("delivery").distinct().count() if dispatch else 0,
        "opened": opened,
        "clicked": clicked,
        "open_rate": _rate(opened, followed),
        "click_rate": _rate(clicked, followed),
        "unsubscribed": left.count() if dispatch else 0,
        **hits,
    }


def waits_for(dispatch: Dispatch) -> str:
    """Why `dispatch`, which is SENDING, does not go on now, in a sentence; "" where it does, or is not."""
    if dispatch.status != Dispatch.Status.SENDING:
        return ""
    halted = Halt.objects.in_words()
    return f"All sending of this site is halted: {halted}" if halted else warming.reason(dispatch)


def plan_ends(dispatch: Dispatch) -> dt.datetime | None:
    """When the last batch of `dispatch` begins, where its sending is spread; None where it has begun, or the plan does
    not hold now."""
    if not dispatch.spread:
        return None
    ends: dt.datetime | None = None
    match dispatch.status:
        case Dispatch.Status.SCHEDULED if dispatch.due_at:
            ends = dispatch.due_at + dispatch.spread
        case Dispatch.Status.PREPARING if dispatch.started_at:
            ends = dispatch.started_at + dispatch.spread
        case Dispatch.Status.SENDING if dispatch.snapshot_at:
            last = dispatch.batches.order_by("-number").values_list("due_at", flat=True).first()
            # A batch that has begun may be put off beyond the plan.
            ends = min(last, dispatch.snapshot_at + dispatch.spread) if last else None
    return ends if ends and ends > dt.datetime.now(dt.UTC) else None


def spread(dispatch: Dispatch) -> str:
    """`spread over 2 hours, until about 14:30 UTC`, by the newsletter's clock; "" where `plan_ends` is None."""
    ends = plan_ends(dispatch)
    if ends is None:
        return ""
    zone = zoneinfo.ZoneInfo(dispatch.time_zone)
    clock = ends.astimezone(zone)
    today = clock.date() == dt.datetime.now(zone).date()
    day = "" if today else f"{clock:%a} {clock.day} {clock:%b}, "
    hours = dispatch.spread / dt.timedelta(hours=1)
    number, unit = (f"{hours:.3g}", "hour") if hours >= 1 else (f"{max(1, round(60 * hours))}", "minute")
    return f"spread over {number} {unit}{'' if number == '1' else 's'}, until about {day}{clock:%H:%M %Z}"


def knowing_readers(dispatches: Iterable[int]) -> set[int]:
    """Those of these dispatches (ids) in which any reader is followed: of the others no number of readers who opened or
    clicked means anything."""
    rows = DispatchProfile.objects.filter(dispatch__in=dispatches, tracking=TrackingMode.INDIVIDUAL)
    return set(rows.values_list("dispatch", flat=True).distinct())


def _followed(dispatch: Dispatch | None, stands: Standing) -> int:
    """How many of those sent are followed. Only where readers chose differently are they counted, and then those on the
    smaller side, since how many there were is known: of a million that are sent, the few that are not."""
    if dispatch is None:
        return 0
    readers: Counter[str] = Counter()
    for tracking, number in DispatchProfile.objects.filter(dispatch=dispatch).values_list("tracking", "readers"):
        readers[tracking] += number
    sent = stands.by_status[Status.SENT]
    if readers.keys() <= {TrackingMode.INDIVIDUAL}:
        return sent
    if TrackingMode.INDIVIDUAL not in readers:
        return 0
    theirs = Delivery.objects.filter(dispatch=dispatch, profile__tracking=TrackingMode.INDIVIDUAL)
    if sent < stands.deliveries / 2:
        return theirs.filter(status=Status.SENT).count()
    rest = [status for status in Status if status != Status.SENT]
    return readers[TrackingMode.INDIVIDUAL] - theirs.filter(status__in=rest).count()


def engagement(dispatch: Dispatch | None) -> dict[str, dict[str, Count_]]:
    """`opens` and `clicks` of a dispatch, each by CLASSES with `readers` and `hits`."""
    rows = Tally.objects.filter(dispatch=dispatch, url_digest="", kind__in=KINDS.values()) if dispatch else []
    found = {(row.kind, row.judged): {"readers": row.readers, "hits": row.hits} for row in rows}
    none = {"readers": 0, "hits": 0}
    return {
        name: {title: dict(found.get((kind, judged), none)) for title, judged in CLASSES.items()}
        for name, kind in KINDS.items()
    }


@dataclass
class Link:
    """One link of a dispatch: by CLASSES how many `readers` followed it and how many `hits` there were."""

    url: str
    readers: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """It as `issue_report --json` has it."""
        return {"url": self.url, **{name: {"readers": self.readers[name], "hits": self.hits[name]} for name in CLASSES}}


def links(dispatch: Dispatch | None) -> list[Link]:
    """The links of `dispatch` that were followed, those first that most people followed."""
    names = {judged: name for name, judged in CLASSES.items()}
    rows = Tally.objects.filter(dispatch=dispatch, kind=Kind.CLICK).exclude(url_digest="") if dispatch else []
    found: dict[str, Link] = {}
    for row in rows:
        link = found.setdefault(row.url, Link(row.url))
        link.readers[names[row.judged]], link.hits[names[row.judged]] = row.readers, row.hits
    return sorted(
        found.values(),
        key=lambda link: (-link.readers["people"], -link.hits["people"], -link.hits["all"], link.url),
    )


@dataclass
class Hour:
    """An hour (UTC) from `at`: how many opens and clicks by people there were, and by whoever."""

    at: dt.datetime
    opens: int = 0
    clicks: int = 0
    all_opens: int = 0
    all_clicks: int = 0

    def as_json(self) -> dict[str, Any]:
        """It as `issue_report --json` has it."""
        return {**vars(self), "at": self.at.isoformat()}


def hours(dispatch: Dispatch | None) -> list[Hour]:
    """Each hour in which somebody or something opened or clicked, in their order."""
    found: defaultdict[dt.datetime, Counter[str]] = defaultdict(Counter)
    rows = dispatch.hours.values_list("at", "kind", "judged", "hits") if dispatch else []
    names = {kind: name for name, kind in KINDS.items()}
    for at, kind, judged, hits in rows:
        found[at][f"all_{names[kind]}"] += hits
        if judged == Judged.PERSON:
            found[at][names[kind]] += hits
    return [Hour(at, **numbers) for at, numbers in sorted(found.items())]


def how_many_followed(numbers: dict[str, Any]) -> str:
    """Of how many of those sent a report knows whose opens and clicks they are: all, some or none."""
    if numbers["followed"] >= numbers["sent"]:
        return "all"
    return "some" if numbers["followed"] else "none"


def figures(numbers: dict[str, Any]) -> list[tuple[str, int, str]]:
    """What a report says first: title, how many readers, and what share they are, in words."""
    followed = how_many_followed(numbers)
    people = [
        ("Opened", numbers["opened"], _share(numbers["open_rate"], followed)),
        ("Clicked", numbers["clicked"], _share(numbers["click_rate"], followed)),
    ]
    return [*(people if followed != "none" else []), ("Left by this mail", numbers["unsubscribed"], "")]


def _share(rate: float | None, followed: str) -> str:
    of = "what was sent" if followed == "all" else "those who are followed"
    return f"{100 * rate:.1f} % of {of}" if rate is not None else ""


def sums_agree(numbers: dict[str, Any]) -> bool:
    """Whether a report accounts for everybody."""
    states: int = sum(numbers[status.value] for status in Status if status != Status.SKIPPED)
    everyone: bool = numbers["candidates"] == numbers["deliveries"] + sum(numbers["excluded"].values())
    return everyone and numbers["deliveries"] == states + sum(numbers["skipped"].values())


def doubts(dispatch: Dispatch | None) -> list[dict[str, Any]]:
    """Deliveries of which nobody knows whether they arrived: their id, subscriber_id and the last reply."""
    rows = Delivery.objects.filter(dispatch=dispatch, status=Status.UNCONFIRMED).order_by("pk")
    return [dict(row) for row in rows.values("id", "subscriber_id", "reply")]


def breaches(dispatch: Dispatch | None) -> list[dict[str, Any]]:
    """What did not hold, in the order in which it was found: the `sentence` of a sum, or the `delivery_id` and
    `subscriber_id` of who was mailed once more; and who took note of it when (`acknowledged_by`, `acknowledged_at`)."""
    rows = Breach.objects.filter(dispatch=dispatch).order_by("pk").annotate(subscriber_id=F("delivery__subscriber"))
    names = ("sentence", "delivery_id", "subscriber_id", "found_at", "acknowledged_at", "acknowledged_by")
    return [
        {name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in row.items()}
        for row in rows.values(*names)
    ]


def put_off(dispatch: Dispatch | None) -> dict[str, Any]:
    """What the relay said "later" to: `deliveries` (how many), `next_try_at` (ISO) and `reply` of the one that is tried
    next, or None and "", and `only`: whether nothing else is left to do."""
    left = Delivery.objects.filter(dispatch=dispatch, status__in=(Status.QUEUED, Status.SENDING))
    waiting = left.filter(status=Status.QUEUED, put_off_at__isnull=False)
    first = waiting.order_by("due_at").first()
    deliveries = waiting.count() if first else 0
    return {
        "deliveries": deliveries,
        "next_try_at": first.due_at.isoformat() if first and first.due_at else None,
        "reply": first.reply if first else "",
        "only": deliveries > 0 and left.count() == deliveries,
    }


def full_report(issue: Issue) -> dict[str, Any]:
    """`report`, with `sums_agree`, what was `put_off`, all `doubts`, `breaches`, `links` and `hours`; `came_back` (the
    groups of `feedback.summary`), and `refused`: whose servers refused the sender, and why, in words, or ""."""
    numbers, dispatch = report(issue), issue.dispatches.order_by("-pk").first()
    came_back = feedback.summary(dispatch) if dispatch else []
    return {
        **numbers,
        "sums_agree": sums_agree(numbers),
        "put_off": put_off(dispatch),
        "doubts": doubts(dispatch),
        "breaches": breaches(dispatch),
        "links": [link.as_json() for link in links(dispatch)],
        "hours": [hour.as_json() for hour in hours(dispatch)],
        "came_back": [group.as_json() for group in came_back],
        "refused": feedback.refused(came_back),
    }


def _rate(number: int, of: int) -> float | None:
    return round(number / of, 4) if of else None
