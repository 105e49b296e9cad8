"""Claim, hand over, note: against a real SMTP server that misbehaves as told, inside this process."""

from __future__ import annotations

import itertools
import logging
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import F
from django.utils import timezone
from pytest_django import Settings

from newsletter import deliveries, invariants, pinned, rates, scheduling, sending, stats, tasks, tracking
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Event, Newsletter
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result
from subscribers import consent, tiers
from subscribers.models import Membership, Subscriber, Subscription, Suppression, Tier
from tests.making import make_dispatch, make_newsletter, make_reader
from tests.provider_double import Call, postmark_takes, running
from tests.sending import let_go_of_the_transport, send, sinking, use, use_provider
from tests.smtp_sink import Session, SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

Status = Delivery.Status


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpSink]:
    with sinking(monkeypatch) as running:
        yield running


def at_the_first_message(do: Callable[[], object]) -> Callable[[Session], None]:
    """An answer of the sink that calls `do`, in the sink's thread, while the first message is handed over."""
    calls = iter([do])

    def answer(_: Session) -> None:
        for call in calls:
            call()
            connection.close()

    return answer


def statuses(dispatch: Dispatch) -> dict[str, int]:
    report = stats.count(dispatch)
    assert stats.sums_agree(report)
    return {
        status.value: report[status.value] for status in Status if status != Status.SKIPPED and report[status.value]
    }


def test_every_reader_gets_one_mail(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=5)
    assert send(dispatch).claimed == 5
    assert statuses(dispatch) == {"sent": 5}
    addresses = Subscriber.objects.values_list("address", flat=True)
    assert [sink.count(address) for address in addresses] == [1] * 5
    scheduling.finish()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENT


def erase_unseen(subscriber: Subscriber) -> None:
    """Erase as somebody does who did not see the deliveries: their snapshot was not committed yet."""
    Subscription.objects.filter(subscriber=subscriber).delete()
    Subscriber.objects.filter(pk=subscriber.pk)._raw_delete("default")


