"""A provider that fails or asks to wait: nothing that is known gets lost, and not the whole audience runs into it."""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from newsletter import clock, deliveries, scheduling, sending, stats
from newsletter.models import Attempt, Batch, Dispatch, Newsletter
from newsletter.settings import ENV
from newsletter.transports import KEPT, Outcome, Result
from newsletter.transports.provider import ProviderTransport
from newsletter.transports.smtp import SmtpTransport
from tests.making import make_dispatch, make_newsletter, make_reader
from tests.provider_double import MAILGUN_FINE, Double, make_compiled, make_sender, running
from tests.provider_double import make_reader as make_mail_reader
from tests.sending import let_go_of_the_transport, send, use_provider
from tests.smtp_sink import SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def double(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """Mailgun, which takes a whole chunk in one call; chunks are of ten."""
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 10)
    with running() as made:
        use_provider(monkeypatch, settings, made, "mailgun")
        yield made
        let_go_of_the_transport()


def statuses(dispatch: Dispatch) -> dict[str, int]:
    report = stats.count(dispatch)
    assert stats.sums_agree(report)
    return {
        status: report[status] for status in ("queued", "sending", "sent", "failed", "unconfirmed") if report[status]
    }


@pytest.mark.parametrize("asked", ["9" * 400, "99999999999999", "1767225600000", "Fri, 31 Dec 9999 23:59:59 -2359"])
def test_however_long_a_provider_asks_to_wait_nothing_is_in_doubt(double: Double, asked: str) -> None:
    double.answer = lambda call: (429, {"Retry-After": asked}, {"message": "slow down"})
    dispatch = make_dispatch(make_newsletter(), readers=4)
    send(dispatch)
    assert statuses(dispatch) == {"queued": 4}


@pytest.mark.parametrize(
    ("status", "headers", "queued", "retried_at_once"),
    [(429, {"Retry-After": "60"}, 6, 0), (401, {}, 6, 6)],
)
def test_what_one_variant_was_told_holds_for_the_others_of_its_chunk(
    double: Double, status: int, headers: dict[str, str], queued: int, retried_at_once: int
) -> None:
    double.answer = lambda call: (status, headers, {"message": "no"})
    dispatch = make_dispatch(_with_three_variants(), paid="Members only")
    send(dispatch)
    assert len(double.calls) == 1
    assert statuses(dispatch) == {"queued": queued}
    assert dispatch.deliveries.due().count() == retried_at_once


def _with_three_variants() -> Newsletter:
    """A newsletter with six readers: two see the free view, two the paid one, two text alone."""
    weekly = make_newsletter()
    for _ in range(2):
        make_reader(weekly)
        make_reader(weekly, tier="paid")
        subscriber = make_reader(weekly).subscriber
        subscriber.text_only = True
        subscriber.save(update_fields=["text_only"])
    return weekly


AWAY = 0  # in place of a status: nobody listens


@pytest.mark.parametrize(
    ("status", "headers", "in_doubt", "rest"),
    [
        (502, {}, 10, 1),
        (500, {"Retry-After": "600"}, 10, 600),
        (504, {"Retry-After": "0"}, 10, 1),
        (None, {}, 10, 1),
        (429, {}, 0, 1),
        (503, {"Retry-After": "60"}, 0, 60),
        (AWAY, {}, 0, 1),
    ],
)
def test_not_the_whole_audience_runs_into_a_provider_that_fails(
    double: Double, settings: Any, status: int | None, headers: dict[str, str], in_doubt: int, rest: float
) -> None:
    double.answer = lambda call: None if status is None else (status, headers, {"message": "oh"})
    if status == AWAY:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        settings.ANYMAIL = {**settings.ANYMAIL, "MAILGUN_API_URL": url}
    dispatch = make_dispatch(make_newsletter(), readers=60)
    began = clock.now()
    for _ in range(2):
        send(dispatch)
        assert Attempt.objects.count() == 1
        assert len(double.calls) == (status != AWAY)
    assert stats.count(dispatch)["unconfirmed"] == in_doubt
    assert statuses(dispatch)["queued"] == 60 - in_doubt
    [due_at] = Batch.objects.values_list("due_at", flat=True)
    assert due_at is not None
    assert (due_at - timezone.now()).total_seconds() < 1.25 * rest
    assert 0 < sending._transport().rests() <= 1.25 * rest
    assert clock.now() + sending._transport().rests() - began >= 0.75 * rest, "however long the test took until here"


@pytest.mark.parametrize("way", ["smtp", "provider"])
def test_a_rest_is_twice_as_long_each_time_until_the_other_side_serves(
    monkeypatch: pytest.MonkeyPatch, double: Double, way: str
) -> None:
    with SmtpSink() as sink:
        transport = ProviderTransport("mailgun") if way == "provider" else SmtpTransport(sink.url, timeout=5)
        passed, real = [0.0], clock.now
        monkeypatch.setattr(clock, "now", lambda: real() + sum(passed))
        for serves, rest in [(False, 1), (False, 2), (False, 4), (True, 0), (False, 1)]:
            double.answer = lambda call, serves=serves: (200 if serves else 502, {}, MAILGUN_FINE)  # type: ignore[misc]
            sink.answers["connect"] = lambda session, serves=serves: None if serves else "421 away"  # type: ignore[misc]
            transport.close()
            outcomes: list[Outcome] = []
            transport.hand_over(
                [(make_compiled(), [make_mail_reader()])], make_sender(), outcomes, deadline=clock.now() + 30
            )
            assert (outcomes[0].result == Result.ACCEPTED) == serves
            assert 0.5 * rest <= transport.rests() <= 1.25 * rest
            passed.append(1.25 * rest)
        transport.close()


