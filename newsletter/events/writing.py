"""Hits become events: as far as they may be kept, judged, and each key once."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from newsletter import allowed, deliveries, judging
from newsletter.content import TrackingMode
from newsletter.deliveries import given
from newsletter.events import storing
from newsletter.events.reading import Hit
from newsletter.intake import new_key
from newsletter.models import Delivery, Dispatch, Event, Newsletter
from subscribers.models import Subscriber

Kind = Event.Kind

SOURCES = {Kind.OPEN: "pixel", Kind.CLICK: "link", Kind.UNSUBSCRIBE: "page"}


@dataclass(frozen=True)
class _Mail:
    """What a hit's mail was: of the dispatch alone where its delivery is not known."""

    dispatch: int
    newsletter: int
    allowed: TrackingMode
    delivery: int | None = None
    subscriber: int | None = None
    sent_at: dt.datetime | None = None
    in_doubt: bool = False


def entry_of(
    kind: Event.Kind,
    hit: Hit | None,
    *,
    delivery_id: int | None = None,
    dispatch_id: int | None = None,
    url: str = "",
    subscriber_id: int | None = None,
    newsletter_id: int | None = None,
    forged: bool = False,
) -> dict[str, Any]:
    """A hit that came just now, for `intake.put` and `write_hits`; what is empty is left out. `hit` is None for what
    came otherwise than by a request; `forged`: its token was none of ours."""
    entry: dict[str, Any] = {
        "key": new_key(),
        "kind": kind.value,
        "at": time.time(),
        "delivery": delivery_id,
        "dispatch": dispatch_id,
        "url": url,
        "subscriber": subscriber_id,
        "newsletter": newsletter_id,
        "forged": forged,
    }
    if hit:
        entry |= {"method": hit.method, "agent": hit.agent, "prefetch": hit.prefetch, "private": hit.private}
        # An entry waits in a file or in Redis before anybody can ask what may be kept: where no row of it could name
        # the network, neither does the entry.
        entry["network"] = hit.network if (delivery_id or subscriber_id) and not hit.private else ""
    return {name: value for name, value in entry.items() if value}


def write_hits(entries: Sequence[dict[str, Any]]) -> int:
    """Store what may be stored of `entries` (of `entry_of`), in one transaction; how many were stored now.

    An entry whose key is there already changes nothing. Ids that no longer exist are no error: mail outlives
    deliveries, readers and dispatches. Raises KeyError or ValueError where an entry is not one of `entry_of`.
    """
    with transaction.atomic():
        mails = _mails(entry.get("delivery") for entry in entries)
        own = [_own(entry, mails.get(entry.get("delivery"))) for entry in entries]
        dispatches = _dispatches(
            entry.get("dispatch") for entry, mail in zip(entries, own, strict=True) if mail is None
        )
        rows = (
            _row(entry, mail or dispatches.get(entry.get("dispatch"))) for entry, mail in zip(entries, own, strict=True)
        )
        kept = [row for row in rows if row is not None]
        _judge(kept)
        # What says whose request it was serves to judge it, and is not stored where the client asks that nobody knows.
        private = {uuid.UUID(entry["key"]) for entry in entries if entry.get("private")}
        for row in kept:
            if row.key in private:
                row.agent = row.network = ""
        stored = storing.store(kept)
        # Whoever opens a mail has it. That is no answer: a gateway looks at links before it puts off or refuses a mail.
        had = {row.delivery_id for row in kept if row.delivery_id and mails[row.delivery_id].in_doubt}
        deliveries.note_accepted((deliveries.Told(pk, deliveries.Message()) for pk in had), doubts_alone=True)
        storing.add_tallies(stored.counts)
        return len(stored.keys)


def record(
    kind: Event.Kind,
    *,
    delivery_id: int | None = None,
    dispatch_id: int | None = None,
    subscriber: Subscriber | None = None,
    newsletter: Newsletter | None = None,
    url: str = "",
    hit: Hit | None = None,
) -> bool:
    """Note one event now, as far as it may be noted; True where a row was stored."""
    entry = entry_of(
        kind,
        hit,
        delivery_id=delivery_id,
        dispatch_id=dispatch_id,
        url=url,
        subscriber_id=subscriber.pk if subscriber else None,
        newsletter_id=newsletter.pk if newsletter else None,
    )
    return write_hits([entry]) == 1


