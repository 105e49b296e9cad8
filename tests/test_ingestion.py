"""Hits written down in bulk: each key once, first times and tallies as the rows say, in few statements."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
import threading
import time
import uuid
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Count
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from newsletter import events, intake, tasks, tracking
from newsletter.demo import services
from newsletter.events import Hit, Kind
from newsletter.events.storing import digest, lock
from newsletter.intake import Channel
from newsletter.models import Attempt, Delivery, Dispatch, Event, Newsletter, Tally
from subscribers import consent
from subscribers.models import Subscriber
from tests.making import BROWSER, make_dispatch, make_newsletter, take_in
from tests.waiting import until

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
    hand_over(delivery, noted_after=9)
    events.write_hits([entry(delivery_id=delivery.pk, seconds=43.5)])
    event = Event.objects.get()
    assert (event.at, event.since_sent) == (NOON + dt.timedelta(seconds=43.5), 43.5)


@pytest.mark.django_db
@pytest.mark.parametrize("noted_after", [9, 3600], ids=["with the chunk", "by the author's word"])
def test_who_opens_before_the_outcome_is_noted_is_no_machine(noted_after: float) -> None:
    _, (delivery,) = make_deliveries(1)
    hand_over(delivery, noted_after=noted_after)
    events.write_hits([entry(delivery_id=delivery.pk, seconds=5)])
    event = Event.objects.get()
    assert (event.judged, event.since_sent) == ("person", 5)


def hand_over(delivery: Delivery, *, noted_after: float) -> None:
    """Send it at noon; the outcome is noted so many seconds later."""
    key = uuid.uuid4()
    attempt = Attempt.objects.create(
        batch=delivery.batch, worker="one", transport="smtp", idempotency_key=key, started_at=NOON
    )
    at = NOON + dt.timedelta(seconds=noted_after)
    Delivery.objects.filter(pk=delivery.pk).update(status="sent", tries=1, attempt=attempt, settled_at=at)


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

    assert statements(300) <= 8


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


@pytest.mark.django_db(transaction=True)
def test_who_is_erased_while_their_hits_are_judged_is_erased_then() -> None:
    _, (delivery,) = make_deliveries(1)
    events.write_hits([entry(delivery_id=delivery.pk)])
    person, failures = Subscriber.objects.get(), list[Exception]()

    def erase() -> None:
        try:
            consent.erase(person, source="test")
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    erasing = threading.Thread(target=erase)
    with transaction.atomic():
        lock({delivery.pk})
        erasing.start()
        until(somebody_waits, "the one who erases waits")
        Event.objects.update(judged="machine")
    erasing.join()
    assert failures == []
    assert not Subscriber.objects.exists()
    event = Event.objects.get()
    assert (event.judged, event.subscriber, event.agent) == ("machine", None, "")


# Counting anew


def put_wrong(dispatch: Dispatch, deliveries: list[Delivery]) -> None:
    """Tallies and first times that no rows say."""
    tally = dispatch.tallies.get(kind="open", judged="person", url="")
    Tally.objects.filter(pk=tally.pk).update(hits=tally.hits + 5, readers=1)
    dispatch.tallies.filter(kind="click", judged="").delete()
    elsewhere = {"url": ELSEWHERE, "url_digest": digest(ELSEWHERE)}
    Tally.objects.create(dispatch=dispatch, kind="click", judged="machine", hits=3, **elsewhere)
    Delivery.objects.filter(pk=deliveries[0].pk).update(opened_at=None, any_click_at=NOON + dt.timedelta(days=1))
    Delivery.objects.filter(pk=deliveries[1].pk).update(opened_at=NOON - dt.timedelta(days=1))


ELSEWHERE = "https://example.com/elsewhere"


@pytest.mark.django_db
def test_what_is_off_is_put_right_from_the_rows_and_said(caplog: pytest.LogCaptureFixture) -> None:
    dispatch, deliveries = make_deliveries(3)
    chance = random.Random(11)
    events.write_hits([random_entry(chance, dispatch, deliveries) for _ in range(200)])
    right = {delivery.pk: first_times(delivery) for delivery in deliveries}
    put_wrong(dispatch, deliveries)
    found = events.recount(dispatch.pk)
    assert found.tallies >= 4
    assert found.deliveries == 2
    assert "was off" in caplog.text
    dispatch.tallies.filter(hits=0).delete()
    assert tallies(dispatch) == counted(dispatch)
    assert {delivery.pk: first_times(delivery) for delivery in deliveries} == right
    assert events.recount(dispatch.pk) == events.Differences(0, 0)


def first_times(delivery: Delivery) -> list[dt.datetime | None]:
    delivery.refresh_from_db()
    return [delivery.opened_at, delivery.any_open_at, delivery.clicked_at, delivery.any_click_at]


@pytest.mark.django_db
def test_a_first_time_whose_rows_are_gone_stands_and_so_does_having_left() -> None:
    dispatch, (delivery,) = make_deliveries(1)
    times = dict.fromkeys(("opened_at", "any_open_at", "unsubscribed_at"), NOON)
    Delivery.objects.update(**times)
    events.write_hits([entry(Kind.CLICK, delivery_id=delivery.pk, url=URL)])
    events.recount(dispatch.pk)
    delivery.refresh_from_db()
    assert {name: getattr(delivery, name) for name in times} == times


@pytest.mark.django_db
def test_every_night_what_had_hits_lately_is_counted_and_what_is_old_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now().timestamp()
    lately, quiet, old = (make_deliveries(1, slug=slug)[0] for slug in ("lately", "quiet", "old"))
    Dispatch.objects.filter(pk=old.pk).update(started_at=timezone.now() - dt.timedelta(days=90))
    for dispatch, at in ((lately, now), (quiet, now - 5 * 86400), (old, now)):
        events.write_hits([entry(dispatch_id=dispatch.pk) | {"at": at}])
    assert events.to_recount() == [lately.pk]


@pytest.mark.django_db(transaction=True)
def test_counting_anew_while_hits_come_changes_nothing_that_is_right() -> None:
    dispatch, deliveries = make_deliveries(8)
    chance = random.Random(13)
    entries = [random_entry(chance, dispatch, deliveries) for _ in range(600)]
    over, found, failures = threading.Event(), list[events.Differences](), list[Exception]()

    def recount() -> None:
        try:
            while not over.is_set():
                found.append(events.recount(dispatch.pk))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    counting = threading.Thread(target=recount)
    counting.start()
    for start in range(0, len(entries), 20):
        events.write_hits(entries[start : start + 20])
    over.set()
    counting.join()
    assert failures == []
    assert set(found) == {events.Differences(0, 0)}
    assert tallies(dispatch) == counted(dispatch)


@pytest.mark.django_db(transaction=True)
def test_two_who_count_anew_at_once_put_right_once() -> None:
    dispatch, deliveries = make_deliveries(3)
    chance = random.Random(17)
    events.write_hits([random_entry(chance, dispatch, deliveries) for _ in range(100)])
    put_wrong(dispatch, deliveries)
    counted_by, failures = [threading.Event(), threading.Event()], list[Exception]()

    def recount(own: int) -> None:
        def wait_for_the_other(execute: Any, sql: str, *args: Any) -> Any:
            answer = execute(sql, *args)
            if "WITH hit AS" in sql:
                counted_by[own].set()
                deadline = time.monotonic() + 20
                while not (counted_by[1 - own].is_set() or somebody_waits()) and time.monotonic() < deadline:
                    time.sleep(0.01)
            return answer

        try:
            with connection.execute_wrapper(wait_for_the_other):
                events.recount(dispatch.pk)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    both = [threading.Thread(target=recount, args=(own,)) for own in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert failures == []
    dispatch.tallies.filter(hits=0).delete()
    assert tallies(dispatch) == counted(dispatch)


def somebody_waits() -> bool:
    """Whether a transaction waits for another; of SQLite's there is one at a time anyway."""
    if connection.vendor == "sqlite":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db
