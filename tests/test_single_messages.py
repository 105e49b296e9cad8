"""Single messages, such as confirmations and one-time links: tried while they are of use, never paused in silence."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from newsletter import deliveries, feedback, scheduling, tasks
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Newsletter
from newsletter.transports import Outcome, Result
from subscribers import account
from subscribers.models import OneTimeLink, Subscriber, Suppression
from tests.making import make_newsletter, make_reader
from tests.sending import sinking, use
from tests.smtp_sink import SmtpSink
from tests.test_admin_issues import signed_in, text

pytestmark = pytest.mark.django_db(transaction=True)

ALARM = "Confirmations and other single messages do not go out"


@pytest.fixture
def weekly() -> Newsletter:
    newsletter = make_newsletter()
    make_reader(newsletter)
    return newsletter


def ask(newsletter: Newsletter) -> Dispatch:
    return scheduling.send_single(Subscriber.objects.get(), newsletter, subject="Please confirm", body="The secret.")


def work() -> None:
    """One tick, and what it rings, until nothing is due."""
    while due := tasks.due():
        for task, pk, _queue in due:
            task(pk)


def later() -> None:
    """The wait of what was put off is over."""
    Delivery.objects.update(due_at=timezone.now())


def state_of(dispatch: Dispatch) -> tuple[str, str]:
    dispatch.refresh_from_db()
    return dispatch.status, dispatch.deliveries.get().status


def refusing_the_password(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    sink._credentials = ("user", "right")
    use(monkeypatch, sink.url.replace("//", "//user:wrong@"))


def refusing_the_sender(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    sink.answers["MAIL"] = "550 5.7.1 go away"


def without_tls(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, sink.url.replace("smtp://", "smtps://"))


REFUSALS = [
    (refusing_the_password, "535"),
    (refusing_the_sender, "550 5.7.1 go away"),
    (without_tls, "TLS"),
]


@pytest.mark.parametrize(("refusing", "said"), REFUSALS)
def test_a_refused_sender_keeps_them_back_until_it_is_mended(
    weekly: Newsletter,
    monkeypatch: pytest.MonkeyPatch,
    refusing: Callable[[SmtpSink, pytest.MonkeyPatch], None],
    said: str,
) -> None:
    dispatch = ask(weekly)
    desk = signed_in("editor")
    with sinking(monkeypatch) as broken:
        refusing(broken, monkeypatch)
        work()
        assert state_of(dispatch) == ("sending", "queued")
        due_at = dispatch.deliveries.get().due_at
        assert due_at
        assert due_at > timezone.now()
        shown = text(desk.get("/admin/"))
        assert f"{ALARM}.</strong> 1 waits, since" in shown
        assert said in shown
    with sinking(monkeypatch) as sink:
        later()
        work()
        assert sink.count() == 1
    assert state_of(dispatch) == ("sent", "sent")
    assert ALARM not in text(desk.get("/admin/"))


def test_the_operator_hears_of_it_once_for_each_reason(
    weekly: Newsletter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def alerts() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]

    with sinking(monkeypatch, answers={"MAIL": "550 5.7.1 go away (1)"}) as sink:
        for number in range(1, 4):
            sink.answers["MAIL"] = f"550 5.7.1 go away ({number})"
            ask(weekly)
            work()
            later()
            work()
        (told,) = alerts()
        assert told.startswith(ALARM)
        assert "550 5.7.1 go away" in told
        refusing_the_password(sink, monkeypatch)
        ask(weekly)
        work()
        assert len(alerts()) == 2
    with sinking(monkeypatch) as sink:
        later()
        work()
        assert sink.count() == 4
        sink.answers["MAIL"] = "550 5.7.1 go away"
        ask(weekly)
        work()
    assert len(alerts()) == 3, "it went, and was refused anew"


def test_each_try_waits_longer(weekly: Newsletter, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = ask(weekly)
    with sinking(monkeypatch) as sink:
        refusing_the_password(sink, monkeypatch)
        for _ in range(9):
            work()
            later()
        work()
    due_at = dispatch.deliveries.get().due_at
    assert due_at
    assert (due_at - timezone.now()).total_seconds() > 1500


def test_one_that_cannot_be_made_waits_and_is_told_of(
    weekly: Newsletter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dispatch = ask(weekly)
    dispatch.revision.data["from_address"] = "schreibtisch@straße.example"
    dispatch.revision.save(update_fields=["data"])
    with sinking(monkeypatch):
        work()
    assert state_of(dispatch) == ("sending", "queued")
    assert "Its mail cannot be made" in caplog.text
    assert "Its mail cannot be made" in text(signed_in("editor").get("/admin/"))


def test_what_is_of_no_more_use_fails_and_the_reader_is_not_to_blame(
    weekly: Newsletter, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = ask(weekly)
    with sinking(monkeypatch, answers={"MAIL": "550 5.1.1 no such user here"}):
        work()
    Dispatch.objects.update(useful_until=timezone.now())
    later()
    with sinking(monkeypatch) as sink:
        work()
        assert sink.count() == 0
    assert state_of(dispatch) == ("sent", "failed")
    assert "while it was of use. 550 5.1.1" in dispatch.deliveries.get().reply
    feedback.take_refused()
    assert not Suppression.objects.exists()


def test_a_link_goes_out_for_as_long_as_it_works(weekly: Newsletter) -> None:
    account.send_link_to(Subscriber.objects.get(), weekly)
    useful_until = Dispatch.objects.get().useful_until
    assert useful_until
    assert abs(useful_until - OneTimeLink.objects.get().expires_at) < timedelta(seconds=30)


def test_one_that_went_twice_is_told_of_and_not_paused(weekly: Newsletter, caplog: pytest.LogCaptureFixture) -> None:
    dispatch = ask(weekly)
    row = dispatch.deliveries.get()
    for number in range(2):
        fields = {"worker": "w", "transport": "smtp", "idempotency_key": f"{number:032x}"}
        attempt = Attempt.objects.create(batch=Batch.objects.get(), **fields)
        Delivery.objects.update(status="sending", tries=1, attempt=attempt)
        deliveries.note(attempt, [Outcome(row.pk, Result.ACCEPTED, "250 ok")], tries={row.pk: 1}, retry_seconds=1)
    work()
    assert state_of(dispatch) == ("sent", "sent")
    assert caplog.text.count("got it twice") == 1


def test_those_that_did_not_surely_arrive_are_listed_without_what_they_say(
    weekly: Newsletter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(*options: str) -> str:
        out = io.StringIO()
        call_command("single_messages", *options, stdout=out)
        return out.getvalue()

    fine, doubtful, kept_back = ask(weekly), ask(weekly), ask(weekly)
    assert "was sent or is on its way" in listed()
    fine.deliveries.update(status="sent", tries=1)
    doubtful.deliveries.update(status="unconfirmed", tries=1, reply="No answer came.")
    with sinking(monkeypatch, answers={"MAIL": "550 5.7.1 go away"}):
        work()
    said = listed()
    assert "They do not go out. 1 waits" in said
    assert "No answer came." in said
    assert "secret" not in said
    data: dict[str, Any] = json.loads(listed("--json"))
    assert "go away" in data["kept_back"]
    assert [(row["delivery"], row["status"]) for row in data["messages"]] == [
        (kept_back.deliveries.get().pk, "queued"),
        (doubtful.deliveries.get().pk, "unconfirmed"),
    ]
