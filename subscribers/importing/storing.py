"""Rows of a file become subscribers, subscriptions and memberships; the rules stand in the package's docstring."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from newsletter.content import clean_line
from newsletter.hooks import occurring
from subscribers import addresses, tiers
from subscribers.importing import reading
from subscribers.importing.reading import ImportRefused, Layout, Rejected, Row
from subscribers.models import ConsentRecord, Membership, Subscriber, Subscription, Suppression, Tier

if TYPE_CHECKING:
    from newsletter.models import Newsletter

CHUNK = 1000  # rows at once: few statements, and far below the number of parameters a statement may have
_SOURCE_LENGTH = 100

Progress = Callable[[int, int], None]


@dataclass
class Report:
    """What an import did. rows = added + already + updated + kept + suppressed + duplicates + len(rejected)."""

    rows: int = 0
    added: int = 0
    already: int = 0  # subscribed, and as the file says
    updated: int = 0  # subscribed; name or tier changed
    kept: int = 0  # left, paused or not confirmed: the subscription stays so
    suppressed: int = 0
    duplicates: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    tiers: dict[str, int] = field(default_factory=dict)  # the file's readers by the tier they hold now
    notes: list[str] = field(default_factory=list)  # how the file was understood, where that is not plain


def import_file(path: Path, newsletter: Newsletter, *, progress: Progress = lambda done, total: None) -> Report:
    """Subscribe the readers of the CSV file `path` to `newsletter`, in one transaction.

    `progress` is called with the rows done and the rows there are. Raises ImportRefused, with nothing imported.
    """
    layout = reading.layout(path)
    known = _known_tiers()
    total = _check(path, layout, known)
    report = Report(notes=_notes(path, layout))
    # The file was read to its end before, so what may fail now is the machine; the same file again does the rest. A
    # transaction for each chunk, so that readers who leave meanwhile wait for one chunk and not for the file.
    rows = type(newsletter)._default_manager.select_for_update(no_key=True).filter(pk=newsletter.pk)
    source = clean_line(f"import of {path.name}")[:_SOURCE_LENGTH]
    store = _Store(newsletter, source, known, report)
    for chunk in _chunks(_accepted(path, layout, report)):
        with transaction.atomic():
            # Two imports for one newsletter take turns, so that neither grants what the other just did.
            store.chunk(chunk, now=rows.values_list(Now(), flat=True).get())
        progress(report.rows, total)
    report.tiers = {tier.slug: store.held[tier.level] for tier in Tier.objects.all()}
    return report


def _known_tiers() -> dict[str, Tier]:
    """The tiers by slug and by name, both case-folded."""
    tiers.ensure_default()
    rows = list(Tier.objects.all())
    return {tier.name.casefold(): tier for tier in rows} | {tier.slug.casefold(): tier for tier in rows}


def _check(path: Path, layout: Layout, known: dict[str, Tier]) -> int:
    """Read all of the file before anything is written; returns its number of rows."""
    count = 0
    for record in reading.records(path, layout):
        count += 1
        tier = reading.tier_of(record, layout)
        if tier and tier.casefold() not in known:
            there = ", ".join(Tier.objects.values_list("slug", flat=True))
            named = clean_line(tier)[:50]
            raise ImportRefused(f"Line {record.line} of {path.name} names the tier “{named}”; there are: {there}.")
        if count > reading.MAX_ROWS:
            raise ImportRefused(f"{path.name} has more than {reading.MAX_ROWS:,} rows: split it and import the parts.")
    return count


def _notes(path: Path, layout: Layout) -> list[str]:
    notes = []
    if layout.encoding == "cp1252":
        notes.append(f"{path.name} is not in UTF-8 and was read as Windows-1252: see that the names are right.")
    if not layout.has_header:
        notes.append("There is no header: the columns were taken as email, name and tier.")
    if layout.ignored:
        notes.append(f"Columns left aside: {', '.join(layout.ignored)}.")
    return notes


def _accepted(path: Path, layout: Layout, report: Report) -> Iterator[Row]:
    """The first row of each reader; counts the others in `report`."""
    seen: set[str] = set()
    for record in reading.records(path, layout):
        report.rows += 1
        row = reading.row(record, layout)
        if isinstance(row, Rejected):
            report.rejected.append(row)
        elif row.address.key in seen:
            report.duplicates += 1
        else:
            seen.add(row.address.key)
            yield row


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


class _Store:
    """Writes chunks, a fixed number of statements each, and counts into the report."""

    now: dt.datetime  # the database's, read once a chunk: as a default of each row it costs a third of the time

    def __init__(self, newsletter: Newsletter, source: str, known: dict[str, Tier], report: Report) -> None:
        self.newsletter = newsletter
        self.source = source
        self.known = known
        self.report = report
        self.held: Counter[int] = Counter()

    def chunk(self, rows: list[Row], *, now: dt.datetime) -> None:
        """Store `rows`, whose addresses all differ, as of `now`."""
        self.now = now
        prints = {row.address.key: addresses.fingerprint(row.address.key) for row in rows}
        suppressed = self._suppressed(prints)
        self.report.suppressed += len(suppressed)
        rows = [row for row in rows if prints[row.address.key] not in suppressed]
        people = self._people(rows, prints)
        changed = self._rename(rows, people) | self._grant(rows, people)
        self._subscribe([people[row.address.key] for row in rows], changed)

    def _suppressed(self, prints: dict[str, str]) -> set[str]:
        here = Q(newsletter=None) | Q(newsletter=self.newsletter)
        found = Suppression.objects.filter(here, fingerprint__in=list(prints.values()))
        return set(found.values_list("fingerprint", flat=True))

    def _people(self, rows: list[Row], prints: dict[str, str]) -> dict[str, Any]:
        """The subscribers of `rows` by address key, with `tier_level`; makes those that are missing."""
        keys = [row.address.key for row in rows]
        there = set(Subscriber.objects.filter(address_key__in=keys).values_list("address_key", flat=True))
        Subscriber.objects.bulk_create(
            [
                Subscriber(
                    address=row.address.given,
                    address_key=row.address.key,
                    fingerprint=prints[row.address.key],
                    name=row.name,
                    created_at=self.now,
                )
                for row in rows
                if row.address.key not in there
            ],
            ignore_conflicts=True,
        )
        people = Subscriber.objects.filter(address_key__in=keys).with_tier_level()
        return {person.address_key: person for person in people}

    def _rename(self, rows: list[Row], people: dict[str, Any]) -> set[int]:
        """Take over names that differ; returns the ids of those renamed."""
        renamed = []
        for row in rows:
            person = people[row.address.key]
            if row.name and person.name != row.name:
                person.name = row.name
                renamed.append(person)
        Subscriber.objects.bulk_update(renamed, ["name"])
        return {person.pk for person in renamed}

    def _grant(self, rows: list[Row], people: dict[str, Any]) -> set[int]:
        """Give the tiers that the file names to those who hold a lower one; returns their ids."""
        grants = []
        for row in rows:
            person = people[row.address.key]
            tier = self.known.get(row.tier.casefold())
            if tier is not None and tier.level > person.tier_level:
                paid = Membership.Kind.PAID
                grants.append(Membership(subscriber=person, tier=tier, kind=paid, starts_at=self.now))
                person.tier_level = tier.level
            self.held[person.tier_level] += 1
        Membership.objects.bulk_create(grants)
        return {grant.subscriber_id for grant in grants}

    def _subscribe(self, people: list[Any], changed: set[int]) -> None:
        """Subscribe those who have no subscription yet; leave every other one as it is."""
        mine = Subscription.objects.filter(newsletter=self.newsletter, subscriber__in=people)
        states = dict(mine.values_list("subscriber", "status"))
        new = [person for person in people if person.pk not in states]
        active = Subscription.Status.ACTIVE
        imported = ConsentRecord.Action.IMPORTED
        here = {"newsletter": self.newsletter}
        Subscription.objects.bulk_create(
            [
                Subscription(subscriber=person, status=active, created_at=self.now, changed_at=self.now, **here)
                for person in new
            ],
            ignore_conflicts=True,
        )
        ConsentRecord.objects.bulk_create(
            [
                ConsentRecord(subscriber=person, action=imported, source=self.source, at=self.now, **here)
                for person in new
            ]
        )
        told = [person.public_id for person in people if person.pk not in states or person.pk in changed]
        occurring.entered(self.newsletter, told, source=self.source)
        updated = sum(state == active and pk in changed for pk, state in states.items())
        kept = sum(state != active for state in states.values())
        self.report.added += len(new)
        self.report.updated += updated
        self.report.kept += kept
        self.report.already += len(states) - updated - kept
