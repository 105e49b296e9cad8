"""Warming up a sending domain: the curve of the days, and that no day gets more than its cap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from newsletter import scheduling, sending, stats, warming
from newsletter.models import Batch, Delivery, Dispatch, SendingDay
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result
from tests.making import make_dispatch, make_newsletter, make_subscriber
from tests.smtp_sink import SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

DOMAIN = "weekly.example"
FIRST = dt.date(2026, 11, 22)


@pytest.fixture(autouse=True)
def plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "warm_up", {DOMAIN: FIRST})


def on(day: int) -> Any:
    """The clock at noon, so many days after the first."""
    return time_machine.travel(dt.datetime.combine(FIRST, dt.time(12), dt.UTC) + dt.timedelta(days=day), tick=False)


def cap(dispatch: Dispatch) -> int | None:
    with transaction.atomic():
        row = warming.lock_today(dispatch)
    return row.cap if row else None


def use_up(dispatch: Dispatch, *, share: float = 1, refused: float = 0) -> None:
    """Send `share` of today's cap, of which the share `refused` is refused."""
    with transaction.atomic():
        row = warming.lock_today(dispatch)
        assert row
        taken = int(row.cap * share)
        warming.take(row, taken)
    bad = int(taken * refused)
    warming.note(row, [Outcome(1, Result.REFUSED, "")] * bad + [Outcome(1, Result.ACCEPTED, "")] * (taken - bad))


def make_any() -> Dispatch:
    return make_dispatch(make_newsletter(), readers=1)


def test_each_day_takes_twice_the_last_until_nothing_is_capped() -> None:
    dispatch, caps = make_any(), []
    for day in range(15):
        with on(day):
            caps.append(cap(dispatch))
            if caps[-1]:
                use_up(dispatch)
    assert caps == [50 * 2**day for day in range(11)] + [None] * 4


def test_too_many_refusals_hold_the_cap() -> None:
    dispatch = make_any()
    for day, refused, expected in [(0, 0.06, 50), (1, 0.06, 50), (2, 0.04, 50), (3, 0, 100), (4, 0, 200)]:
        with on(day):
            assert cap(dispatch) == expected
            use_up(dispatch, refused=refused)


def test_a_day_hardly_used_proves_nothing() -> None:
    dispatch = make_any()
    for day, share, expected in [(0, 0.4, 50), (1, 0.5, 50), (5, 1, 100), (6, 1, 200)]:
        with on(day):
            assert cap(dispatch) == expected
            use_up(dispatch, share=share)


def test_a_day_on_which_nothing_was_answered_proves_nothing() -> None:
    dispatch = make_any()
    for day, expected in [(0, 50), (1, 50)]:
        with on(day), transaction.atomic():
            row = warming.lock_today(dispatch)
            assert row
            assert row.cap == expected
            warming.take(row, row.cap)
            warming.note(row, [Outcome(1, Result.LATER, "451 try later")] * row.cap)


def test_what_was_not_tried_while_the_relay_was_away_takes_no_place_of_the_day() -> None:
    dispatch = make_any()
    with on(0), transaction.atomic():
        row = warming.lock_today(dispatch)
        assert row
        warming.take(row, 50)
        warming.note(row, [Outcome(1, Result.LATER, "away", tried=False)] * 48 + [Outcome(1, Result.LATER, "451")] * 2)
        row.refresh_from_db()
        assert warming.left(row, dispatch) == 48


def test_a_month_without_mail_begins_anew() -> None:
    dispatch = make_any()
    for day, expected in [(0, 50), (1, 100), (31, 200), (62, 50)]:
        with on(day):
            assert cap(dispatch) == expected
            use_up(dispatch)


def test_nothing_is_capped_before_the_first_day_nor_for_another_domain() -> None:
    with on(-1):
        assert cap(make_any()) is None
    other = make_newsletter(slug="other", from_address="desk@other.example")
    with on(0):
        assert cap(make_dispatch(other, readers=1)) is None
    assert not SendingDay.objects.exists()


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpSink]:
    with SmtpSink() as running:
        monkeypatch.setitem(ENV.__dict__, "smtp_url", running.url)
        if hasattr(sending._local, "transport"):
            sending._local.transport.close()
            del sending._local.transport
        yield running
        sending._local.transport.close()
        del sending._local.transport


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan begins today, with three mails."""
    monkeypatch.setitem(ENV.__dict__, "warm_up", {DOMAIN: timezone.now().date()})
    monkeypatch.setattr(warming, "FIRST_CAP", 3)


@pytest.mark.usefixtures("started")
def test_what_is_over_the_cap_waits_for_tomorrow(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=5)
    assert warming.reason(dispatch) == ""
    sending.send_batch(Batch.objects.get(dispatch=dispatch))
    assert len(sink.messages()) == 3
    assert list(Delivery.objects.filter(status="queued").values_list("tries", flat=True)) == [0, 0]
    assert Batch.objects.get().due_at == warming.tomorrow()
    assert scheduling.to_ring() == []
    assert "the 3 mails of today are sent" in warming.reason(dispatch)
    day = SendingDay.objects.get()
    assert (day.cap, day.taken, day.accepted, day.refused) == (3, 3, 3, 0)


@pytest.mark.usefixtures("started")
def test_the_report_and_the_page_say_why_the_rest_waits(sink: SmtpSink, admin_client: Client) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=4)
    page = reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])
    assert "being warmed up" not in admin_client.get(page).content.decode()
    sending.send_batch(Batch.objects.get(dispatch=dispatch))
    assert "being warmed up" in admin_client.get(page).content.decode()
    assert stats.count(dispatch)["waits_for"] == warming.reason(dispatch)


@pytest.mark.usefixtures("started")
def test_two_dispatches_of_one_domain_share_its_cap(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    daily = make_newsletter(slug="daily", from_address=f"daily@{DOMAIN.upper()}")
    for dispatch in (make_dispatch(weekly, readers=2), make_dispatch(daily, readers=2)):
        sending.send_batch(Batch.objects.get(dispatch=dispatch))
    assert len(sink.messages()) == 3


@pytest.mark.usefixtures("started")
def test_a_single_message_counts_and_never_waits(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    sending.send_batch(Batch.objects.get(dispatch=make_dispatch(weekly, readers=5)))
    single = scheduling.send_single(make_subscriber(), weekly, subject="Confirm", body="Here it is.")
    sending.send_batch(Batch.objects.get(dispatch=single))
    assert len(sink.messages()) == 4
    assert SendingDay.objects.get().taken == 4


@pytest.mark.usefixtures("started")
def test_what_a_rate_keeps_back_is_not_taken_from_the_day(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "domain_rates", {"readers.example": 0.01})
    dispatch = make_dispatch(make_newsletter(), readers=2)
    sending.send_batch(Batch.objects.get(dispatch=dispatch))
    assert len(sink.messages()) == 1
    assert SendingDay.objects.get().taken == 1
