"""How often a delivery was accepted, whoever tells it; and what follows where that is twice."""

from __future__ import annotations

import datetime as dt
import io
import random
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter import deliveries, events, feedback, invariants, scheduling, stats, tracking
from newsletter.deliveries import Message, accepting
from newsletter.models import Attempt, Breach, Delivery, Dispatch, Event
from newsletter.transports import Outcome, Result
from tests.feeding import make_notice
from tests.making import issue_of, make_dispatch, make_newsletter
from tests.test_admin_issues import signed_in, text

Kind, Status = Event.Kind, Delivery.Status
Truth = list[Message]


def handed_over(row: Delivery, transport: str = "smtp") -> Attempt:
    """The row as a worker has it that is giving it to the transport once more."""
    attempt = Attempt.objects.create(
        batch_id=row.batch_id, worker="w", transport=transport, idempotency_key=uuid.uuid4()
    )
    Delivery.objects.filter(pk=row.pk).update(status=Status.SENDING, attempt=attempt, tries=row.tries + 1)
    row.refresh_from_db()
    return attempt


def answer(attempt: Attempt, *rows: Delivery, result: Result = Result.ACCEPTED, provider_id: str = "") -> None:
    said = [Outcome(row.pk, result, "250 ok", provider_id) for row in rows]
    deliveries.note(attempt, said, tries={row.pk: row.tries for row in rows}, retry_seconds=1)


def tell(row: Delivery, provider_id: str, kind: Event.Kind = Kind.DELIVERED, source: str = "mailgun") -> None:
    feedback.write_notices([make_notice(kind, delivery_id=row.pk, provider_id=provider_id, source=source)])


def in_doubt(dispatch: Dispatch, transport: str = "smtp") -> tuple[Delivery, Attempt]:
    row = dispatch.deliveries.earliest("pk")
    attempt = handed_over(row, transport)
    answer(attempt, row, result=Result.UNKNOWN)
    return row, attempt


def sent_again(row: Delivery, transport: str = "smtp", provider_id: str = "") -> Attempt:
    scheduling.resend_unconfirmed(row.dispatch)
    attempt = handed_over(row, transport)
    answer(attempt, row, provider_id=provider_id)
    return attempt


def twice(dispatch: Dispatch) -> int:
    return int(stats.count(dispatch)["twice"])


@pytest.fixture
def dispatch() -> Dispatch:
    return make_dispatch(make_newsletter(), readers=3)


@pytest.mark.django_db
def test_when_a_mail_was_sent_stays_whoever_tells_of_it_later(dispatch: Dispatch) -> None:
    sent, doubted, _ = dispatch.deliveries.order_by("pk")
    answer(handed_over(sent), sent)
    answer(handed_over(doubted), doubted, result=Result.UNKNOWN)
    hour_ago = timezone.now() - dt.timedelta(hours=1)
    Delivery.objects.update(settled_at=hour_ago)
    for row in (sent, doubted):
        deliveries.note_accepted([deliveries.Told(row.pk, Message(0, "id-7"))])
        row.refresh_from_db()
        assert (row.status, row.provider_id) == (Status.SENT, "id-7")
    assert sent.settled_at == hour_ago
    assert doubted.settled_at is not None
    assert doubted.settled_at > hour_ago


# What is seen


@pytest.mark.django_db
def test_a_late_answer_to_an_earlier_attempt_is_a_second_mail(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    sent_again(row)
    assert invariants.breaches(dispatch) == []
    answer(first, row)
    assert len(invariants.breaches(dispatch)) == 1
    assert twice(dispatch) == 1


@pytest.mark.django_db
def test_an_accept_is_a_second_mail_whatever_the_status_says_by_now(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    second = handed_over(row)
    answer(second, row, result=Result.UNKNOWN)
    scheduling.accept_unconfirmed(dispatch)
    answer(first, row)
    assert invariants.breaches(dispatch) == []
    answer(second, row)
    assert len(invariants.breaches(dispatch)) == 1


@pytest.mark.django_db
def test_what_others_were_taken_for_hides_no_second_mail(dispatch: Dispatch) -> None:
    """More deliveries SENT than messages accepted: their sums said that all is well."""
    row, first = in_doubt(dispatch)
    Delivery.objects.exclude(pk=row.pk).update(status=Status.UNCONFIRMED, tries=1)
    scheduling.accept_unconfirmed(dispatch)
    Delivery.objects.filter(pk=row.pk).update(status=Status.UNCONFIRMED)
    sent_again(row)
    answer(first, row)
    assert len(invariants.breaches(dispatch)) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Kind.ACCEPTED, Kind.DELIVERED, Kind.DEFERRED, Kind.COMPLAINT])