def test_who_was_erased_while_the_snapshot_ran_gets_nothing_and_stops_nothing(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    gone = Subscriber.objects.first()
    assert gone
    erase_unseen(gone)
    single = scheduling.send_single(
        make_reader(dispatch.newsletter).subscriber, dispatch.newsletter, subject="S", body="B"
    )
    asked = single.deliveries.get().subscriber
    assert asked
    erase_unseen(asked)
    send(dispatch)
    send(single)
    assert sink.count() == 1
    assert statuses(dispatch) == {"sent": 1}
    scheduling.finish()
    assert set(Dispatch.objects.values_list("status", flat=True)) == {Dispatch.Status.SENT}
    tasks.tidy()
    assert Delivery.objects.filter(subscriber=None).count() == 2


def test_a_chunk_is_written_down_before_it_leaves(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 2)
    dispatch = make_dispatch(make_newsletter(), readers=5)
    send(dispatch)
    attempts = Attempt.objects.order_by("pk")
    assert [attempt.accepted for attempt in attempts] == [2, 2, 1]
    assert all(attempt.finished_at and attempt.transport == "smtp" for attempt in attempts)
    assert Delivery.objects.exclude(attempt=None).count() == 5


def test_the_next_chunk_is_claimed_while_a_relay_far_away_has_the_last_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is known when, no more than a chunk would be in doubt if the worker died."""
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 10)
    seen: list[tuple[int, int]] = []

    def answer_late(_: Session) -> None:
        time.sleep(0.02)
        held = Delivery.objects.filter(status=Status.SENDING).count()
        seen.append((held, Attempt.objects.filter(finished_at=None).count()))
        connection.close()

    with sinking(monkeypatch, answers={"message": answer_late}):
        dispatch = make_dispatch(make_newsletter(), readers=40)
        assert send(dispatch).claimed == 40
    assert statuses(dispatch) == {"sent": 40}
    assert max(held for held, _ in seen) == 10
    assert max(attempts for _, attempts in seen) > 1
    attempts = Attempt.objects.all()
    assert sum(attempt.accepted for attempt in attempts) == 40
    assert all(attempt.finished_at for attempt in attempts)
    assert invariants.breaches(dispatch) == []


def test_an_answer_that_comes_while_others_are_written_down_is_written_down_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    batch = Batch.objects.get()
    assert sending._take_lease(batch)
    attempt = Attempt.objects.create(batch=batch, worker="w", transport="smtp", idempotency_key="1" * 32)
    rows = deliveries.claim(batch, attempt=attempt, limit=2)
    first, second = (Outcome(row.pk, Result.ACCEPTED, "250") for row in rows)
    chunk = sending._Chunk(attempt, None, rows, {row.pk for row in rows}, [first])
    note = deliveries.note

    def note_meanwhile(*args: Any, **kwargs: Any) -> None:
        note(*args, **kwargs)
        chunk.outcomes[1:] = [second]

    with monkeypatch.context() as busy:
        busy.setattr(deliveries, "note", note_meanwhile)
        assert chunk.note() == [first]
    assert chunk.open == 1, "it is still SENDING"
    assert statuses(dispatch) == {"sent": 1, "sending": 1}
    assert Attempt.objects.get().finished_at is None
    assert chunk.note() == [second]
    assert chunk.open == 0
    assert statuses(dispatch) == {"sent": 2}
    assert Attempt.objects.get().finished_at


@pytest.mark.parametrize("which", [0, 1])
def test_one_chunk_that_cannot_be_written_down_keeps_no_other_from_it(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    batch = Batch.objects.get()
    lease = sending._take_lease(batch)
    assert lease
    turn, note = sending._Turn(lease), deliveries.note
    for key in ("1" * 32, "2" * 32):
        attempt = Attempt.objects.create(batch=batch, worker="w", transport="smtp", idempotency_key=key)
        [row] = deliveries.claim(batch, attempt=attempt, limit=1)
        outcomes = [Outcome(row.pk, Result.ACCEPTED, "250")]
        turn._open.append(sending._Chunk(attempt, None, [row], {row.pk}, outcomes))

    def note_but_one(attempt: Attempt, *args: Any, **kwargs: Any) -> None:
        if attempt == failing.attempt:
            raise KeyError("a fault")
        note(attempt, *args, **kwargs)

    failing = turn._open[which]
    monkeypatch.setattr(deliveries, "note", note_but_one)
    with pytest.raises(KeyError):
        turn.end()
    assert statuses(dispatch) == {"sent": 1, "sending": 1}


def test_what_is_under_way_when_no_more_can_be_claimed_is_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 10)
    claim = deliveries.claim

    def claim_once(*args: Any, **kwargs: Any) -> list[deliveries.Claimed]:
        monkeypatch.setattr(deliveries, "claim", fault)
        return claim(*args, **kwargs)

    def fault(*_: Any, **__: Any) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(deliveries, "claim", claim_once)
    with sinking(monkeypatch, answers={"message": lambda _: time.sleep(0.02)}):
        dispatch = make_dispatch(make_newsletter(), readers=20)
        with pytest.raises(KeyError):
            send(dispatch)
    assert statuses(dispatch) == {"sent": 10, "queued": 10}
    assert [(attempt.accepted, bool(attempt.finished_at)) for attempt in Attempt.objects.all()] == [(10, True)]


def test_what_cannot_wait_goes_once_the_answers_that_are_out_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 10)
    held: list[tuple[int, int]] = []

    def go_first(await_answers: Callable[[], None]) -> None:
        before = Delivery.objects.filter(status=Status.SENDING).count()
        await_answers()
        held.append((before, Delivery.objects.filter(status=Status.SENDING).count()))

    with sinking(monkeypatch, answers={"message": lambda _: time.sleep(0.02)}):
        dispatch = make_dispatch(make_newsletter(), readers=30)
        sending.send_batch(Batch.objects.get(), between=go_first)
    assert statuses(dispatch) == {"sent": 30}
    assert max(before for before, _ in held) > 0
    assert {after for _, after in held} == {0}


def test_a_batch_whose_transport_cannot_be_opened_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    use(monkeypatch, "no relay's address")
    scheduling.to_ring()
    with pytest.raises(ValueError, match="SMTP_URL must be"):
        send(dispatch)
    batch = Batch.objects.get()
    assert (batch.lease_token, batch.rung_at is None) == (None, False), "but not tried again at once"


def test_a_task_delivered_twice_sends_once(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    send(dispatch)
    assert send(dispatch).claimed == 0
    assert sink.count() == 3


def test_only_one_of_two_workers_gets_a_batch(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=20)
    batch = Batch.objects.get(dispatch=dispatch)
    barrier, claimed = threading.Barrier(4), []

    def worker() -> None:
        barrier.wait()
        claimed.append(sending.send_batch(Batch.objects.get(pk=batch.pk)).claimed)
        let_go_of_the_transport()
        connection.close()

    workers = [threading.Thread(target=worker) for _ in range(4)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert sum(claimed) == 20
    assert sink.count() == 20
    assert statuses(dispatch) == {"sent": 20}


def test_a_worker_without_the_lease_claims_nothing(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    batch = Batch.objects.get(dispatch=dispatch)
    lease = sending._take_lease(batch)
    assert lease
    attempt = Attempt.objects.create(batch=batch, worker="w", transport="smtp", idempotency_key="1" * 32)
    Batch.objects.filter(pk=batch.pk).update(leased_until=timezone.now() - timedelta(seconds=1))
    assert not deliveries.claim(batch, attempt=attempt, limit=10)
    lease.ends -= 60
    assert not lease.keep()


def test_skips_a_reader_who_left_after_the_snapshot(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    stays, leaves, pauses, complains, goes = (make_reader(weekly) for _ in range(5))
    dispatch = make_dispatch(weekly)
    consent.unsubscribe(leaves, source="test")
    consent.pause(pauses, source="test")
    fingerprint = complains.subscriber.fingerprint
    consent.suppress(fingerprint, reason=Suppression.Reason.COMPLAINT, source="test")
    consent.erase(goes.subscriber, source="test")
    send(dispatch)
    report = stats.count(dispatch)
    assert report["skipped"] == {"erased": 1, "paused": 1, "suppressed": 1, "unsubscribed": 1}
    assert report["sent"] == 1
    assert stats.sums_agree(report)
    assert [mail.rcpt for mail in sink.messages()] == [stays.subscriber.address]


def test_skipped_readers_do_not_hold_up_the_rest(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 2)
    weekly = make_newsletter()
    dispatch = make_dispatch(weekly, readers=7)
    Subscription.objects.filter(pk__in=Subscription.objects.order_by("pk")[:5].values("pk")).update(status="paused")
    send(dispatch)
    assert sink.count() == 2


def test_an_upgrade_after_the_snapshot_unlocks_and_a_lapse_locks(sink: SmtpSink) -> None:
    tiers.ensure_default()
    weekly = make_newsletter()
    upgrades, lapses = make_reader(weekly).subscriber, make_reader(weekly, tier="paid").subscriber
    dispatch = make_dispatch(weekly, paid="The treasure lies under the oak")
    Membership.objects.create(subscriber=upgrades, tier=Tier.objects.get(slug="founding"))
    Membership.objects.filter(subscriber=lapses).update(ends_at=F("starts_at"))
    send(dispatch)
    assert b"treasure" in sink.messages(upgrades.address)[0].raw
    assert b"treasure" not in sink.messages(lapses.address)[0].raw


def test_a_refused_reader_fails_alone(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    make_reader(weekly, "refuse550-ann@readers.example")
    make_reader(weekly, "bob@readers.example")
    dispatch = make_dispatch(weekly)
    send(dispatch)
    assert statuses(dispatch) == {"sent": 1, "failed": 1}
    reply = Delivery.objects.get(status="failed").reply
    assert reply.startswith("550")
    assert "ann@" not in reply


def test_what_the_relay_puts_off_waits_and_is_tried_again(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    make_reader(weekly, "once-later451-ann@readers.example")
    dispatch = make_dispatch(weekly)
    send(dispatch)
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.tries) == ("queued", 1)
    assert delivery.due_at is not None
    assert delivery.due_at > timezone.now()
    assert send(dispatch).claimed == 0
    assert scheduling.to_ring() == []
    Delivery.objects.update(due_at=timezone.now())
    assert len(scheduling.to_ring()) == 1
    send(dispatch)
    assert statuses(dispatch) == {"sent": 1}
    assert sink.count() == 1


def test_the_wait_doubles_and_has_an_end() -> None:
    for tries, expected in ((1, 60), (2, 120), (3, 240), (50, 3600)):
        waits = [deliveries.back_off(tries, 60) for _ in range(50)]
        assert expected / 2 <= min(waits) <= max(waits) <= expected * 1.5


def test_mail_that_was_put_off_for_days_fails_when_it_is_put_off_again(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    make_reader(weekly, "later451-ann@readers.example")
    dispatch = make_dispatch(weekly)
    send(dispatch)
    long_ago = timezone.now() - deliveries.STALE - timedelta(hours=1)
    Delivery.objects.update(due_at=None, put_off_at=long_ago)
    Dispatch.objects.update(started_at=long_ago)
    scheduling.finish()
    assert statuses(dispatch) == {"queued": 1}
    send(dispatch)
    assert statuses(dispatch) == {"failed": 1}


def test_what_is_resent_or_resumed_after_days_is_tried_anew(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    make_reader(weekly, "once-later451-ann@readers.example")
    make_reader(weekly, "once-lose-after-dot-bob@readers.example")
    dispatch = make_dispatch(weekly)
    send(dispatch)
    assert statuses(dispatch) == {"queued": 1, "unconfirmed": 1}
    scheduling.pause(dispatch, "Over the holidays.")
    long_ago = timezone.now() - deliveries.STALE - timedelta(hours=1)
    Delivery.objects.update(put_off_at=long_ago)
    Dispatch.objects.update(started_at=long_ago)
    scheduling.resend_unconfirmed(dispatch)
    scheduling.resume(dispatch)
    scheduling.finish()
    send(dispatch)
    assert statuses(dispatch) == {"sent": 2}


def test_a_relay_that_refuses_connections_leaves_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "smtp://127.0.0.1:1")
    dispatch = make_dispatch(make_newsletter(), readers=3)
    send(dispatch)
    assert statuses(dispatch) == {"queued": 3}
    assert Delivery.objects.filter(due_at__gt=timezone.now(), tries=0).count() == 3
    let_go_of_the_transport()


@pytest.mark.parametrize(
    ("local", "expected"),
    [("drop-at-rcpt-", "queued"), ("drop-after-dot-", "unconfirmed"), ("lose-after-dot-", "unconfirmed")],
)
def test_a_hang_up_leaves_a_doubt_only_after_the_last_byte(sink: SmtpSink, local: str, expected: str) -> None:
    weekly = make_newsletter()
    make_reader(weekly, f"{local}ann@readers.example")
    dispatch = make_dispatch(weekly)
    send(dispatch)
    assert statuses(dispatch) == {expected: 1}


def test_doubts_are_listed_and_settled_by_the_author(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    make_reader(weekly, "once-lose-after-dot-ann@readers.example")
    dispatch = make_dispatch(weekly)
    send(dispatch)
    scheduling.finish()
    assert [row["id"] for row in stats.doubts(dispatch)] == [Delivery.objects.get().pk]
    scheduling.resend_unconfirmed(dispatch)
    send(dispatch)
    assert statuses(dispatch) == {"sent": 1}
    assert sink.count() == 1


def test_a_relay_that_refuses_the_sender_pauses_the_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    with SmtpSink(answers={"MAIL": "550 5.7.1 sender not allowed"}) as sink:
        use(monkeypatch, sink.url)
        dispatch = make_dispatch(make_newsletter(), readers=3)
        tasks.send_batch(Batch.objects.get().pk)
        dispatch.refresh_from_db()
        assert dispatch.status == Dispatch.Status.PAUSED
        assert "sender not allowed" in dispatch.pause_reason
        assert statuses(dispatch) == {"queued": 3}
        sink.answers.clear()
        scheduling.resume(dispatch)
        send(dispatch)
        assert statuses(dispatch) == {"sent": 3}
        let_go_of_the_transport()


def test_no_chunk_is_claimed_after_a_pause(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 1)
    dispatch = make_dispatch(make_newsletter(), readers=5)
    sink.answers["message"] = at_the_first_message(lambda: scheduling.pause(dispatch, "Enough."))
    send(dispatch)
    assert statuses(dispatch) == {"sent": 1, "queued": 4}
    scheduling.resume(dispatch)
    sink.answers.clear()
    send(dispatch)
    assert sink.count() == 5


def test_a_cancelled_dispatch_finishes_its_chunk_and_skips_the_rest(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 1)
    dispatch = make_dispatch(make_newsletter(), readers=3)
    sink.answers["message"] = at_the_first_message(lambda: scheduling.cancel(dispatch))
    send(dispatch)
    scheduling.finish()
    report = stats.count(dispatch)
    assert (report["sent"], report["skipped"]) == (1, {"cancelled": 2})
    dispatch.refresh_from_db()
    assert dispatch.finished_at


def test_a_worker_frozen_past_its_lease_sends_nothing_more(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a frozen worker sees when it wakes: the monotonic clock has moved past its deadline."""
    monkeypatch.setitem(ENV.__dict__, "lease_seconds", 60.5)
    monkeypatch.setitem(ENV.__dict__, "smtp_timeout", 30.0)
    monkeypatch.setitem(ENV.__dict__, "rate_per_second", 1000)
    dispatch = make_dispatch(make_newsletter(), readers=3)
    real = rates.waits

    def frozen_once_claimed(transport: str, domains: list[str]) -> list[float]:
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            time.sleep(0.05)
        return real(transport, domains)

    monkeypatch.setattr(rates, "waits", frozen_once_claimed)
    send(dispatch)
    assert sink.count() == 0
    assert statuses(dispatch) == {"queued": 3}


def test_rows_of_a_dead_worker_are_in_doubt_and_the_rest_goes_on(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=4)
    batch = Batch.objects.get()
    assert sending._take_lease(batch)
    attempt = Attempt.objects.create(batch=batch, worker="dead", transport="smtp", idempotency_key="1" * 32)
    assert len(deliveries.claim(batch, attempt=attempt, limit=2)) == 2
    scheduling.take_back_expired()
    assert statuses(dispatch) == {"sending": 2, "queued": 2}
    Batch.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    scheduling.take_back_expired()
    assert statuses(dispatch) == {"unconfirmed": 2, "queued": 2}
    send(dispatch)
    assert statuses(dispatch) == {"unconfirmed": 2, "sent": 2}
    scheduling.finish()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENT


def test_a_late_answer_settles_the_doubt_of_its_own_attempt_only(sink: SmtpSink) -> None:
    make_dispatch(make_newsletter(), readers=2)
    batch = Batch.objects.get()
    assert sending._take_lease(batch)
    late = Attempt.objects.create(batch=batch, worker="late", transport="smtp", idempotency_key="1" * 32)
    deliveries.claim(batch, attempt=late, limit=2)
    deliveries.doubt(batch)
    own, other = Delivery.objects.order_by("pk")
    newer = Attempt.objects.create(batch=batch, worker="new", transport="smtp", idempotency_key="2" * 32)
    Delivery.objects.filter(pk=other.pk).update(attempt=newer, status=Status.SENDING)
    accepted = [Outcome(delivery_id=row.pk, result=Result.ACCEPTED, reply="250 ok") for row in (own, other)]
    deliveries.note(late, accepted, tries={own.pk: 1, other.pk: 1}, retry_seconds=1)
    own.refresh_from_db()
    other.refresh_from_db()
    assert (own.status, other.status) == ("sent", "sending")


def test_an_outcome_that_the_database_refuses_is_kept_until_it_takes_it(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    real, refusals = deliveries.note, iter([True, True, False])

    def full_disk(*args: object, **options: object) -> None:
        if next(refusals):
            raise OperationalError("database or disk is full")
        real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(deliveries, "note", full_disk)
    send(dispatch)
    assert statuses(dispatch) == {"sent": 2}
    assert sink.count() == 2


def test_readers_without_tracking_get_plain_links_and_no_pixel(sink: SmtpSink) -> None:
    weekly = make_newsletter(tracking=Newsletter.Tracking.OFF)
    reader = make_reader(weekly).subscriber
    send(make_dispatch(weekly))
    html = sink.messages(reader.address)[0].parsed().get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "https://example.com/a?b=c#d" in html
    assert "/o/" not in html
    assert not Event.objects.exists()


def test_headers_let_a_mail_program_unsubscribe(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    reader = make_reader(weekly).subscriber
    send(make_dispatch(weekly))
    mail = sink.messages(reader.address)[0].parsed()
    assert mail["To"].addresses[0].addr_spec == reader.address
    assert mail["List-Unsubscribe"].startswith("<http://127.0.0.1:8000/u/")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Precedence"] == "bulk"
    assert "weekly.127.0.0.1" in mail["List-Id"]
    assert mail["Feedback-ID"].count(":") == 3
    assert mail["Message-ID"]
    assert mail["Date"]


def test_each_mail_names_its_delivery_and_reader_in_the_addresses_it_leads_back_to(
    sink: SmtpSink, settings: Settings
) -> None:
    settings.BOUNCE_ADDRESS = "bounces@news.example.org"
    weekly = make_newsletter()
    dispatch = make_dispatch(weekly, readers=2)
    send(dispatch)
    for delivery in Delivery.objects.select_related("subscriber"):
        assert delivery.subscriber
        (received,) = sink.messages(delivery.subscriber.address)
        assert tracking.read_address(received.sender) == delivery.pk
        leave = re.search(r"<mailto:(bounces\+\w+@news\.example\.org)\?", received.parsed()["List-Unsubscribe"])
        assert leave
        said = tracking.ReaderToken(delivery.subscriber.public_id, weekly.public_id, delivery.pk)
        assert tracking.read_address(leave[1]) == said


def test_a_single_message_reaches_who_asked_even_before_they_confirmed(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    pending = make_reader(weekly, status=Subscription.Status.PENDING).subscriber
    dispatch = scheduling.send_single(pending, weekly, subject="Please confirm", body="[Yes](https://example.com/y)")
    assert send(dispatch).claimed == 1
    mail = sink.messages(pending.address)[0].parsed()
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["List-Unsubscribe"] is None
    assert mail["Precedence"] is None
    html = mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert 'href="https://example.com/y"' in html
    assert "/o/" not in html
    assert "/u/" not in html
    scheduling.finish()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENT


def test_a_single_message_to_a_person_who_was_erased_is_skipped(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    reader = make_reader(weekly).subscriber
    dispatch = scheduling.send_single(reader, weekly, subject="Please confirm", body="Hello.")
    consent.erase(reader, source="test")
    send(dispatch)
    assert stats.count(dispatch)["skipped"] == {"erased": 1}
    assert sink.count() == 0


def test_a_sender_that_is_refused_pauses_the_issue_and_the_operator_hears_of_it(
    sink: SmtpSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.answers["MAIL"] = "550 5.7.1 go away"
    dispatch = make_dispatch(make_newsletter(), readers=2)
    tasks.send_batch(Batch.objects.get().pk)
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.PAUSED
    (told,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert "is paused: The mail server refuses this sender: 550 5.7.1 go away" in told


def test_a_sender_that_no_header_can_hold_pauses_and_leaves_no_doubt(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    dispatch.revision.data["from_address"] = "schreibtisch@straße.example"  # preflight would have refused it
    dispatch.revision.save(update_fields=["data"])
    tasks.send_batch(Batch.objects.get().pk)
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.PAUSED
    assert "cannot be made" in dispatch.pause_reason
    assert statuses(dispatch) == {"queued": 2}


def test_a_fault_of_our_own_before_the_hand_over_leaves_no_doubt_and_is_not_tried_at_once(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    [batch] = scheduling.to_ring()

    def fault(*_: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(pinned, "reader_of", fault)
    with pytest.raises(KeyError):
        sending.send_batch(Batch.objects.get(pk=batch))
    assert statuses(dispatch) == {"queued": 2}
    assert scheduling.to_ring() == []


def test_a_late_not_now_opens_a_sent_dispatch_again(sink: SmtpSink) -> None:
    """The worker of the last chunk was frozen past its lease, and wakes with nothing sent."""
    dispatch = make_dispatch(make_newsletter(), readers=2)
    batch = Batch.objects.get()
    assert sending._take_lease(batch)
    attempt = Attempt.objects.create(batch=batch, worker="frozen", transport="smtp", idempotency_key="1" * 32)
    deliveries.claim(batch, attempt=attempt, limit=2)
    Batch.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    scheduling.take_back_expired()
    scheduling.finish()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENT
    rows = list(Delivery.objects.all())
    late = [Outcome(delivery_id=row.pk, result=Result.LATER, reply="The lease ran out.") for row in rows]
    deliveries.note(attempt, late, tries={row.pk: 1 for row in rows}, retry_seconds=0.001)
    scheduling.finish()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENDING
    Delivery.objects.update(due_at=None)
    send(dispatch)
    assert sink.count() == 2
    assert statuses(dispatch) == {"sent": 2}


def test_a_late_not_now_of_a_cancelled_dispatch_is_skipped(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    batch = Batch.objects.get()
    attempt = Attempt.objects.create(batch=batch, worker="frozen", transport="smtp", idempotency_key="1" * 32)
    Delivery.objects.update(status="unconfirmed", tries=1, attempt=attempt)
    scheduling.cancel(dispatch)
    scheduling.finish()
    row = Delivery.objects.get()
    late = [Outcome(delivery_id=row.pk, result=Result.LATER, reply="The lease ran out.")]
    deliveries.note(attempt, late, tries={row.pk: 1}, retry_seconds=1)
    scheduling.finish()
    assert stats.count(dispatch)["skipped"] == {"cancelled": 1}


@pytest.mark.parametrize("asked", [math.nan, math.inf, -math.inf, 1e300, -5.0])
def test_whatever_wait_is_asked_for_what_is_known_of_the_chunk_is_kept(sink: SmtpSink, asked: float) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    batch = Batch.objects.get()
    attempt = Attempt.objects.create(batch=batch, worker="w", transport="smtp", idempotency_key="1" * 32)
    Delivery.objects.update(status="sending", tries=1, attempt=attempt)
    first, *rest = dispatch.deliveries.order_by("pk")
    outcomes = [Outcome(row.pk, Result.LATER, "450 later", retry_after=asked) for row in rest]
    outcomes.append(Outcome(first.pk, Result.ACCEPTED, "250 ok"))
    deliveries.note(attempt, outcomes, tries={row.pk: 1 for row in (first, *rest)}, retry_seconds=1)
    assert statuses(dispatch) == {"sent": 1, "queued": 2}
    due = Delivery.objects.filter(status="queued", due_at__lte=timezone.now() + timedelta(days=1))
    assert due.count() == 2


def test_a_late_accept_settles_what_the_author_queued_again(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    batch = Batch.objects.get()
    attempt = Attempt.objects.create(batch=batch, worker="late", transport="smtp", idempotency_key="1" * 32)
    Delivery.objects.update(status="unconfirmed", tries=1, attempt=attempt)
    scheduling.resend_unconfirmed(dispatch)
    row = Delivery.objects.get()
    accepted = [Outcome(delivery_id=row.pk, result=Result.ACCEPTED, reply="250 ok", provider_id="\0\ud800" + "x" * 500)]
    deliveries.note(attempt, accepted, tries={row.pk: 1}, retry_seconds=1)
    assert send(dispatch).claimed == 0
    assert sink.count() == 0
    assert statuses(dispatch) == {"sent": 1}


@pytest.mark.parametrize("way", ["smtp", "provider"])
def test_answers_that_came_are_kept_when_the_hand_over_is_cut_short(
    monkeypatch: pytest.MonkeyPatch, settings: Any, way: str
) -> None:
    """Some answers of a chunk have come when the worker must go; a late one of the rest cannot be told."""
    monkeypatch.setitem(ENV.__dict__, "smtp_connections", 1)
    dispatch = make_dispatch(make_newsletter(), readers=4)
    worker, arrived, gone = threading.get_ident(), itertools.count(1), threading.Event()

    def end_the_worker_at_the_third(_: object) -> None:
        if next(arrived) == 3:
            signal.pthread_kill(worker, signal.SIGUSR1)
            gone.wait(30)

    def leave(*_: object) -> None:
        raise SystemExit

    def answer(call: Call) -> tuple[int, dict[str, str], Any]:
        end_the_worker_at_the_third(call)
        return postmark_takes(call)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        # Without extensions one message leaves after the answer to the other.
        with sinking(monkeypatch, extensions=()) as sink, running() as double:
            sink.answers["message"] = end_the_worker_at_the_third
            double.answer = answer
            if way == "provider":
                use_provider(monkeypatch, settings, double, "postmark")
            with pytest.raises(SystemExit):
                send(dispatch)
            gone.set()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert statuses(dispatch) == {"sent": 2, "unconfirmed": 2}


def test_an_edit_in_the_middle_of_a_send_changes_no_mail(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 1)
    dispatch = make_dispatch(make_newsletter(), readers=2)

    def rename() -> None:
        Newsletter.objects.update(name="Other", from_name="Other", from_address="o@other.example", slug="other")

    sink.answers["message"] = at_the_first_message(rename)
    send(dispatch)
    mails = [mail.parsed() for mail in sink.messages()]
    assert len({mail["From"] for mail in mails}) == len({mail["List-Id"] for mail in mails}) == 1
    assert "desk@weekly.example" in mails[1]["From"]


def test_a_compiled_variant_is_known_by_its_content_not_by_its_row(sink: SmtpSink) -> None:
    """After a restored backup a row's id may come again with another text."""
    weekly = make_newsletter()
    reader = make_reader(weekly).subscriber
    dispatch = make_dispatch(weekly)
    send(dispatch)
    variant = dispatch.variants.get()
    variant.digest = "0" * 64
    variant.data = {**variant.data, "subject": "Restored"}
    variant.save()
    Delivery.objects.update(status="queued", tries=0, attempt=None)
    send(dispatch)
    assert sink.messages(reader.address)[-1].parsed()["Subject"] == "Restored"


@pytest.mark.parametrize(("mode", "parts"), [("individual", 2), ("anonymous", 1)])
def test_the_link_that_readers_pay_by_is_counted(sink: SmtpSink, mode: str, parts: int) -> None:
    weekly = make_newsletter(tracking=mode, upgrade_url="https://pay.example/?plan=paid")
    reader = make_reader(weekly).subscriber
    send(make_dispatch(weekly, paid="Members only"))
    html = sink.messages(reader.address)[0].parsed().get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "https://pay.example" not in html
    paths = re.findall(r'href="http://127\.0\.0\.1:8000/c/([^"]+)"', html)
    [path] = [path for path in paths if "pay.example" in _target(path)]
    assert len(path.split("/")) == parts


def _target(path: str) -> str:
    return tracking.read_click(path.split("/")[0])[1]


def test_while_the_relay_rests_nothing_is_claimed_and_the_batch_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 2)
    monkeypatch.setitem(ENV.__dict__, "batch_size", 6)
    use(monkeypatch, "smtp://127.0.0.1:1")
    dispatch = make_dispatch(make_newsletter(), readers=8)
    first, second = Batch.objects.filter(dispatch=dispatch).order_by("number")
    sending.send_batch(first)
    sending.send_batch(second)
    assert Attempt.objects.count() == 1, "the one that found the relay away"
    assert Delivery.objects.filter(due_at__isnull=False).count() == 2
    for batch in (first, second):
        batch.refresh_from_db()
        assert batch.lease_token is None
        assert batch.due_at is not None
        assert batch.due_at > timezone.now()
    assert scheduling.to_ring() == []
    with SmtpSink() as sink:
        use(monkeypatch, sink.url)
        Batch.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        Delivery.objects.update(due_at=None)
        assert scheduling.to_ring() == [first.pk, second.pk]
        sending.send_batch(first)
        sending.send_batch(second)
        assert statuses(dispatch) == {"sent": 8}
        let_go_of_the_transport()


def test_single_messages_are_rung_first_and_on_the_quick_queue(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    large = make_dispatch(weekly, readers=2)
    single = scheduling.send_single(Subscriber.objects.earliest("pk"), weekly, subject="Please confirm", body="Hello.")
    batches = {dispatch.pk: dispatch.batches.get().pk for dispatch in (large, single)}
    assert tasks.due() == [
        (tasks.send_batch, batches[single.pk], "soon"),
        (tasks.send_batch, batches[large.pk], "celery"),
    ]


def test_a_single_message_that_nobody_takes_goes_between_the_chunks_of_a_large_send(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 2)
    monkeypatch.setattr(tasks, "LOOK_SECONDS", 0)
    weekly = make_newsletter()
    large = make_dispatch(weekly, readers=6)
    reader = Subscriber.objects.latest("pk")

    def ask() -> None:
        single = scheduling.send_single(reader, weekly, subject="Please confirm", body="Hello.")
        Dispatch.objects.filter(pk=single.pk).update(created_at=timezone.now() - timedelta(seconds=2))

    sink.answers["message"] = at_the_first_message(ask)
    tasks.send_batch(large.batches.get().pk)
    assert [b"Please confirm" in mail.raw for mail in sink.messages()] == [
        False,
        False,
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_single_message_that_fails_does_not_stop_a_large_send(
    sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LOOK_SECONDS", 0)
    weekly = make_newsletter()
    large = make_dispatch(weekly, readers=2)
    single = scheduling.send_single(Subscriber.objects.earliest("pk"), weekly, subject="Please confirm", body="Hello.")
    Dispatch.objects.filter(pk=single.pk).update(created_at=timezone.now() - timedelta(seconds=2))
    single.revision.data.pop("subject")
    single.revision.save(update_fields=["data"])
    tasks.send_batch(large.batches.get().pk)
    assert statuses(large) == {"sent": 2}
    assert statuses(single) == {"queued": 1}
    assert scheduling.waiting_singles() == [], "it is rung again by and by"


def test_what_was_refused_is_tried_again_and_nothing_else(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    make_reader(weekly, "once-refuse550-ann@readers.example")
    make_reader(weekly, "once-lose-after-dot-bob@readers.example")
    make_reader(weekly, "eve@readers.example")
    dispatch = make_dispatch(weekly)
    send(dispatch)
    assert statuses(dispatch) == {"sent": 1, "failed": 1, "unconfirmed": 1}
    scheduling.finish()
    assert scheduling.retry_failed(dispatch) == 1
    assert dispatch.status == Dispatch.Status.SENDING
    send(dispatch)
    assert statuses(dispatch) == {"sent": 2, "unconfirmed": 1}
    assert sink.count("eve@readers.example") == 1
