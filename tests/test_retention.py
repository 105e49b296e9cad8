"""What age deletes, tried by a clock that is moved; counts and reports stay."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from newsletter import events, feedback, intake, retention, scheduling, sending, stats
from newsletter.events import Hit, Kind
from newsletter.intake import Channel
from newsletter.models import Attempt, Delivery, Dispatch, Event, Revision, Variant
from newsletter.settings import ENV
from subscribers import consent, subscribing, tidying
from subscribers.addresses import parse
from subscribers.models import ConsentRecord
from tests.feeding import make_notice
from tests.making import BROWSER, issue_of, make_dispatch, make_newsletter, make_reader
from tests.smtp_sink import SmtpSink

pytestmark = pytest.mark.django_db

MAIL = Hit("GET", BROWSER, "203.0.113.0/24")
URL = "https://example.com/"


def later(days: float) -> time_machine.travel:
    """The clock, that many days further."""
    return time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(days=days), tick=True)


def make_hits() -> Dispatch:
    """A dispatch of which both readers opened the mail and one followed a link."""
    dispatch = make_dispatch(make_newsletter(), readers=2)
    first, second = dispatch.deliveries.order_by("pk")
    for delivery in (first, second):
        events.record(Kind.OPEN, delivery_id=delivery.pk, hit=MAIL)
    events.record(Kind.CLICK, delivery_id=first.pk, dispatch_id=dispatch.pk, url=URL, hit=MAIL)
    return dispatch


def places() -> set[tuple[str, str]]:
    return set(Event.objects.values_list("network", "agent"))


@pytest.mark.parametrize(
    ("channel", "days", "kept"),
    [(Channel.HIT, 29, 1), (Channel.HIT, 31, 0), (Channel.NOTICE, 179, 1), (Channel.NOTICE, 181, 0)],
)
def test_what_could_not_be_written_down_is_kept_no_longer_than_what_is_in_it(
    channel: Channel, days: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "TRY_AGAIN", 0)
    intake.put(channel, [{"network": MAIL.network}])
    intake.drain(channel, lambda entries: 1 / 0)
    with later(days):
        retention.forget()
    assert sum(backlog.aside for backlog in intake.look()) == kept


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_networks_and_programs_are_kept_for_a_month(days: int, kept: bool) -> None:
    make_hits()
    with later(days):
        retention.forget()
    assert places() == ({(MAIL.network, MAIL.agent)} if kept else {("", "")})
    assert Event.objects.count() == 3


def test_a_judgement_stands_when_what_it_was_made_from_has_gone() -> None:
    dispatch = make_hits()
    before = list(Event.objects.order_by("pk").values_list("judged", "reasons"))
    assert ("person", "plain") in before
    with later(31):
        retention.forget()
        events.judge_stored(dispatch.pk)
    assert list(Event.objects.order_by("pk").values_list("judged", "reasons")) == before


@pytest.mark.parametrize(("days", "kept"), [(89, True), (91, False)])
def test_hits_go_after_three_months_and_the_report_stays(days: int, kept: bool) -> None:
    dispatch = make_hits()
    events.record(Kind.UNSUBSCRIBE, delivery_id=dispatch.deliveries.order_by("pk")[0].pk)
    before = stats.report(issue_of(dispatch))
    firsts = list(Delivery.objects.order_by("pk").values_list("opened_at", "clicked_at"))
    assert (before["opened"], before["clicked"]) == (2, 1)
    with later(days):
        retention.forget()
    kinds = sorted(Event.objects.values_list("kind", flat=True))
    assert kinds == (["click", "open", "open", "unsubscribe"] if kept else ["unsubscribe"])
    assert stats.report(issue_of(dispatch)) == before
    assert list(Delivery.objects.order_by("pk").values_list("opened_at", "clicked_at")) == firsts


def test_a_reader_who_comes_back_when_the_hits_have_gone_is_not_counted_twice() -> None:
    dispatch = make_hits()
    delivery = dispatch.deliveries.order_by("pk")[0]
    with later(91):
        retention.forget()
        events.record(Kind.OPEN, delivery_id=delivery.pk, hit=MAIL)
    assert dispatch.tallies.get(kind="open", judged="", url="").readers == 2
    assert dispatch.tallies.get(kind="open", judged="person", url="").readers == 2
    assert dispatch.tallies.get(kind="open", judged="", url="").hits == 3


@pytest.mark.parametrize(("days", "left"), [(89, {"bounce", "accepted", "deferred", "delivered"}), (91, {"bounce"})])
def test_that_a_mail_arrived_is_forgotten_after_three_months_and_that_it_came_back_is_not(
    days: int, left: set[str]
) -> None:
    first, second = make_dispatch(make_newsletter(), readers=2).deliveries.order_by("pk")
    arrivals = (Kind.ACCEPTED, Kind.DEFERRED, Kind.DELIVERED)
    notices = [make_notice(kind, delivery_id=first.pk) for kind in arrivals]
    feedback.write_notices([*notices, make_notice(Kind.BOUNCE, delivery_id=second.pk)])
    with later(days):
        retention.forget()
    assert set(Event.objects.values_list("kind", flat=True)) == left


@pytest.mark.parametrize(("days", "kept"), [(179, True), (181, False)])
def test_what_mail_servers_said_goes_after_half_a_year(days: int, kept: bool) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    refused, taken = dispatch.deliveries.order_by("pk")
    now = dt.datetime.now(dt.UTC)
    Delivery.objects.filter(pk=refused.pk).update(status="failed", reply="550 no such user", settled_at=now)
    Delivery.objects.filter(pk=taken.pk).update(status="sent", tries=1, reply="250 taken", settled_at=now)
    Event.objects.create(kind=Kind.BOUNCE, dispatch=dispatch, delivery=refused, verdict="hard", detail="no such user")
    with later(days):
        retention.forget()
    bounce = Event.objects.get()
    refused.refresh_from_db()
    taken.refresh_from_db()
    assert (bounce.verdict, bool(bounce.detail), bool(refused.reply)) == ("hard", kept, kept)
    assert taken.reply == "250 taken"


@pytest.mark.parametrize(
    ("setting", "days"), [("retain_networks_days", 7), ("retain_hits_days", 20), ("retain_bounces_days", 10)]
)
def test_each_time_is_a_setting(monkeypatch: pytest.MonkeyPatch, setting: str, days: int) -> None:
    monkeypatch.setitem(ENV.__dict__, setting, days)
    dispatch = make_hits()
    Event.objects.create(kind=Kind.BOUNCE, dispatch=dispatch, verdict="hard", detail="no such user")

    def left() -> tuple[bool, bool, bool]:
        rows = Event.objects
        return (
            rows.exclude(network="").exists(),
            rows.filter(kind=Kind.OPEN).exists(),
            rows.exclude(detail="").exists(),
        )

    with later(days - 1):
        retention.forget()
        assert all(left())
    with later(days + 1):
        retention.forget()
        assert not all(left())


def test_an_event_of_who_is_no_longer_there_names_nobody() -> None:
    """The database does not watch over these references: what was written while a reader was erased may dangle."""
    make_hits()
    kept, lost = Event.objects.filter(kind=Kind.OPEN).order_by("pk")
    Event.objects.filter(pk=lost.pk).update(subscriber_id=10**9, delivery_id=10**9, dispatch_id=10**9)
    retention.forget()
    lost.refresh_from_db()
    assert (lost.subscriber_id, lost.delivery_id, lost.dispatch_id) == (None, None, None)
    assert (lost.network, lost.agent) == ("", "")
    before = (kept.subscriber_id, kept.delivery_id, kept.dispatch_id)
    kept.refresh_from_db()
    assert (kept.subscriber_id, kept.delivery_id, kept.dispatch_id) == before
    assert None not in before


def test_proof_of_consent_does_not_go_with_the_hits() -> None:
    reader = make_reader(make_newsletter())
    said = consent.Evidence("hash", "203.0.113.0/24", BROWSER)
    consent.record(reader.subscriber, reader.newsletter, ConsentRecord.Action.SUBSCRIBED, "page", said)
    with later(1000):
        retention.forget()
        tidying.tidy()
    record = ConsentRecord.objects.get()
    assert (record.text_version, record.network, record.agent) == ("hash", "203.0.113.0/24", BROWSER)


def test_many_rows_go_in_chunks_and_stopping_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 10)
    dispatch = make_dispatch(make_newsletter(), readers=1)
    old = dt.datetime.now(dt.UTC) - dt.timedelta(days=100)
    Event.objects.bulk_create([Event(kind=Kind.OPEN, dispatch=dispatch, at=old) for _ in range(35)])
    asked: list[int] = []

    def stopping() -> bool:
        asked.append(Event.objects.count())
        return len(asked) > 2

    assert retention.forget(stopping=stopping)["hits and arrivals"] == 20
    assert asked == [35, 25, 15]
    assert retention.forget()["hits and arrivals"] == 15
    assert not Event.objects.exists()
    assert "hits and arrivals" not in retention.forget()


def test_every_night_takes_what_became_old_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 2)
    make_hits()
    retention.forget()
    with later(20):
        dispatch = Dispatch.objects.get()
        events.record(Kind.OPEN, delivery_id=dispatch.deliveries.order_by("pk")[1].pk, hit=MAIL)
        retention.forget()
        assert places() == {(MAIL.network, MAIL.agent)}
    with later(31):
        retention.forget()
        assert Event.objects.filter(network="", agent="").count() == 3
    with later(91):
        retention.forget()
        assert Event.objects.get().network == ""
    with later(111):
        retention.forget()
        assert not Event.objects.exists()


def test_what_age_has_done_with_is_not_gone_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 10)
    dispatch = make_dispatch(make_newsletter(), readers=1)
    Event.objects.bulk_create([Event(kind=Kind.DELIVERED, dispatch=dispatch, detail="250 OK") for _ in range(95)])

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            retention.forget()
        return len([query for query in captured if "newsletter_event" in query["sql"]])

    with later(181):
        first, second = statements(), statements()
        assert first > 40
        assert second <= 2
        assert not Event.objects.exclude(detail="").exists()


def test_whoever_is_gone_is_found_in_the_next_night_and_not_looked_for_in_all_nights_after() -> None:
    make_hits()
    retention.forget()
    late = Event.objects.order_by("pk")[0]
    Event.objects.filter(pk=late.pk).update(subscriber_id=10**9)
    retention.forget()
    late.refresh_from_db()
    assert late.subscriber_id is None
    Event.objects.filter(pk=late.pk).update(subscriber_id=10**9)
    assert "references" not in retention.forget()


# Single messages


def ask_for(newsletter: Any) -> Dispatch:
    subscribing.ask(newsletter, parse("ada@readers.example"), name="", evidence=consent.Evidence())
    return Dispatch.objects.get(kind=Dispatch.Kind.SINGLE)


def texts(dispatch: Dispatch) -> str:
    """All that is stored of a message's text."""
    rows = [str(Revision.objects.get(pk=dispatch.revision_id).data)]
    return "".join(rows + [str(variant.data) for variant in Variant.objects.filter(dispatch=dispatch)])


