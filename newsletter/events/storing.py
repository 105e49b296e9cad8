"""Rows of Event, first times of Delivery and Tally, each by one statement for a whole batch.

Whoever stores holds the deliveries' rows (locked in the order of their ids) until the commit, so that of two that store
hits of one delivery the second sees what the first did: "first" and "how many readers" are right and not about right.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connection

from newsletter.deliveries import given
from newsletter.models import Delivery, Event, Tally

Kind, Judged = Event.Kind, Event.Judged

# The columns in which a delivery notes the first of a kind: by whoever or whatever, and by a person.
FIRST_BY_ANY = {
    Kind.OPEN.value: "any_open_at",
    Kind.CLICK.value: "any_click_at",
    Kind.UNSUBSCRIBE.value: "unsubscribed_at",
}
FIRST_BY_PERSON = {Kind.OPEN.value: "opened_at", Kind.CLICK.value: "clicked_at"}
# What is tallied: reports count all else by the deliveries it came of.
TALLIED = frozenset(FIRST_BY_PERSON)
FIRSTS = (*FIRST_BY_ANY.values(), *FIRST_BY_PERSON.values())
# In a tally: hits of whoever, by whatever link.
WHOEVER, WHATEVER = "", ""

Firsts = dict[str, dt.datetime]
Group = tuple[str, str, str]  # kind, judged, url: what a tally counts
Count = tuple[int, Group, int, int]  # a dispatch, what is counted of it, and how many hits and readers


@dataclass
class Row:
    """A row of Event, without its id. What is judged is filled in: copies took longer than the judging."""

    key: uuid.UUID
    kind: str
    at: dt.datetime
    source: str = ""
    newsletter_id: int | None = None
    dispatch_id: int | None = None
    delivery_id: int | None = None
    subscriber_id: int | None = None
    url: str = ""
    method: str = ""
    agent: str = ""
    network: str = ""
    prefetch: bool = False
    since_sent: float | None = None
    judged: str = Judged.UNKNOWN
    reasons: str = ""
    verdict: str = ""
    detail: str = ""


class Stored(NamedTuple):
    """The keys of the rows that were inserted, and what they add to tallies."""

    keys: set[uuid.UUID]
    counts: list[Count]


def store(rows: Sequence[Row]) -> Stored:
    """Insert `rows` whose keys are not there yet, in a transaction that ends with `add_tallies` of their counts, where
    any are TALLIED: a tally is one row for all who write at once, and whoever holds it keeps the others waiting until
    the commit."""
    if not rows:
        return Stored(set(), [])
    # One key twice in a batch is one hit.
    by_key = {row.key: row for row in rows}
    noted = lock({row.delivery_id for row in rows if row.delivery_id})
    known = _known({(row.delivery_id, group) for row in by_key.values() if row.delivery_id for group in groups_of(row)})
    known |= _noted_before(by_key.values(), noted)
    inserted = _insert(list(by_key.values()))
    new = [by_key[key] for key in inserted]
    _note_firsts(new, noted)
    return Stored(inserted, _counts(new, known))


def groups_of(row: Row) -> list[Group]:
    """The tallies that a row counts in."""
    return groups(row.kind, row.judged, row.url) if row.kind in TALLIED else []


def groups(kind: str, judged: str, url: str) -> list[Group]:
    """The tallies that a hit counts in which is judged so."""
    found = [(kind, WHOEVER, WHATEVER), (kind, judged, WHATEVER)]
    if url:
        found += [(kind, WHOEVER, url), (kind, judged, url)]
    return found


def tally_rows(counts: Iterable[Count]) -> list[dict[str, Any]]:
    """Values of Tally, in the order in which all who write tallies go."""
    return [
        {
            "dispatch_id": dispatch,
            "kind": kind,
            "judged": judged,
            "url_digest": digest(url),
            "url": url,
            "hits": hits,
            "readers": readers,
        }
        for dispatch, (kind, judged, url), hits, readers in sorted(counts)
    ]


def digest(url: str) -> str:
    """What stands for `url` in a tally's unique index; "" for whatever link."""
    return hashlib.md5(url.encode(), usedforsecurity=False).hexdigest() if url else ""


def lock(ids: set[int]) -> dict[int, Firsts]:
    """Hold these deliveries; the first times that they have noted."""
    if not ids:
        return {}
    rows = Delivery.objects.filter(pk__in=given.ids(ids)).order_by("pk").select_for_update(no_key=True)
    return {pk: dict(zip(FIRSTS, times, strict=True)) for pk, *times in rows.values_list("pk", *FIRSTS)}


def _known(wanted: set[tuple[int, Group]]) -> set[tuple[int, Group]]:
    """Which of these deliveries have been counted as readers in these groups."""
    if not wanted:
        return set()
    asked = [
        {"delivery_id": delivery, "kind": kind, "judged": judged, "url": url}
        for delivery, (kind, judged, url) in sorted(wanted)
    ]
    columns = given.types_of(Event, ["delivery_id", "kind", "judged", "url"])
    sql = f"""
        SELECT given.delivery_id, given.kind, given.judged, given.url FROM {given.table(columns)}
        WHERE EXISTS (
            SELECT 1 FROM newsletter_event event
            WHERE event.delivery_id = given.delivery_id AND event.kind = given.kind
                AND (given.judged = '' OR event.judged = given.judged) AND (given.url = '' OR event.url = given.url)
        )
    """  # noqa: S608 - our own names of columns, here and below
    with connection.cursor() as cursor:
        cursor.execute(sql, [given.rows(asked)])
        return {(delivery, (kind, judged, url)) for delivery, kind, judged, url in cursor.fetchall()}