def take_back_unsubscribe(delivery_id: int) -> None:
    """The reader took back having left: the delivery no longer counts as one that made somebody leave. The raw event
    stays."""
    Delivery.objects.filter(pk=delivery_id).update(unsubscribed_at=None)


def _own(entry: dict[str, Any], mail: _Mail | None) -> _Mail | None:
    """`mail`, unless the link of another issue was hung before its token: then nobody can tell whose click it is."""
    return mail if mail and entry.get("dispatch") in (None, mail.dispatch) else None


def _row(entry: dict[str, Any], mail: _Mail | None) -> storing.Row | None:
    """The row that `entry` becomes, or None where nothing may be kept."""
    kind = Kind(entry["kind"])
    subscriber = mail.subscriber if mail and mail.subscriber else entry.get("subscriber")
    delivery = mail.delivery if mail else None
    if kind != Kind.UNSUBSCRIBE:
        if mail is None or mail.allowed == TrackingMode.OFF:
            return None
        # An erased reader's hits count for the issue and say no more whose they are.
        if mail.allowed == TrackingMode.ANONYMOUS or mail.subscriber is None or entry.get("private"):
            delivery = subscriber = None
    at = dt.datetime.fromtimestamp(entry["at"], dt.UTC)
    sent_at = mail.sent_at if mail and delivery else None
    return storing.Row(
        key=uuid.UUID(entry["key"]),
        kind=kind,
        at=at,
        source=SOURCES[kind],
        newsletter_id=mail.newsletter if mail else entry.get("newsletter"),
        dispatch_id=mail.dispatch if mail else None,
        delivery_id=delivery,
        subscriber_id=subscriber,
        url=entry.get("url", ""),
        method=entry.get("method", ""),
        agent=entry.get("agent", ""),
        network=entry.get("network", "") if subscriber else "",
        prefetch=bool(entry.get("prefetch")),
        since_sent=(at - sent_at).total_seconds() if sent_at else None,
        reasons=judging.Reason.FORGED.value if entry.get("forged") else "",  # for whoever judges it
    )


def _judge(rows: Sequence[storing.Row]) -> None:
    """Note in hits who made them. They are judged together, for a scanner's hits on a mail mostly come in one batch;
    what has come in parts is put right by `rejudging`."""
    hits = [row for row in rows if row.kind != Kind.UNSUBSCRIBE]
    found = judging.judge_all(
        [
            judging.Facts(
                row.kind, row.at, row.method, row.agent, row.network, row.prefetch, row.since_sent, row.url,
                row.delivery_id, forged=row.reasons == judging.Reason.FORGED,
            )
            for row in hits
        ]
    )  # fmt: skip
    for row, judgement in zip(hits, found, strict=True):
        row.judged, row.reasons = judgement.judged.value, judgement.codes


def _mails(ids: Iterable[int | None]) -> dict[int | None, _Mail]:
    """The mails of these deliveries, as far as they are there, with what newsletter and reader allow now."""
    wanted = {pk for pk in ids if pk}
    if not wanted:
        return {}
    rows = Delivery.objects.filter(pk__in=given.ids(wanted)).values_list(
        "pk",
        "dispatch_id",
        "dispatch__newsletter_id",
        "dispatch__newsletter__tracking",
        "dispatch__newsletter__ask_first",
        "subscriber__pk",
        "subscriber__tracking",
        # When the hand-over began: outcomes are noted together, and who opens at once would come before them.
        "attempt__started_at",
        "status",
    )
    return {
        pk: _Mail(
            dispatch,
            newsletter,
            allowed.tracking(mode, ask_first, choice or ""),
            pk,
            subscriber,
            sent_at,
            status == Delivery.Status.UNCONFIRMED,
        )
        for pk, dispatch, newsletter, mode, ask_first, subscriber, choice, sent_at, status in rows
    }


def _dispatches(ids: Iterable[int | None]) -> dict[int | None, _Mail]:
    """The same of dispatches, for hits that belong to no delivery that is there."""
    wanted = {pk for pk in ids if pk}
    if not wanted:
        return {}
    rows = Dispatch.objects.filter(pk__in=wanted).values_list("pk", "newsletter_id", "newsletter__tracking")
    return {pk: _Mail(pk, newsletter, TrackingMode(mode)) for pk, newsletter, mode in rows}