@pytest.mark.django_db(transaction=True)
def test_the_text_of_a_message_goes_once_the_link_in_it_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    newsletter = make_newsletter()
    dispatch = ask_for(newsletter)
    with SmtpSink() as sink:
        monkeypatch.setitem(ENV.__dict__, "smtp_url", sink.url)
        monkeypatch.delattr(sending._local, "transport", raising=False)
        sending.send_batch(dispatch.batches.get())
        sending._local.transport.close()
        monkeypatch.delattr(sending._local, "transport")
        assert len(sink.messages()) == 1
    scheduling.finish()
    link = "/y/"
    assert link in texts(dispatch)
    with later(0.9):
        assert retention.forget_messages() == 0
    with later(1.1):
        assert retention.forget_messages() == 1
        assert retention.forget_messages() == 0
    assert link not in texts(dispatch)
    dispatch.refresh_from_db()
    assert (dispatch.status, dispatch.deliveries.get().status) == ("sent", "sent")


@pytest.mark.parametrize(("days", "gone"), [(2, False), (4, True)])
def test_what_is_in_doubt_may_be_sent_again_while_it_is_of_use(days: int, gone: bool) -> None:
    dispatch = ask_for(make_newsletter())
    now = dt.datetime.now(dt.UTC)
    Delivery.objects.update(status="unconfirmed", tries=1)
    Dispatch.objects.update(status="sent", finished_at=now)
    with later(days):
        retention.forget_messages()
    assert ("/y/" not in texts(dispatch)) is gone
    if gone:
        with pytest.raises(scheduling.NotNow, match="the link in it ran out"):
            scheduling.resend_unconfirmed(dispatch)
    else:
        assert scheduling.resend_unconfirmed(dispatch) == 1


