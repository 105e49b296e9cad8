"""What is refused while sending is a bounce like any other: judged, counted, and never lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from django.utils import timezone

from newsletter import feedback, scheduling, sending
from newsletter.models import Attempt, Batch, Delivery, Event
from subscribers.models import Suppression
from tests.conftest import Start
from tests.feeding import is_active, make_delivery, make_notice, suppressions, write
from tests.making import make_dispatch, make_newsletter, make_reader
from tests.sending import let_go_of_the_transport, use
from tests.smtp_sink import SmtpSink
from tests.waiting import until

Kind, Status, Verdict = Event.Kind, Delivery.Status, Delivery.Verdict


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpSink]:
    unknown = {"RCPT": lambda session: "550 5.1.1 No such user here" if "gone@" in session.commands[-1] else None}
    with SmtpSink(answers=unknown) as server:
        use(monkeypatch, server.url)
        yield server
        let_go_of_the_transport()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("reply", "transport", "put_off", "verdict", "cause"),
    [
        ("550 5.1.1 no such user here", "smtp", False, "hard", "NO_MAILBOX"),
        ("552 5.2.2 mailbox full", "smtp", False, "soft", "FULL"),
        ("554 5.7.1 your IP is listed at zen.spamhaus.org", "smtp", False, "block", "REPUTATION"),
        ("451 4.3.0 try again later", "smtp", True, "soft", "EXPIRED"),
        ("Connection refused", "smtp", True, "block", ""),
        ("The address is not supported by this route: it needs SMTPUTF8.", "smtp", False, "block", ""),
        ("200 invalid", "mailgun", False, "hard", "NO_MAILBOX"),
        ("422 rejected the mailbox is full", "postmark", False, "soft", "FULL"),
        ("429 slow down", "mailgun", True, "block", ""),
    ],
)
def test_a_refusal_is_judged_by_what_was_said(
    reply: str, transport: str, verdict: str, cause: str, *, put_off: bool
) -> None:
    delivery = make_delivery(status=Status.FAILED, reply=reply, put_off_at=timezone.now() if put_off else None)
    Attempt.objects.update(transport=transport)
    assert feedback.any_refused()
    assert feedback.take_refused() == 1
    assert not feedback.any_refused()
    event = Event.objects.get()
    assert (event.verdict, event.reasons, event.source) == (verdict, cause, transport)
    assert suppressions(delivery) == (["hard bounce"] if verdict == "hard" else [])
    assert is_active(delivery)


@pytest.mark.django_db
def test_the_same_refusal_is_judged_once_and_again_once_it_was_tried_anew() -> None:
    delivery = make_delivery(status=Status.FAILED, reply="554 5.7.1 spam")
    assert [feedback.take_refused(), feedback.take_refused()] == [1, 0]
    scheduling.retry_failed(delivery.dispatch)
    assert feedback.take_refused() == 0
    Delivery.objects.update(status=Status.FAILED, settled_at=timezone.now(), reply="550 5.1.1 no such user")
    assert feedback.take_refused() == 1
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.HARD
    assert Event.objects.count() == 2


@pytest.mark.django_db
def test_what_a_notice_judged_before_is_not_judged_again() -> None:
    delivery = make_delivery(status=Status.FAILED, reply="550 no")
    write(Kind.BOUNCE, delivery)
    assert feedback.take_refused() == 0
    feedback.write_notices([make_notice(Kind.BOUNCE, delivery_id=delivery.pk, verdict="soft")])
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.HARD


def test_a_reader_whom_the_relay_does_not_know_is_written_to_no_more(sink: SmtpSink, start: Start) -> None:
    newsletter = make_newsletter()
    make_reader(newsletter, "gone@readers.example")
    make_reader(newsletter, "there@readers.example")
    for batch in Batch.objects.filter(dispatch=make_dispatch(newsletter)):
        sending.send_batch(batch)
    start(sys.executable, "manage.py", "work", REDIS_URL="")
    until(lambda: Event.objects.filter(kind=Kind.BOUNCE).exists(), "the refusal is an event")
    gone = Delivery.objects.get(status=Status.FAILED)
    assert gone.verdict == Verdict.HARD
    assert suppressions(gone) == ["hard bounce"]
    assert Suppression.objects.count() == 1