def _noted_before(rows: Iterable[Row], noted: dict[int, Firsts]) -> set[tuple[int, Group]]:
    """The same by the first times that deliveries have noted: these stay where hits are deleted by age."""
    found: set[tuple[int, Group]] = set()
    for row in rows:
        if row.delivery_id not in noted:
            continue
        by_any, by_person = FIRST_BY_ANY.get(row.kind), FIRST_BY_PERSON.get(row.kind)
        if by_any and noted[row.delivery_id][by_any] is not None:
            found.add((row.delivery_id, (row.kind, WHOEVER, WHATEVER)))
        if by_person and noted[row.delivery_id][by_person] is not None:
            found.add((row.delivery_id, (row.kind, Judged.PERSON.value, WHATEVER)))
    return found


def _insert(rows: list[Row]) -> set[uuid.UUID]:
    columns = given.types_of(Event, list(Row.__dataclass_fields__))
    names = ", ".join(f'"{name}"' for name in columns)
    sql = f"""
        INSERT INTO newsletter_event ({names}) SELECT {names} FROM {given.table(columns)} WHERE TRUE
        ON CONFLICT (key) DO NOTHING RETURNING key
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [given.rows([vars(row) for row in rows])])
        return {key if isinstance(key, uuid.UUID) else uuid.UUID(key) for (key,) in cursor.fetchall()}


def _note_firsts(rows: list[Row], noted: dict[int, Firsts]) -> None:
    """Write the first times that `rows` bring, where a delivery has none yet or a later one."""
    changed: dict[int, Firsts] = {}
    for row in rows:
        if row.delivery_id not in noted:
            continue
        by_person = FIRST_BY_PERSON.get(row.kind) if row.judged == Judged.PERSON else None
        first = noted[row.delivery_id]
        for column in (FIRST_BY_ANY.get(row.kind), by_person):
            if column and (first[column] is None or row.at < first[column]):
                first[column] = row.at
                changed[row.delivery_id] = first
    if changed:
        write_firsts(changed)


def write_firsts(firsts: dict[int, Firsts]) -> None:
    """Set the first times of deliveries, by id, all of FIRSTS each."""
    columns = given.types_of(Delivery, ["id", *FIRSTS])
    assignments = ", ".join(f'"{name}" = given."{name}"' for name in FIRSTS)
    sql = f"""
        UPDATE newsletter_delivery SET {assignments} FROM {given.table(columns)} WHERE newsletter_delivery.id = given.id
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [given.rows([{"id": pk, **times} for pk, times in firsts.items()])])


def _counts(rows: list[Row], known: set[tuple[int, Group]]) -> list[Count]:
    hits: Counter[tuple[int, Group]] = Counter()
    readers: Counter[tuple[int, Group]] = Counter()
    for row in rows:
        if row.dispatch_id is None:
            continue
        for group in groups_of(row):
            hits[row.dispatch_id, group] += 1
            if row.delivery_id and (row.delivery_id, group) not in known:
                known.add((row.delivery_id, group))
                readers[row.dispatch_id, group] += 1
    return [(*of, number, readers[of]) for of, number in hits.items()]


def add_tallies(counts: Iterable[Count]) -> None:
    """Add to the tallies, which may be new. In one statement in one order, so that no two who write tallies wait for
    each other."""
    values = tally_rows(counts)
    if not values:
        return
    columns = given.types_of(Tally, list(values[0]))
    names = ", ".join(columns)
    sql = f"""
        INSERT INTO newsletter_tally ({names}) SELECT {names} FROM {given.table(columns)} WHERE TRUE
        ON CONFLICT (dispatch_id, kind, judged, url_digest) DO UPDATE
        SET hits = newsletter_tally.hits + excluded.hits, readers = newsletter_tally.readers + excluded.readers
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [given.rows(values)])


def change_tallies(counts: Sequence[Count]) -> None:
    """The same where some of it is taken away, never below nothing."""
    # A new row cannot begin below nothing, so those that are not there yet begin at it; and an UPDATE takes rows in
    # whatever order, so they are held in the order of all writers first.
    add_tallies((dispatch, group, 0, 0) for dispatch, group, _, _ in counts)
    values = tally_rows(counts)
    columns = given.types_of(Tally, ["dispatch_id", "kind", "judged", "url_digest", "hits", "readers"])
    with connection.cursor() as cursor:
        for name in ("hits", "readers"):
            columns[name] = "integer"
        least = "GREATEST" if connection.vendor == "postgresql" else "MAX"
        cursor.execute(
            f"""
            UPDATE newsletter_tally SET hits = {least}(0, newsletter_tally.hits + given.hits),
                readers = {least}(0, newsletter_tally.readers + given.readers)
            FROM {given.table(columns)}
            WHERE newsletter_tally.dispatch_id = given.dispatch_id AND newsletter_tally.kind = given.kind
                AND newsletter_tally.judged = given.judged AND newsletter_tally.url_digest = given.url_digest
            """,  # noqa: S608
            [given.rows(values)],
        )
