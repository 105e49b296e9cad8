"""Hits written down in bulk: each key once, first times and tallies as the rows say, in few statements."""

from __future__ import annotations

import datetime as dt
import random
import threading
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.db.models import Count
from django.test import Client
from django.test.utils import CaptureQueriesContext

from newsletter import events, intake, tracking
from newsletter.events import Hit, Kind
from newsletter.intake import Channel
from newsletter.models import Delivery, Dispatch, Event, Newsletter
from subscribers import consent
from subscribers.models import Subscriber
from tests.making import BROWSER, make_dispatch, make_newsletter, take_in

MAIL = Hit("GET", BROWSER, "203.0.113.0/24")
PREFETCH, HEAD, SCRIPT = Hit("GET", BROWSER, prefetch=True), Hit("HEAD", BROWSER), Hit("GET", "Mail/1.0")
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
URL, OTHER = "https://example.com/", "https://example.com/other"
Tallies = dict[tuple[str, str, str], tuple[int, int]]


def entry(kind: Kind = Kind.OPEN, hit: Hit = MAIL, *, seconds: float = 0, **what: Any) -> dict[str, Any]:
    """An entry of so many seconds after noon."""
    return events.entry_of(kind, hit, **what) | {"at": NOON.timestamp() + seconds}


def tallies(dispatch: Dispatch) -> Tallies:
    """Hits and readers by kind, judged and url."""
    rows = dispatch.tallies.values_list("kind", "judged", "url", "hits", "readers")
    return {(kind, judged, url): (hits, readers) for kind, judged, url, hits, readers in rows}


def counted(dispatch: Dispatch) -> Tallies:
    """The same from the rows, one by one."""
    found: Tallies = {}
    for kind in (Kind.OPEN, Kind.CLICK):
        for judged in ("", *Event.Judged.values):
            for url in ("", URL, OTHER):
                rows = Event.objects.filter(dispatch=dispatch, kind=kind)
                rows = rows.filter(judged=judged) if judged else rows
                rows = rows.filter(url=url) if url else rows
                if hits := rows.count():
                    readers = rows.aggregate(number=Count("delivery", distinct=True))["number"]
                    found[kind.value, judged, url] = (hits, readers)
    return found


def make_deliveries(readers: int, **fields: str) -> tuple[Dispatch, list[Delivery]]:
    dispatch = make_dispatch(make_newsletter(**fields), readers=readers)
    return dispatch, list(dispatch.deliveries.order_by("pk"))


@pytest.mark.django_db
def test_an_entry_that_comes_twice_is_one_hit() -> None:
    dispatch, (delivery,) = make_deliveries(1)
    once = entry(delivery_id=delivery.pk)
    assert events.write_hits([once, once]) == 1
    assert events.write_hits([once]) == 0
    assert Event.objects.count() == 1
    assert tallies(dispatch) == {("open", "", ""): (1, 1), ("open", "person", ""): (1, 1)}


@pytest.mark.django_db
def test_the_first_time_is_the_earliest_and_that_of_the_hit() -> None:
    _, (delivery,) = make_deliveries(1)
    events.write_hits([entry(delivery_id=delivery.pk, seconds=9), entry(delivery_id=delivery.pk, seconds=5)])
    delivery.refresh_from_db()
    assert delivery.opened_at == delivery.any_open_at == NOON + dt.timedelta(seconds=5)
    events.write_hits([entry(delivery_id=delivery.pk, seconds=20), entry(delivery_id=delivery.pk, seconds=3)])
    delivery.refresh_from_db()
    assert delivery.opened_at == NOON + dt.timedelta(seconds=3)
    assert (delivery.clicked_at, delivery.any_click_at) == (None, None)


@pytest.mark.django_db
def test_people_and_machines_are_first_apart() -> None:
    dispatch, (delivery,) = make_deliveries(1)
    events.write_hits([entry(Kind.CLICK, HEAD, delivery_id=delivery.pk, url=URL, seconds=1)])
    delivery.refresh_from_db()
    assert (delivery.clicked_at, delivery.any_click_at) == (None, NOON + dt.timedelta(seconds=1))
    events.write_hits([entry(Kind.CLICK, delivery_id=delivery.pk, url=URL, seconds=2)])
    delivery.refresh_from_db()
    assert delivery.clicked_at == NOON + dt.timedelta(seconds=2)
    assert delivery.any_click_at == NOON + dt.timedelta(seconds=1)
    assert tallies(dispatch) == {
        ("click", "", ""): (2, 1),
        ("click", "machine", ""): (1, 1),
        ("click", "person", ""): (1, 1),
        ("click", "", URL): (2, 1),
        ("click", "machine", URL): (1, 1),
        ("click", "person", URL): (1, 1),
    }