@pytest.mark.parametrize("status", ["sending", "paused", "cancelled", "sent"])
def test_the_text_of_a_message_goes_whatever_became_of_it(status: str) -> None:
    dispatch = ask_for(make_newsletter())
    Dispatch.objects.update(status=status)
    with later(4):
        assert retention.forget_messages() == 1
    assert "/y/" not in texts(dispatch)


def test_the_text_of_a_message_on_its_way_and_of_an_issue_stays() -> None:
    newsletter = make_newsletter()
    single, issue = ask_for(newsletter), make_dispatch(newsletter, readers=1)
    Dispatch.objects.filter(pk=issue.pk).update(status="sent", finished_at=dt.datetime.now(dt.UTC))
    with later(2.9):
        assert retention.forget_messages() == 0
    with later(400):
        assert retention.forget_messages() == 1
    assert "/y/" not in texts(single)
    assert "example.com" in texts(issue)


@pytest.mark.django_db(transaction=True)
def test_what_a_provider_repeats_is_not_asked_once_the_text_is_gone() -> None:
    dispatch = ask_for(make_newsletter())
    fields = {"worker": "w", "transport": "resend", "idempotency_key": uuid.uuid4()}
    attempt = Attempt.objects.create(batch=dispatch.batches.get(), repeat_at=timezone.now(), **fields)
    with later(4):
        retention.forget_messages()
    attempt.refresh_from_db()
    assert attempt.repeat_at is None
