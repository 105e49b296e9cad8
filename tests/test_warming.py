"""Warming up a sending domain: the curve of the days, and that no day gets more than its cap."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletter import deliveries, scheduling, sending, stats, warming
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Newsletter, SendingDay
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result
from tests.making import make_dispatch, make_newsletter, make_reader, make_subscriber
from tests.sending import send, sinking, use
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
    with sinking(monkeypatch) as running:
        yield running


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan begins today, with three mails."""
    monkeypatch.setitem(ENV.__dict__, "warm_up", {DOMAIN: timezone.now().date()})
    monkeypatch.setattr(warming, "FIRST_CAP", 3)


def assert_waits_for_the_next_day(batch: Batch) -> None:
    """It is looked at then, and now and then before: whether it still has to wait."""
    assert batch.due_at
    assert timezone.now() + warming.LOOK < batch.due_at <= warming.tomorrow()
    assert batch.due_at <= timezone.now() + warming.LONGEST_LOOK


@pytest.mark.usefixtures("started")
def test_what_waited_goes_on_once_the_setting_names_its_domain_no_more(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=5)
    send(dispatch)
    assert len(sink.messages()) == 3
    monkeypatch.setitem(ENV.__dict__, "warm_up", {})
    waiting = dispatch.batches.get().due_at
    assert waiting
    Batch.objects.update(due_at=waiting - warming.LONGEST_LOOK)
    assert scheduling.to_ring() == [dispatch.batches.get().pk]
    send(dispatch)
    assert len(sink.messages()) == 5


@pytest.mark.usefixtures("started")
def test_what_is_over_the_cap_waits_for_tomorrow(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=5)
    assert warming.reason(dispatch) == ""
    send(dispatch)
    assert len(sink.messages()) == 3
    assert list(Delivery.objects.filter(status="queued").values_list("tries", flat=True)) == [0, 0]
    assert_waits_for_the_next_day(Batch.objects.get())
    assert scheduling.to_ring() == []
    assert "the 3 mails of today are sent" in warming.reason(dispatch)
    day = SendingDay.objects.get()
    assert (day.cap, day.taken, day.accepted, day.refused) == (3, 3, 3, 0)


@pytest.mark.usefixtures("started")
def test_the_report_and_the_page_say_why_the_rest_waits(sink: SmtpSink, admin_client: Client) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=4)
    page = reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])
    assert "being warmed up" not in admin_client.get(page).content.decode()
    send(dispatch)
    assert "being warmed up" in admin_client.get(page).content.decode()
    assert stats.count(dispatch)["waits_for"] == warming.reason(dispatch)