def test_an_event_about_another_message_is_a_second_mail(dispatch: Dispatch, kind: Event.Kind) -> None:
    row, _ = in_doubt(dispatch, "mailgun")
    sent_again(row, "mailgun", provider_id="second")
    tell(row, "second", kind)
    assert twice(dispatch) == 0
    tell(row, "first", kind)
    tell(row, "first", Kind.DEFERRED)
    assert twice(dispatch) == 1
    assert Breach.objects.count() == 1


@pytest.mark.django_db
def test_an_event_that_comes_before_the_answer_hides_no_second_mail(dispatch: Dispatch) -> None:
    row, _ = in_doubt(dispatch, "mailgun")
    scheduling.resend_unconfirmed(dispatch)
    second = handed_over(row, "mailgun")
    tell(row, "first")
    answer(second, row, provider_id="second")
    assert twice(dispatch) == 1


@pytest.mark.django_db
def test_behind_a_relay_events_alone_tell_two_mails_apart(dispatch: Dispatch) -> None:
    row, _ = in_doubt(dispatch)
    sent_again(row)
    for provider_id, number in (("a", 0), ("a", 0), ("b", 1), ("a", 1), ("b", 1)):
        tell(row, provider_id)
        assert twice(dispatch) == number


@pytest.mark.django_db
def test_an_answer_and_an_event_about_the_same_second_mail_count_once(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    sent_again(row)
    tell(row, "a")
    tell(row, "b")
    answer(first, row)
    assert Breach.objects.count() == 1
    assert Breach.objects.get().attempt == first.pk


@pytest.mark.django_db
@pytest.mark.parametrize("transport", ["sendgrid", "brevo"])
def test_ids_of_another_provider_tell_nothing_apart(dispatch: Dispatch, transport: str) -> None:
    row, _ = in_doubt(dispatch, transport)
    sent_again(row, transport, provider_id="theirs")
    tell(row, "another kind of id", source="mailgun")
    assert twice(dispatch) == 0


@pytest.mark.django_db
def test_our_own_message_id_tells_nothing_apart(dispatch: Dispatch) -> None:
    row, _ = in_doubt(dispatch, "mailgun")
    sent_again(row, "mailgun", provider_id="theirs")
    tell(row, f"<{tracking.message_id(row.pk)}>")
    assert twice(dispatch) == 0


# What is none


@pytest.mark.django_db
def test_an_answer_that_is_noted_again_is_the_same(dispatch: Dispatch) -> None:
    row = dispatch.deliveries.earliest("pk")
    attempt = handed_over(row)
    for _ in range(3):
        answer(attempt, row, provider_id="a")
    tell(row, "a")
    row.refresh_from_db()
    assert (row.status, row.accepted_by, row.provider_id) == (Status.SENT, attempt.pk, "a")
    assert invariants.breaches(dispatch) == []


@pytest.mark.django_db
def test_an_event_before_the_answer_is_the_same_mail(dispatch: Dispatch) -> None:
    rows = list(dispatch.deliveries.order_by("pk"))
    attempt = [handed_over(row, "mailgun") for row in rows][-1]
    Delivery.objects.update(attempt=attempt)
    tell(rows[1], "a")
    answer(attempt, *rows, provider_id="a")
    assert set(Delivery.objects.values_list("status", "accepted_by")) == {(Status.SENT, attempt.pk)}
    assert invariants.breaches(dispatch) == []


@pytest.mark.django_db
def test_who_opens_a_mail_in_doubt_has_one_mail(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    for _ in range(2):
        events.record(Kind.OPEN, delivery_id=row.pk, hit=events.Hit("GET", "Mail/1.0"))
    answer(first, row)
    assert twice(dispatch) == 0


@pytest.mark.django_db
def test_of_mail_that_was_sent_once_events_write_nothing(dispatch: Dispatch) -> None:
    row = dispatch.deliveries.earliest("pk")
    answer(handed_over(row), row)
    written: list[str] = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        written.extend([sql] if 'UPDATE "newsletter_delivery"' in sql else [])
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        tell(row, "a")
        tell(row, "a", Kind.ACCEPTED)
    assert written == []


# However it is told


@st.composite
def truths(draw: st.DrawFn) -> tuple[Truth, list[Message]]:
    """The messages that there were, and words about them: by a transport that knows ids all by answers and events, by
    one that knows none by each alone."""
    knows_ids = draw(st.booleans())
    truth = [Message(number, f"id-{number}") for number in range(1, draw(st.integers(1, 4)) + 1)]
    words = []
    for message in draw(st.lists(st.sampled_from(truth), max_size=12)):
        answers = draw(st.booleans())
        shown = message if knows_ids and answers else Message(message.attempt if answers else 0, "")
        words.append(shown if answers else Message(0, draw(st.sampled_from(["", message.provider_id]))))
    return truth, words


def known_from(words: Sequence[Message]) -> list[Message]:
    known: list[Message] = []
    for word in words:
        found = accepting.find(known, word)
        if found is None:
            known.append(word)
        else:
            known[found] = known[found].with_what_is_known_of(word)
    return known


@settings(max_examples=400, deadline=None)
@given(case=truths(), seed=st.integers(0, 2**32))
def test_there_are_never_more_mails_than_there_were_and_none_is_missed_that_was_told_apart(
    case: tuple[Truth, list[Message]], seed: int
) -> None:
    truth, words = case
    random.Random(seed).shuffle(words)
    known = known_from(words)
    assert len(known) <= len(truth)
    assert len(known) >= len({word.attempt for word in words} - {0})
    assert len(known) >= len({word.provider_id for word in words} - {""})
    assert len(known_from([*words, *words])) == len(known), "told again"


# What follows


@pytest.mark.django_db
def test_a_dispatch_with_a_second_mail_ends_once_somebody_has_taken_note(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    sent_again(row)
    answer(first, row)
    scheduling.check()
    desk = signed_in("editor")
    page = f"/admin/newsletter/dispatch/{dispatch.pk}/"
    assert "the 1 reader mailed more than once" in text(desk.get(f"{page}change/"))
    desk.post(f"{page}resume/")
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENDING
    Delivery.objects.exclude(pk=row.pk).update(status=Status.SKIPPED)
    Dispatch.objects.update(checked_at=None)
    scheduling.check()
    scheduling.finish()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENT
    shown = text(desk.get(f"{page}change/"))
    assert "1 reader was mailed more than once." in shown
    assert "editor took note of 1 mail too many on" in shown
    out = io.StringIO()
    call_command("issue_report", str(dispatch.issue_id), stdout=out)
    assert "1 reader was mailed more than once:" in out.getvalue()
    assert f"delivery {row.pk}, subscriber {row.subscriber_id}: seen by editor" in out.getvalue()


@pytest.mark.django_db
def test_only_a_second_mail_that_is_new_stops_it_again(dispatch: Dispatch) -> None:
    rows = list(dispatch.deliveries.order_by("pk"))
    doubts = [(row, handed_over(row)) for row in rows]
    for row, attempt in doubts:
        answer(attempt, row, result=Result.UNKNOWN)
    for row, _ in doubts:
        sent_again(row)
    answer(doubts[0][1], rows[0])
    assert_stops(dispatch, "1 mail was accepted")
    answer(doubts[1][1], rows[1])
    scheduling.resume(dispatch, by="ada")
    assert set(Breach.objects.values_list("acknowledged_by", flat=True)) == {"ada"}, "all that is known by then"
    assert invariants.breaches(dispatch) == []
    answer(doubts[2][1], rows[2])
    assert_stops(dispatch, "1 mail was accepted")
    assert Breach.objects.filter(acknowledged_at=None).get().delivery_id == rows[2].pk
    assert twice(dispatch) == 3


def assert_stops(dispatch: Dispatch, words: str) -> None:
    Dispatch.objects.update(checked_at=None)
    scheduling.check()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.PAUSED
    assert dispatch.breached
    assert words in dispatch.pause_reason


@pytest.mark.django_db
def test_resuming_what_was_paused_by_hand_takes_note_of_nothing(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    sent_again(row)
    scheduling.pause(dispatch, "A wrong link.")
    answer(first, row)
    scheduling.resume(dispatch, by="ada")
    assert_stops(dispatch, "1 mail was accepted")


@pytest.mark.django_db
def test_sums_that_do_not_agree_stop_it_once(dispatch: Dispatch) -> None:
    Delivery.objects.filter(pk=dispatch.deliveries.earliest("pk").pk).delete()
    assert_stops(dispatch, "3 candidates only 2 deliveries")
    scheduling.resume(dispatch, by="ada")
    assert invariants.breaches(dispatch) == []
    Delivery.objects.filter(pk=dispatch.deliveries.earliest("pk").pk).delete()
    assert_stops(dispatch, "3 candidates only 1 deliveries")
    assert not stats.sums_agree(stats.count(dispatch))


@pytest.mark.django_db
def test_more_accepts_than_deliveries_and_second_mails_stop_it(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    sent_again(row)
    answer(first, row)
    for other in dispatch.deliveries.exclude(pk=row.pk):
        answer(handed_over(other), other)
    assert_stops(dispatch, "1 mail was accepted")
    assert "deliveries" not in dispatch.pause_reason
    Attempt.objects.filter(pk=first.pk).update(accepted=2)
    assert len(invariants.breaches(dispatch)) == 2


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["sent", "cancelled"])
def test_a_second_mail_that_shows_after_the_end_is_told_once_and_shown_until_somebody_takes_note(
    dispatch: Dispatch, settings: Any, end: str
) -> None:
    settings.ADMINS = [("", "desk@weekly.example")]
    row, first = in_doubt(dispatch)
    sent_again(row)
    if end == "cancelled":
        scheduling.cancel(dispatch)
    else:
        Delivery.objects.exclude(pk=row.pk).update(status=Status.SKIPPED)
    scheduling.finish()
    answer(first, row)
    for _ in range(2):
        scheduling.check()
    dispatch.refresh_from_db()
    assert dispatch.status == end
    assert len(mail.outbox) == 1
    assert "mailed twice" in mail.outbox[0].subject
    assert stats.full_report(issue_of(dispatch))["breaches"][0]["delivery_id"] == row.pk
    desk, page = signed_in("editor"), f"/admin/newsletter/dispatch/{dispatch.pk}"
    assert f"{dispatch.issue} has ended: it does not add up." in text(desk.get("/admin/"))
    shown = text(desk.get(f"{page}/change/"))
    assert "1 mail was accepted for readers who had it already" in shown
    assert "Stopped" not in shown
    desk.post(f"{page}/note/")
    assert Breach.objects.get().acknowledged_by
    assert "does not add up" not in text(desk.get("/admin/")) + text(desk.get(f"{page}/change/"))
    with pytest.raises(scheduling.NotNow, match="nothing to take note of"):
        scheduling.take_note(dispatch, by="ada")


@pytest.mark.django_db
def test_a_second_mail_that_shows_while_it_is_paused_is_told_once(dispatch: Dispatch, settings: Any) -> None:
    settings.ADMINS = [("", "desk@weekly.example")]
    row, first = in_doubt(dispatch)
    sent_again(row)
    scheduling.pause(dispatch, "A wrong link.")
    answer(first, row)
    for _ in range(2):
        scheduling.check()
    assert len(mail.outbox) == 1
    assert "is stopped: it does not add up." in text(signed_in("editor").get("/admin/"))
    dispatch.refresh_from_db()
    assert dispatch.pause_reason.startswith("A wrong link. 1 mail was accepted")


@pytest.mark.django_db
def test_cancelling_what_a_breach_had_stopped_takes_note_of_nothing(dispatch: Dispatch) -> None:
    row, first = in_doubt(dispatch)
    sent_again(row)
    answer(first, row)
    assert_stops(dispatch, "1 mail was accepted")
    scheduling.cancel(dispatch)
    assert "1 mail was accepted" in text(signed_in("editor").get("/admin/"))
