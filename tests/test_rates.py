"""Rates: what may go now, what waits and how long, counted for all workers and never given away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from newsletter import deliveries, rates, scheduling, sending
from newsletter.environment import Environment
from newsletter.models import Attempt, Batch, Delivery
from newsletter.settings import ENV
from tests.making import make_dispatch, make_newsletter, make_reader, make_subscriber
from tests.smtp_sink import SmtpSink
from tests.waiting import until


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    """Counts of this test only."""
    forget()
    yield
    forget()


def forget() -> None:
    rates._storage.cache_clear()
    rates._limiter.cache_clear()
    rates._full_until.clear()
    rates._away = False


def allow(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    for name, value in values.items():
        monkeypatch.setitem(ENV.__dict__, name, value)


@pytest.fixture(params=["in this process", "in Redis"])
def counted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the rates are counted."""
    if request.param == "in Redis":
        allow(monkeypatch, redis_url=request.getfixturevalue("redis_url"))
    return str(request.param)


def test_without_a_rate_nothing_waits_and_nothing_is_counted() -> None:
    assert rates.room("smtp", 100) == 100
    assert rates.waits("smtp", ["gmail.com"] * 100) == [0.0] * 100
    assert not rates._storage.cache_info().currsize


def test_no_more_than_the_rate_go_in_a_window(counted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, rate_per_second=30)
    assert rates.room("smtp", 100) == 30
    assert rates.room("smtp", 7) == 7
    assert rates.waits("smtp", ["a.example"] * 20).count(0.0) == 20
    assert rates.room("smtp", 100) == 10
    assert rates.waits("smtp", ["a.example"] * 20).count(0.0) == 10
    assert rates.room("smtp", 100) == 0
    assert rates.room("mailgun", 100) == 30, "another transport has a rate of its own"
    until(lambda: rates.room("smtp", 100) == 30, "the next window is open")


def test_a_domain_waits_and_the_others_go(counted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, domain_rates={"gmail.com": 2})
    waits = rates.waits("smtp", ["gmail.com", "a.example", "gmail.com", "gmail.com", "b.example"])
    assert [wait == 0 for wait in waits] == [True, True, True, False, True]


def test_who_waits_is_given_a_place_in_the_order_of_windows(counted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, domain_rates={"gmail.com": 10})
    waits = sorted(rates.waits("smtp", ["gmail.com"] * 25) + rates.waits("smtp", ["gmail.com"] * 20))
    assert waits.count(0.0) == 10
    late = waits[10:]
    assert all(0 < wait <= 5 for wait in late)
    now = time.time()
    by_window = [round(now + wait) for wait in late]
    assert all(by_window.count(window) <= 11 for window in by_window), "ten a second, but for rounding"


def test_nobody_is_given_a_place_too_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, domain_rates={"gmail.com": 1})
    waits = rates.waits("smtp", ["gmail.com"] * 900)
    assert max(waits) <= rates.HORIZON
    assert waits.count(waits[-1]) > 500, "those without a place ask again together"


def test_workers_share_one_count(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, redis_url=redis_url, rate_per_second=30)
    assert rates.waits("smtp", ["a.example"] * 30).count(0.0) == 30
    forget()  # as another process that knows nothing
    assert rates.room("smtp", 100) == 0
    assert rates.waits("smtp", ["a.example"]) != [0.0]


def test_while_redis_is_away_nothing_goes_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allow(monkeypatch, redis_url="redis://127.0.0.1:1/0", rate_per_second=30, domain_rates={"gmail.com": 1})
    for _ in range(3):
        assert rates.room("smtp", 100) == 0
        assert all(wait > 0 for wait in rates.waits("smtp", ["gmail.com", "a.example"]))
    assert [record.levelname for record in caplog.records if record.name == "newsletter.rates"] == ["ERROR"]


@given(st.floats(0.001, 100_000, allow_nan=False))
def test_a_window_lets_no_more_through_than_the_rate(rate: float) -> None:
    limit = rates._limit(rate)
    assert limit.amount / limit.get_expiry() <= rate
    assert limit.amount / limit.get_expiry() > rate * 0.5


@pytest.mark.parametrize(("rate", "amount", "seconds"), [(20, 20, 1), (0.5, 1, 2), (2.5, 5, 2), (0.3, 1, 4)])
def test_a_rate_becomes_whole_numbers(rate: float, amount: int, seconds: int) -> None:
    limit = rates._limit(rate)
    assert (limit.amount, limit.get_expiry()) == (amount, seconds)