@pytest.mark.usefixtures("started")
def test_two_dispatches_of_one_domain_share_its_cap(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    daily = make_newsletter(slug="daily", from_address=f"daily@{DOMAIN.upper()}")
    for dispatch in (make_dispatch(weekly, readers=2), make_dispatch(daily, readers=2)):
        send(dispatch)
    assert len(sink.messages()) == 3


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("single", [False, True])
def test_what_counts_is_the_sender_that_was_pinned_whatever_the_newsletter_has_now(
    sink: SmtpSink, single: bool
) -> None:
    weekly = make_newsletter()
    dispatch = make_dispatch(weekly, readers=5)
    if single:
        dispatch = scheduling.send_single(make_subscriber(), weekly, subject="Confirm", body="Here it is.")
    Newsletter.objects.update(from_address="desk@other.example")
    send(Dispatch.objects.get(pk=dispatch.pk))
    assert {mail.parsed()["From"].addresses[0].domain for mail in sink.messages()} == {DOMAIN}
    assert (len(sink.messages()), SendingDay.objects.get().taken) == ((1, 1) if single else (3, 3))


@pytest.mark.usefixtures("started")
def test_a_single_message_counts_and_never_waits(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    send(make_dispatch(weekly, readers=5))
    single = scheduling.send_single(make_subscriber(), weekly, subject="Confirm", body="Here it is.")
    send(single)
    assert len(sink.messages()) == 4
    assert SendingDay.objects.get().taken == 4


@pytest.mark.usefixtures("started")
def test_what_a_rate_keeps_back_is_not_taken_from_the_day(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "domain_rates", {"readers.example": 0.01})
    dispatch = make_dispatch(make_newsletter(), readers=2)
    send(dispatch)
    assert len(sink.messages()) == 1
    assert SendingDay.objects.get().taken == 1


@pytest.mark.usefixtures("started")
def test_a_chunk_that_a_rate_keeps_back_whole_takes_no_place(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "domain_rates", {"slow.example": 0.01})
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 1)
    weekly = make_newsletter()
    for number in range(2):
        make_reader(weekly, f"reader{number}@slow.example")
    send(make_dispatch(weekly))
    assert len(sink.messages()) == 1
    assert (SendingDay.objects.get().taken, Attempt.objects.count()) == (1, 1)


@pytest.fixture
def in_the_midst(sink: SmtpSink) -> Attempt:
    """A batch that a worker is sending, all places of the day in its hands."""
    busy = make_dispatch(make_newsletter(slug="busy"), readers=3).batches.get()
    Batch.objects.filter(pk=busy.pk).update(lease_token=uuid.uuid4(), leased_until=Now() + dt.timedelta(minutes=1))
    with transaction.atomic():
        day = warming.lock_today(busy.dispatch)
        assert day
        warming.take(day, day.cap)
    return Attempt.objects.create(batch=busy, worker="w", transport="smtp", idempotency_key=uuid.uuid4())


@pytest.mark.usefixtures("started")
def test_who_finds_the_places_in_the_hands_of_another_batch_looks_again_in_a_moment(
    sink: SmtpSink, in_the_midst: Attempt
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    send(dispatch)
    due_at = dispatch.batches.get().due_at
    assert due_at
    assert timezone.now() < due_at <= timezone.now() + warming.LOOK
    assert warming.reason(dispatch) == ""
    assert sink.messages() == []


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    "over",
    [
        lambda _: Attempt.objects.update(finished_at=Now()),
        lambda _: Attempt.objects.update(started_at=Now() - dt.timedelta(days=1)),
        lambda attempt: Batch.objects.filter(pk=attempt.batch_id).update(leased_until=Now()),
        lambda attempt: Batch.objects.filter(pk=attempt.batch_id).update(lease_token=None, leased_until=None),
        lambda _: Dispatch.objects.filter(newsletter__slug="busy").update(sender_domain=f"other-{DOMAIN}"),
    ],
    ids=["answered", "of yesterday", "lease over", "given back", "of another domain"],
)
def test_places_that_nobody_can_give_back_are_waited_for_until_tomorrow(
    sink: SmtpSink, in_the_midst: Attempt, over: Callable[[Attempt], object]
) -> None:
    over(in_the_midst)
    dispatch = make_dispatch(make_newsletter(), readers=1)
    send(dispatch)
    assert_waits_for_the_next_day(dispatch.batches.get())
    assert "the 3 mails of today are sent" in warming.reason(dispatch)


@pytest.mark.usefixtures("started")
def test_a_batch_does_not_wait_for_places_in_its_own_hands(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=5)
    batch = dispatch.batches.get()
    Attempt.objects.create(batch=batch, worker="killed", transport="smtp", idempotency_key=uuid.uuid4())
    send(dispatch)
    assert_waits_for_the_next_day(dispatch.batches.get())


@pytest.mark.usefixtures("started")
def test_a_sign_in_that_is_refused_takes_no_place_of_the_day_and_refuses_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    with sinking(monkeypatch, credentials=("user", "right")) as sink:
        use(monkeypatch, sink.url.replace("//", "//user:wrong@"))
        assert "535" in send(dispatch).stop
    assert set(dispatch.deliveries.values_list("status", "tries")) == {("queued", 0)}
    day = SendingDay.objects.get()
    assert (day.taken, day.accepted, day.refused) == (0, 0, 0)


@pytest.mark.usefixtures("started")
def test_only_the_one_whose_sender_was_refused_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    with sinking(monkeypatch, answers={"MAIL": "550 5.7.1 go away"}):
        assert "go away" in send(dispatch).stop
    assert sorted(dispatch.deliveries.values_list("status", "tries")) == [("queued", 0), ("queued", 0), ("queued", 1)]
    day = SendingDay.objects.get()
    assert (day.taken, day.accepted, day.refused) == (1, 0, 1)


BECAME = st.sampled_from(
    [
        (Result.ACCEPTED, True),
        (Result.REFUSED, True),
        (Result.REFUSED, False),
        (Result.SENDER_REFUSED, True),
        (Result.SENDER_REFUSED, False),
        (Result.LATER, True),
        (Result.LATER, False),
        (Result.UNKNOWN, True),
        None,  # never given to the transport
    ]
)


def test_the_day_is_called_full_only_once_all_its_places_are_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "warm_up", {DOMAIN: timezone.now().date()})
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 20)
    look_again, held = warming.look_again, []

    def look(batch: Batch) -> Any:
        held.append(batch.deliveries.filter(status="sending").count())
        return look_again(batch)

    monkeypatch.setattr(warming, "look_again", look)
    with sinking(monkeypatch, answers={"message": lambda _: time.sleep(0.02)}):
        dispatch = make_dispatch(make_newsletter(), readers=warming.FIRST_CAP + 1)
        assert send(dispatch).claimed == warming.FIRST_CAP
    assert held == [0]


