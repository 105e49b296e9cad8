"""What came back of a dispatch, as its author is told it: how many by verdict, why in plain words, at which domains."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count

from newsletter.bounces import Cause
from newsletter.models import Delivery, Dispatch, Event

Verdict = Delivery.Verdict

LOOKED_AT = 1000  # mails of each verdict whose reasons are read: enough to know them, whoever has a million readers
REASONS, DOMAINS = 8, 3  # shown
UNKNOWN = "No reason was given."
COMPLAINED = "The reader marked the mail as spam."
# The heaviest first.
MEANINGS = {
    Verdict.COMPLAINT: ("Complaints", "Unsubscribed, and never written to again unless they confirm anew."),
    Verdict.HARD: ("Hard bounces", "The address does not exist. Suppressed on the whole site."),
    Verdict.BLOCK: (
        "Blocked",
        "The reader’s server refused your mail for a fault of yours. It never counts against them.",
    ),
    Verdict.SOFT: ("Soft bounces", "It did not arrive this time. Suppressed after five issues and two weeks."),
}


@dataclass(frozen=True)
class Why:
    """One reason: how many readers of those looked at, their most frequent domains, and what one server said."""

    words: str
    readers: int
    domains: tuple[tuple[str, int], ...]
    example: str

    def as_json(self) -> dict[str, Any]:
        """It as `issue_report --json` has it."""
        domains = [{"domain": domain, "readers": number} for domain, number in self.domains]
        return {"why": self.words, "readers": self.readers, "domains": domains, "example": self.example}


@dataclass(frozen=True)
class Group:
    """What came back with one verdict: of how many `readers`, and why. `partly`: not all of them were looked at."""

    verdict: Delivery.Verdict
    readers: int
    whys: tuple[Why, ...] = field(default=())

    @property
    def word(self) -> str:
        """The verdict as an event has it."""
        return self.verdict.name.lower()

    @property
    def title(self) -> str:
        """What it is called."""
        return MEANINGS[self.verdict][0]

    @property
    def counted(self) -> str:
        """`2 hard bounces`."""
        return f"{self.readers:,} {self.verdict.label if self.readers == 1 else self.title.lower()}"

    @property
    def meaning(self) -> str:
        """What follows from it."""
        return MEANINGS[self.verdict][1]

    @property
    def partly(self) -> bool:
        """Whether the reasons are those of a part."""
        return self.readers > LOOKED_AT

    def as_json(self) -> dict[str, Any]:
        """It as `issue_report --json` has it."""
        return {
            "verdict": self.word,
            "readers": self.readers,
            "counted": self.counted,
            "meaning": self.meaning,
            "partly": self.partly,
            "whys": [why.as_json() for why in self.whys],
        }


def words_of(verdict: str, cause: str) -> str:
    """Why, in plain words, for an event's verdict and cause."""
    if verdict == Event.Kind.COMPLAINT:
        return COMPLAINED
    return Cause[cause].words if cause in Cause.__members__ else UNKNOWN


def numbers(dispatches: Iterable[Dispatch]) -> dict[int, dict[Delivery.Verdict, int]]:
    """How many readers' mail of each of `dispatches` (by id) came back, by verdict: read from an index alone."""
    rows = Delivery.objects.filter(dispatch__in=dispatches, verdict__isnull=False).order_by()
    found: dict[int, dict[Delivery.Verdict, int]] = defaultdict(dict)
    for dispatch, verdict, number in rows.values_list("dispatch", "verdict").annotate(number=Count("pk")):
        found[dispatch][Verdict(verdict)] = number
    return dict(found)


def summary(dispatch: Dispatch) -> list[Group]:
    """What came back of `dispatch`, the heaviest verdict first; one bounce counts of each mail. Reasons and domains are
    those of LOOKED_AT mails of each verdict."""
    counted = numbers([dispatch]).get(dispatch.pk, {})
    return [group(dispatch, verdict, counted[verdict]) for verdict in MEANINGS if counted.get(verdict)]


def group(dispatch: Dispatch, verdict: Delivery.Verdict, readers: int) -> Group:
    """What came back of `dispatch` with `verdict`, of so many readers."""
    return Group(verdict, readers, _whys(dispatch, verdict))


def _whys(dispatch: Dispatch, verdict: Delivery.Verdict) -> tuple[Why, ...]:
    mails = Delivery.objects.filter(dispatch=dispatch, verdict=verdict).values("pk")[:LOOKED_AT]
    events = Event.objects.filter(delivery__in=mails, verdict=verdict.name.lower()).order_by("pk")
    readers: Counter[str] = Counter()
    domains: dict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[str, str] = {}
    seen: set[int] = set()
    for delivery, cause, detail, key in events.values_list("delivery", "reasons", "detail", "subscriber__address_key"):
        if delivery in seen:
            continue  # the same bounce by another way
        seen.add(delivery)
        words = words_of(verdict.name.lower(), cause)
        readers[words] += 1
        if key:
            domains[words][key.rpartition("@")[2]] += 1
        if detail:
            examples.setdefault(words, detail)
    return tuple(
        Why(words, number, tuple(domains[words].most_common(DOMAINS)), examples.get(words, ""))
        for words, number in readers.most_common(REASONS)
    )