@pytest.mark.django_db
def test_tallies_say_what_the_rows_say_however_hits_come() -> None:
    dispatch, deliveries = make_deliveries(5)
    chance = random.Random(3)
    entries = [random_entry(chance, dispatch, deliveries) for _ in range(120)]
    while entries:
        size = chance.randint(1, 25)
        events.write_hits(entries[:size])
        entries = entries[size:]
    assert tallies(dispatch) == counted(dispatch)


def random_entry(chance: random.Random, dispatch: Dispatch, deliveries: list[Delivery]) -> dict[str, Any]:
    kind = chance.choice([Kind.OPEN, Kind.CLICK])
    return entry(
        kind,
        chance.choice([MAIL, PREFETCH, HEAD, SCRIPT]),
        delivery_id=chance.choice(deliveries).pk if chance.random() < 0.8 else None,
        dispatch_id=dispatch.pk,
        url=chance.choice([URL, OTHER]) if kind == Kind.CLICK else "",
        seconds=chance.random() * 100,
    )


@pytest.mark.django_db
def test_anonymous_hits_count_and_are_nobodys() -> None:
    dispatch, (delivery,) = make_deliveries(1, tracking="anonymous")
    events.write_hits([entry(dispatch_id=dispatch.pk), entry(delivery_id=delivery.pk)])
    assert tallies(dispatch) == {("open", "", ""): (2, 0), ("open", "person", ""): (2, 0)}


@pytest.mark.django_db
def test_what_newsletter_and_reader_allow_is_asked_for_each_hit_of_a_batch() -> None:
    dispatch, (off, erased, plain) = make_deliveries(3)
    quiet = make_dispatch(make_newsletter(slug="quiet", tracking=Newsletter.Tracking.OFF), readers=1)
    assert off.subscriber
    assert erased.subscriber
    consent.choose_tracking(off.subscriber, tracking=Subscriber.Tracking.OFF, source="test")
    consent.erase(erased.subscriber, source="test")
    batch = [entry(delivery_id=delivery.pk) for delivery in (off, erased, plain, quiet.deliveries.get())]
    assert events.write_hits([*batch, entry(delivery_id=4711)]) == 2
    assert sorted(Event.objects.values_list("delivery", flat=True), key=str) == [plain.pk, None]
    assert tallies(dispatch) == {("open", "", ""): (2, 1), ("open", "person", ""): (2, 1)}


@pytest.mark.django_db
def test_a_hit_says_how_long_after_the_mail_it_came() -> None:
    _, (delivery,) = make_deliveries(1)
    Delivery.objects.update(settled_at=NOON)
    events.write_hits([entry(delivery_id=delivery.pk, seconds=43.5)])
    event = Event.objects.get()
    assert (event.at, event.since_sent) == (NOON + dt.timedelta(seconds=43.5), 43.5)


@pytest.mark.django_db
def test_a_batch_takes_as_many_statements_however_large_it_is() -> None:
    dispatch, deliveries = make_deliveries(3)

    def statements(count: int) -> int:
        chance = random.Random(count)
        with CaptureQueriesContext(
            connection,
        ) as captured:
            events.write_hits([random_entry(chance, dispatch, deliveries) for _ in range(count)])
        return len([query for query in captured if "SAVEPOINT" not in query["sql"]])

    assert statements(300) <= 7


@pytest.mark.django_db
def test_what_the_database_refuses_is_set_aside_and_the_rest_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TRY_AGAIN", 0)
    _, (delivery,) = make_deliveries(1)
    good = [entry(delivery_id=delivery.pk) for _ in range(5)]
    bad = entry(delivery_id=delivery.pk) | {"kind": "telepathy"}
    worse = entry(delivery_id=delivery.pk) | {"at": 1e20}
    intake.put(Channel.HIT, [*good, bad, worse])
    assert take_in() == 5
    assert Event.objects.count() == 5
    assert sum(backlog.aside for backlog in intake.look()) == 2


@pytest.mark.django_db
def test_the_time_of_a_hit_is_when_it_came_and_not_when_it_was_written_down() -> None:
    _, (delivery,) = make_deliveries(1)
    with time_machine.travel(NOON, tick=False):
        Client(headers={"User-Agent": BROWSER}).get(f"/o/{tracking.delivery_token(delivery.pk)}")
    take_in()
    delivery.refresh_from_db()
    assert Event.objects.get().at == delivery.opened_at == NOON


@pytest.mark.django_db(transaction=True)
def test_workers_that_write_hits_of_the_same_readers_at_once_agree() -> None:
    dispatch, deliveries = make_deliveries(8)
    chance = random.Random(5)
    shared = [random_entry(chance, dispatch, deliveries) for _ in range(400)]
    failures: list[Exception] = []

    def work(seed: int) -> None:
        own = random.Random(seed).sample(shared, len(shared))
        try:
            for start in range(0, len(own), 40):
                events.write_hits(own[start : start + 40])
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert Event.objects.count() == len(shared)
    assert tallies(dispatch) == counted(dispatch)