@st.composite
def chunks_and_notes(draw: st.DrawFn) -> tuple[list[list[tuple[Result, bool] | None]], list[int]]:
    """What became of each message of each chunk, and in which order the chunks were noted, each at once or by parts."""
    chunks = draw(st.lists(st.lists(BECAME, min_size=1, max_size=5), min_size=1, max_size=4))
    again = draw(st.lists(st.sampled_from(range(len(chunks))), max_size=4))
    return chunks, draw(st.permutations([*range(len(chunks)), *again]))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(chunks_and_notes())
def test_the_places_used_are_the_tries_that_happened_by_whatever_parts_and_in_whatever_order_they_are_noted(
    monkeypatch: pytest.MonkeyPatch, drawn: tuple[list[list[tuple[Result, bool] | None]], list[int]]
) -> None:
    chunks, order = drawn
    monkeypatch.setitem(ENV.__dict__, "warm_up", {DOMAIN: timezone.now().date()})
    SendingDay.objects.all().delete()
    number = Newsletter.objects.count()
    dispatch = make_dispatch(make_newsletter(slug=f"weekly-{number}"), readers=sum(map(len, chunks)))
    batch = dispatch.batches.get()
    lease = sending._take_lease(batch)
    assert lease
    noted = []
    for chunk in chunks:
        with transaction.atomic():
            day = warming.lock_today(dispatch)
            assert day
            attempt = Attempt.objects.create(batch=batch, worker="w", transport="smtp", idempotency_key=uuid.uuid4())
            rows = deliveries.claim(batch, attempt=attempt, limit=len(chunk))
            warming.take(day, len(rows))
        went = [(row.pk, became) for row, became in zip(rows, chunk, strict=True) if became]
        outcomes = [Outcome(pk, result, "", tried=tried) for pk, (result, tried) in went]
        noted.append((sending._Chunk(attempt, day, rows, {pk for pk, _ in went}), outcomes))
    for step, which in enumerate(order):
        made, answers = noted[which]
        last = which not in order[step + 1 :]
        known, before = len(made.outcomes), made.noted
        made.outcomes += answers[known:] if last else answers[known : known + 2]
        made.note(last=last)
        made.noted = before  # the answer to the commit was lost
        made.note(last=last)
    tried = [became[0] for chunk in chunks for became in chunk if became and became[1]]
    day = SendingDay.objects.get()
    assert (day.taken, day.accepted) == (len(tried), tried.count(Result.ACCEPTED))
    assert day.refused == tried.count(Result.REFUSED) + tried.count(Result.SENDER_REFUSED)
    waiting = dispatch.deliveries.filter(status="queued").aggregate(tries=Sum("tries"))["tries"] or 0
    assert waiting == tried.count(Result.LATER) + tried.count(Result.SENDER_REFUSED)