def test_a_provider_that_rests_is_not_asked_about_doubts_either(
    double: Double, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    use_provider(monkeypatch, settings, double, "brevo")
    double.answer = lambda call: (502, {"Retry-After": "600"}, {"message": "oh"})
    send(make_dispatch(make_newsletter(), readers=2))
    [attempt] = Attempt.objects.all()
    assert attempt.repeat_at is not None
    assert attempt.repeat_at > timezone.now() + dt.timedelta(seconds=500)
    Attempt.objects.update(repeat_at=timezone.now())
    sending.send_batch(attempt.batch)
    assert len(double.calls) == 1
    attempt.refresh_from_db()
    assert attempt.repeat_at > timezone.now() + dt.timedelta(seconds=500)


def send_another_chunk(dispatch: Dispatch) -> None:
    """Send the next ten, as when the rest is over."""
    Batch.objects.update(due_at=None)
    let_go_of_the_transport()
    send(dispatch)


def status_of(dispatch: Dispatch) -> str:
    scheduling.check()
    dispatch.refresh_from_db()
    return dispatch.status


def test_too_many_in_doubt_pause_with_an_alert_until_somebody_takes_note(
    double: Double, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.ADMINS = [("", "desk@weekly.example")]
    monkeypatch.setattr(scheduling.ticking, "DOUBTS_TO_PAUSE", 15)
    double.answer = lambda call: (502, {}, {"message": "bad gateway"})
    dispatch = make_dispatch(make_newsletter(), readers=60)
    send_another_chunk(dispatch)
    assert status_of(dispatch) == Dispatch.Status.SENDING
    send_another_chunk(dispatch)
    assert status_of(dispatch) == Dispatch.Status.PAUSED
    assert dispatch.pause_reason.startswith("20 of 20 mails tried are in doubt, more than 5%")
    [alert] = mail.outbox
    assert dispatch.pause_reason in alert.body
    scheduling.resume(dispatch)
    assert status_of(dispatch) == Dispatch.Status.SENDING
    send_another_chunk(dispatch)
    assert status_of(dispatch) == Dispatch.Status.SENDING
    send_another_chunk(dispatch)
    assert status_of(dispatch) == Dispatch.Status.PAUSED
    assert dispatch.pause_reason.startswith("20 of 20")


def test_one_lost_answer_however_many_it_is_about_does_not_pause(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling.ticking, "DOUBTS_TO_PAUSE", 5)
    double.answer = lambda call: (502, {}, {"message": "bad gateway"})
    dispatch = make_dispatch(make_newsletter(), readers=60)
    send_another_chunk(dispatch)
    assert statuses(dispatch)["unconfirmed"] == 10
    assert status_of(dispatch) == Dispatch.Status.SENDING


def test_doubts_that_are_few_among_those_taken_do_not_pause(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling.ticking, "DOUBTS_TO_PAUSE", 15)
    monkeypatch.setattr(scheduling.ticking, "FAILING_SHARE", 0.5)
    double.answer = lambda call: (200 if len(double.calls) <= 2 else 502, {}, MAILGUN_FINE)
    dispatch = make_dispatch(make_newsletter(), readers=60)
    for _ in range(2):
        send_another_chunk(dispatch)
    assert statuses(dispatch) == {"sent": 20, "unconfirmed": 20, "queued": 20}
    assert status_of(dispatch) == Dispatch.Status.SENDING
    send_another_chunk(dispatch)
    assert status_of(dispatch) == Dispatch.Status.PAUSED
    assert dispatch.pause_reason.startswith("30 of 50 mails")


def test_doubts_count_only_once_no_kept_key_can_settle_them(
    double: Double, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(scheduling.ticking, "DOUBTS_TO_PAUSE", 15)
    use_provider(monkeypatch, settings, double, "brevo")
    double.answer = lambda call: (502, {}, {"message": "bad gateway"})
    dispatch = make_dispatch(make_newsletter(), readers=60)
    send_another_chunk(dispatch)
    send_another_chunk(dispatch)
    assert statuses(dispatch)["unconfirmed"] == 20
    assert status_of(dispatch) == Dispatch.Status.SENDING
    Attempt.objects.update(started_at=timezone.now() - KEPT["brevo"], repeat_at=timezone.now())
    sending.send_batch(Batch.objects.get())
    assert status_of(dispatch) == Dispatch.Status.PAUSED


def test_what_workers_that_died_left_in_doubt_says_nothing_of_the_provider(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling.ticking, "DOUBTS_TO_PAUSE", 15)
    dispatch = make_dispatch(make_newsletter(), readers=60)
    batch = Batch.objects.get()
    attempt = Attempt.objects.create(batch=batch, worker="killed", transport="mailgun", idempotency_key="1" * 32)
    dispatch.deliveries.update(status="sending", tries=1, attempt=attempt)
    deliveries.doubt(batch)
    assert statuses(dispatch) == {"unconfirmed": 60}
    assert status_of(dispatch) == Dispatch.Status.SENDING