@pytest.mark.parametrize(
    "settings",
    [
        {"domain_rates": {"gmail.com": 0}},
        {"domain_rates": {"reader@gmail.com": 1}},
        {"rate_per_second": -1},
        {"warm_up": {"news.example.org": "soon"}},
        {"warm_up": {"desk@example.org": "2026-12-01"}},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Environment(**settings)


def test_domains_are_compared_in_lower_case() -> None:
    assert Environment(domain_rates={"GMail.com": 20}).domain_rates == {"gmail.com": 20}


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpSink]:
    with SmtpSink() as running:
        allow(monkeypatch, smtp_url=running.url)
        if hasattr(sending._local, "transport"):
            sending._local.transport.close()
            del sending._local.transport
        yield running
        sending._local.transport.close()
        del sending._local.transport


@pytest.mark.django_db(transaction=True)
def test_readers_of_a_full_domain_are_queued_for_later_and_it_counts_no_try(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, domain_rates={"full.example": 0.01})
    weekly = make_newsletter()
    for number in range(3):
        make_reader(weekly, f"reader{number}@full.example")
    dispatch = make_dispatch(weekly, readers=2)
    assert sending.send_batch(Batch.objects.get(dispatch=dispatch)).claimed == 5
    sent = Delivery.objects.filter(status=Delivery.Status.SENT)
    assert sent.filter(subscriber__address_key__endswith="@full.example").count() == 1
    assert sent.count() == 3
    late = Delivery.objects.filter(status=Delivery.Status.QUEUED)
    assert list(late.values_list("tries", flat=True)) == [0, 0]
    assert not late.filter(attempt__isnull=False).exists()
    assert all(row.due_at and row.due_at > timezone.now() for row in late)
    assert len(sink.messages()) == 3
    assert Attempt.objects.get().accepted == 3


@pytest.mark.django_db(transaction=True)
def test_a_single_message_does_not_wait_for_the_other_readers_of_a_domain(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, domain_rates={"full.example": 0.01})
    assert rates.waits("smtp", ["full.example"]) == [0.0]
    asking = make_subscriber("asking@full.example")
    single = scheduling.send_single(asking, make_newsletter(), subject="Confirm", body="Here it is.")
    sending.send_batch(Batch.objects.get(dispatch=single))
    assert len(sink.messages()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_worker_waits_for_the_rate_and_holds_its_lease(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, rate_per_second=2)
    for name, seconds in (("smtp_timeout", 3.0), ("lease_seconds", 9.0)):
        monkeypatch.setitem(ENV.__dict__, name, seconds)
    dispatch = make_dispatch(make_newsletter(), readers=5)
    began = time.monotonic()
    held = []
    real_room = rates.room

    def room(transport: str, wanted: int) -> int:
        held.append(Batch.objects.get(dispatch=dispatch).leased_until)
        return real_room(transport, wanted)

    monkeypatch.setattr(rates, "room", room)

    def all_sent() -> bool:
        sending.send_batch(Batch.objects.get(dispatch=dispatch))
        return Delivery.objects.filter(status=Delivery.Status.SENT).count() == 5

    until(all_sent, "all are sent")
    assert all(held)
    assert len(held) > 6, "it looked again and again"
    assert len(set(held)) > 1, "and renewed its lease meanwhile"
    assert time.monotonic() - began >= 1.5, "five at two a second take three windows"
    assert set(Delivery.objects.values_list("tries", flat=True)) == {1}


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_waits_for_the_rate_stops_when_asked(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, rate_per_second=0.01)
    dispatch = make_dispatch(make_newsletter(), readers=3)
    asked = iter([False] * 3)
    sent = sending.send_batch(Batch.objects.get(dispatch=dispatch), stopping=lambda: next(asked, True))
    assert sent.claimed == 1
    assert Batch.objects.get().lease_token is None
    assert Delivery.objects.filter(status=Delivery.Status.QUEUED).count() == 2


@pytest.mark.django_db(transaction=True)
def test_what_is_postponed_belongs_to_the_attempt_that_claimed_it() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    batch = Batch.objects.get(dispatch=dispatch)
    first, second = (Attempt.objects.create(batch=batch, idempotency_key=key) for key in (
        "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"))  # fmt: skip
    Delivery.objects.update(status=Delivery.Status.SENDING, attempt=first, tries=1)
    waits = dict.fromkeys(Delivery.objects.values_list("pk", flat=True), 60.0)
    assert deliveries.postpone(second, waits) == 0
    assert deliveries.postpone(first, waits) == 2


@pytest.mark.django_db(transaction=True)
def test_nothing_is_claimed_for_a_full_domain_until_there_should_be_room(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, domain_rates={"readers.example": 0.1}, chunk_size=10)
    dispatch = make_dispatch(make_newsletter(), readers=100)
    batch = Batch.objects.get(dispatch=dispatch)
    sending.send_batch(batch)
    assert len(sink.messages()) == 1
    assert Attempt.objects.get().accepted == 1, "nothing is left of one that handed over nothing"
    waiting = Delivery.objects.filter(status="queued", due_at__isnull=False).order_by("due_at")
    assert 9 <= waiting.count() <= 20, "two chunks at most"
    batch.refresh_from_db()
    assert batch.due_at == waiting[0].due_at
    assert scheduling.to_ring() == []
    Delivery.objects.filter(pk=waiting[0].pk).update(due_at=timezone.now())
    Batch.objects.update(due_at=timezone.now())
    assert scheduling.to_ring() == [batch.pk]


@pytest.mark.django_db(transaction=True)
def test_a_full_domain_holds_up_no_other(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, domain_rates={"full.example": 0.01}, chunk_size=5)
    weekly = make_newsletter()
    for number in range(30):
        make_reader(weekly, f"reader{number}@full.example")
    dispatch = make_dispatch(weekly, readers=3)
    sending.send_batch(Batch.objects.get(dispatch=dispatch))
    sent = Delivery.objects.filter(status="sent").exclude(subscriber__address_key__endswith="@full.example")
    assert sent.count() == 3
    assert not Attempt.objects.filter(accepted=0).exists()