def test_the_link_of_another_issue_before_a_mails_token_says_nothing_of_whose_click_it_is() -> None:
    ours, (delivery,) = make_deliveries(1)
    other, _ = make_deliveries(1, slug="other")
    events.write_hits([entry(Kind.CLICK, delivery_id=delivery.pk, dispatch_id=other.pk, url=URL)])
    delivery.refresh_from_db()
    assert (delivery.clicked_at, delivery.any_click_at) == (None, None)
    event = Event.objects.get()
    assert (event.dispatch, event.delivery, event.subscriber, event.network) == (other, None, None, "")
    assert tallies(ours) == {}


# What the operator sees


@pytest.mark.django_db
def test_reconcile_says_what_was_off() -> None:
    dispatch, (delivery,) = make_deliveries(1)
    events.write_hits([entry(delivery_id=delivery.pk) | {"at": timezone.now().timestamp()}])
    Tally.objects.filter(judged="").update(hits=9)
    said = io.StringIO()
    call_command("reconcile", "--json", stdout=said)
    assert json.loads(said.getvalue()) == {"dispatches": 1, "tallies": 1, "deliveries": 0}
    call_command("reconcile", str(dispatch.issue_id), stdout=(said := io.StringIO()))
    assert "0 tallies were off" in said.getvalue()


@pytest.mark.django_db
def test_what_was_set_aside_is_shown_and_tried_again(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake, "TRY_AGAIN", 0)
    _, (delivery,) = make_deliveries(1)
    intake.put(Channel.HIT, [entry(delivery_id=delivery.pk)])
    intake.drain(Channel.HIT, lambda entries: 1 / 0)
    assert "manage.py backlog --again" in admin_client.get("/admin/").content.decode()
    tasks.tidy()
    assert "What came back is not written down" in caplog.text
    call_command("backlog", "--again", stdout=(said := io.StringIO()))
    assert "1 are tried again." in said.getvalue()
    assert take_in() == 1
    assert "backlog" not in admin_client.get("/admin/").content.decode()


@pytest.mark.django_db
def test_what_waits_too_long_is_said(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    intake.put(Channel.NOTICE, [{"n": 1}])
    assert "to be written down" not in admin_client.get("/admin/").content.decode()
    monkeypatch.setattr(intake, "OLD", -1.0)
    assert "to be written down" in admin_client.get("/admin/").content.decode()
    call_command("backlog", stdout=(said := io.StringIO()))
    assert "notice" in said.getvalue()
    assert "does a worker run" in " ".join(said.getvalue().split())


@pytest.mark.django_db
def test_a_redis_that_does_not_answer_is_not_shown_as_empty(settings: Settings) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{services.free_port()}/0"
    call_command("backlog", stdout=(said := io.StringIO()))
    assert "Redis does not answer: what waits in it is not known." in said.getvalue()
    call_command("backlog", "--json", stdout=(told := io.StringIO()))
    assert json.loads(told.getvalue())["silent"] == ["Redis"]


@pytest.mark.django_db
def test_without_a_redis_none_is_missed() -> None:
    call_command("backlog", stdout=(said := io.StringIO()))
    assert "does not answer" not in said.getvalue()
