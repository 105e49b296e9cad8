"""One mail that came back: whose it is, what follows, and that it follows once."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from pytest_django import Settings

from newsletter import receiving
from newsletter.bounces import Kind
from newsletter.models import Delivery, Event
from newsletter.receiving import Done
from subscribers.models import Subscriber, Subscription, Suppression
from tests.conftest import ROOT
from tests.making import make_dispatch, make_newsletter
from tests.returned import bounce, bounce_of, complaint, letter
from tests.sending import send, sinking
from tests.smtp_sink import Received, SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

BOUNCES = "bounces@news.example.org"


@pytest.fixture
def sink(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpSink]:
    settings.BOUNCE_ADDRESS = BOUNCES
    with sinking(monkeypatch) as running:
        yield running


@pytest.fixture
def mails(sink: SmtpSink) -> list[Received]:
    """Two mails of one issue, as the relay got them."""
    send(make_dispatch(make_newsletter(), readers=2))
    return sink.messages()


def reader_of(mail: Received) -> Subscriber:
    return Subscriber.objects.get(address=mail.rcpt)


def plain(mail: Received) -> bytes:
    """All that the mail shows, decoded."""
    return b"".join(bytes(part.get_payload(decode=True) or b"") for part in mail.parsed().walk())


def leave_address(mail: Received) -> str:
    return str(mail.parsed()["List-Unsubscribe"]).partition("<mailto:")[2].partition("?")[0]


def suppressed() -> dict[str, str]:
    """The reasons for which addresses are suppressed, by fingerprint."""
    return dict(Suppression.objects.values_list("fingerprint", "reason"))


def status_of(mail: Received) -> str:
    return Subscription.objects.get(subscriber=reader_of(mail)).status


def test_a_bounce_suppresses_the_reader_it_came_back_from(mails: list[Received]) -> None:
    received = receiving.receive(bounce_of(mails[0]))
    assert (received.kind, received.done) == (Kind.BOUNCE, Done.NOTED)
    assert suppressed() == {reader_of(mails[0]).fingerprint: Suppression.Reason.HARD_BOUNCE}
    delivery = Delivery.objects.get(subscriber=reader_of(mails[0]))
    assert delivery.verdict == Delivery.Verdict.HARD
    event = Event.objects.get(kind=Event.Kind.BOUNCE)
    assert (event.delivery_id, event.source) == (delivery.pk, "mail")
    assert mails[0].rcpt not in event.detail
    assert mails[0].rcpt not in received.sentence


def test_the_address_it_was_delivered_to_goes_before_what_the_mail_says(mails: list[Received]) -> None:
    receiving.receive(bounce_of(mails[0], to=mails[1].sender), mails[0].sender.upper())
    assert set(suppressed()) == {reader_of(mails[0]).fingerprint}


@pytest.mark.parametrize("header", ["Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To"])
def test_headers_say_where_it_was_delivered(mails: list[Received], header: str) -> None:
    raw = bounce(BOUNCES, mails[0].rcpt)
    receiving.receive(f"{header}: {mails[0].sender}\r\n".encode() + raw)
    assert set(suppressed()) == {reader_of(mails[0]).fingerprint}


def test_without_a_token_in_an_address_the_returned_message_id_tells(mails: list[Received]) -> None:
    assert receiving.receive(bounce_of(mails[0], to=BOUNCES)).done == Done.NOTED
    assert set(suppressed()) == {reader_of(mails[0]).fingerprint}


def test_the_same_bounce_counts_once_whatever_systems_on_its_way_changed(mails: list[Received]) -> None:
    raw = bounce_of(mails[0])
    assert receiving.receive(raw).done == Done.NOTED
    changed = b"Return-Path: <>\nX-Original-To: x@y.example\n" + raw.replace(b"\r\n", b"\n") + b"\n"
    again = receiving.receive(changed, mails[0].sender)
    assert again.done == Done.REPEATED
    assert Event.objects.filter(kind=Event.Kind.BOUNCE).count() == 1
    assert Suppression.objects.count() == 1


def test_two_bounces_of_one_mail_are_two(mails: list[Received]) -> None:
    for said in ("mailbox full", "mailbox still full"):
        raw = bounce_of(mails[0], status="5.2.2", said=said)
        assert receiving.receive(raw).done == Done.NOTED
    assert Event.objects.filter(kind=Event.Kind.BOUNCE).count() == 2


def test_a_bounce_that_only_names_an_address_is_not_believed(mails: list[Received]) -> None:
    received = receiving.receive(bounce(BOUNCES, mails[0].rcpt))
    assert received.done == Done.UNKNOWN
    assert not suppressed()


def test_without_return_addresses_the_address_is_all_there_is(mails: list[Received], settings: Settings) -> None:
    settings.BOUNCE_ADDRESS = ""
    assert receiving.receive(bounce("desk@weekly.example", mails[0].rcpt)).done == Done.NOTED
    assert set(suppressed()) == {reader_of(mails[0]).fingerprint}


def test_a_forged_token_is_logged_without_the_address_and_does_nothing(
    mails: list[Received], caplog: pytest.LogCaptureFixture
) -> None:
    place = mails[0].sender.index("+") + 10
    forged = f"{mails[0].sender[:place]}{'a' if mails[0].sender[place] != 'a' else 'b'}{mails[0].sender[place + 1 :]}"
    with caplog.at_level(logging.WARNING):
        received = receiving.receive(bounce(forged, mails[0].rcpt))
    assert received.done == Done.UNKNOWN
    assert not suppressed()
    assert "token that this site did not make" in caplog.text
    assert mails[0].rcpt not in caplog.text
    assert forged.partition("@")[0] not in caplog.text


def test_of_several_recipients_the_one_we_wrote_to_counts(mails: list[Received]) -> None:
    worst = b"Final-Recipient: rfc822; other@readers.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
    raw = bounce_of(mails[0], status="5.2.2", said="mailbox full").replace(b"Final-Rec", worst + b"Final-Rec", 1)
    assert receiving.receive(raw).done == Done.NOTED
    assert not suppressed()
    assert Event.objects.get(kind=Event.Kind.BOUNCE).verdict == "soft"


def test_a_block_is_never_held_against_the_reader(mails: list[Received]) -> None:
    raw = bounce_of(mails[0], status="5.7.1", said="your IP address is listed at a blocklist")
    assert receiving.receive(raw).done == Done.NOTED
    assert not suppressed()
    assert status_of(mails[0]) == Subscription.Status.ACTIVE


@pytest.mark.parametrize("to", ["token", BOUNCES])
def test_a_complaint_unsubscribes_and_suppresses(mails: list[Received], to: str) -> None:
    raw = complaint(mails[0].sender if to == "token" else to, mails[0].raw)
    assert receiving.receive(raw).done == Done.NOTED
    assert receiving.receive(raw).done == Done.REPEATED
    assert suppressed() == {reader_of(mails[0]).fingerprint: Suppression.Reason.COMPLAINT}
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED
    assert status_of(mails[1]) == Subscription.Status.ACTIVE


def test_where_the_message_id_is_gone_the_unsubscribe_link_does_what_it_does_for_whoever_has_it(
    mails: list[Received],
) -> None:
    returned = mails[0].raw.replace(b"Message-ID:", b"X-Was:")
    assert receiving.receive(complaint(BOUNCES, returned)).done == Done.NOTED
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED
    assert receiving.receive(bounce(BOUNCES, mails[1].rcpt, returned=returned)).done == Done.UNKNOWN
    assert not suppressed()


@pytest.mark.parametrize(
    "forge", [complaint, lambda to, returned: bounce(to, "ada@readers.example", returned=returned)]
)
def test_what_a_copied_link_holds_forges_nothing(mails: list[Received], forge: Callable[[str, bytes], bytes]) -> None:
    tokens = re.findall(rb"/[oc]/(?:[A-Za-z0-9_-]+/)?([A-Za-z0-9_-]{26})(?![A-Za-z0-9_-])", plain(mails[0]))
    assert tokens
    for token in set(tokens):
        returned = b"Message-ID: <" + token + b"@anything.example>\r\nFrom: a@b.example\r\n\r\n"
        assert receiving.receive(forge(BOUNCES, returned)).done == Done.UNKNOWN
    assert not suppressed()
    assert status_of(mails[0]) == Subscription.Status.ACTIVE


def test_who_asks_their_provider_to_be_unsubscribed_leaves_and_has_not_complained(mails: list[Received]) -> None:
    raw = complaint(BOUNCES, mails[0].raw).replace(b"Feedback-Type: abuse", b"Feedback-Type: opt-out")
    assert receiving.receive(raw).done == Done.NOTED
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED
    assert not suppressed()


@pytest.mark.parametrize(("subject", "body"), [("unsubscribe", ""), ("", ""), ("Hi", "please stop"), ("Abmelden", "")])
def test_any_letter_to_the_unsubscribe_address_unsubscribes(mails: list[Received], subject: str, body: str) -> None:
    received = receiving.receive(letter(leave_address(mails[0]), subject, body))
    assert received.done == Done.NOTED
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED
    assert status_of(mails[1]) == Subscription.Status.ACTIVE
    assert not suppressed()


def test_leaving_by_mail_works_after_the_delivery_is_deleted(mails: list[Received]) -> None:
    address = leave_address(mails[0])
    Delivery.objects.all().delete()
    assert receiving.receive(letter(address)).done == Done.NOTED
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED


def test_leaving_by_mail_counts_for_the_issue(mails: list[Received]) -> None:
    receiving.receive(letter(leave_address(mails[0])))
    event = Event.objects.get(kind=Event.Kind.UNSUBSCRIBE)
    assert event.delivery_id == Delivery.objects.get(subscriber=reader_of(mails[0])).pk


def test_who_came_back_may_leave_again_by_mail(mails: list[Received]) -> None:
    first = letter(leave_address(mails[0]))
    receiving.receive(first)
    Subscription.objects.filter(subscriber=reader_of(mails[0])).update(status=Subscription.Status.ACTIVE)
    second = first.replace(b"<letter@", b"<second@")
    assert receiving.receive(second).done == Done.NOTED
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED


def test_an_absence_note_at_the_unsubscribe_address_unsubscribes_nobody(mails: list[Received]) -> None:
    away = letter(leave_address(mails[0]), "Out of office", "Back on Monday.", Auto_Submitted="auto-replied")
    assert receiving.receive(away).done == Done.LEFT
    assert status_of(mails[0]) == Subscription.Status.ACTIVE


def test_a_program_that_asks_to_leave_at_the_unsubscribe_address_unsubscribes(mails: list[Received]) -> None:
    asks = letter(leave_address(mails[0]), "unsubscribe", Auto_Submitted="auto-generated")
    assert receiving.receive(asks).done == Done.NOTED
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED


def test_an_absence_note_in_answer_to_an_issue_about_leaving_unsubscribes_nobody(mails: list[Received]) -> None:
    away = letter(mails[0].sender, "Re: Unsubscribe", "Back on Monday.", Auto_Submitted="auto-replied")
    assert receiving.receive(away).done == Done.LEFT
    assert status_of(mails[0]) == Subscription.Status.ACTIVE


def test_whatever_comes_to_the_unsubscribe_address_unsubscribes_who_was_given_it(mails: list[Received]) -> None:
    assert receiving.receive(b"\x00\xff", leave_address(mails[0])).done == Done.NOTED
    assert status_of(mails[0]) == Subscription.Status.UNSUBSCRIBED


def test_who_asks_to_leave_at_an_address_without_a_token_is_left_for_a_person(mails: list[Received]) -> None:
    received = receiving.receive(letter(BOUNCES))
    assert (received.kind, received.done, received.by_a_person) == (Kind.UNSUBSCRIBE, Done.LEFT, True)
    assert "by hand" in received.sentence


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (letter(BOUNCES, "Out of office: Weekly", "Back on Monday.", Auto_Submitted="auto-replied"), Kind.AUTO_REPLY),
        (letter(BOUNCES, "A question", "Dear editors, may I quote you?"), Kind.REPLY),
        (letter(BOUNCES, "Warning: message delayed", "Will be retried.", From_="x"), Kind.NOTICE),
        (b"", Kind.UNREADABLE),
        (b"\x00\xff\n\n\xfe", Kind.UNREADABLE),
    ],
)
def test_what_says_nothing_of_a_reader_is_left_alone(raw: bytes, kind: Kind) -> None:
    raw = raw.replace(b"Ada <ada@", b"MAILER-DAEMON <mailer-daemon@") if kind == Kind.NOTICE else raw
    received = receiving.receive(raw)
    assert (received.kind, received.done) == (kind, Done.LEFT)
    assert not Event.objects.exists()


def test_a_mail_larger_than_what_is_read_is_understood_by_its_beginning(mails: list[Received]) -> None:
    raw = bounce_of(mails[0]) + b"x" * 76 * (receiving.LIMIT // 76)
    assert receiving.receive(raw).done == Done.NOTED
    assert suppressed()


@pytest.mark.parametrize(
    "date", ["Mon, 2 Nov 2026 10:00:00 +99999999999999", "Mon, 2 Nov 99999999999999999999 1:00:00"]
)
def test_a_date_that_no_calendar_holds_costs_no_bounce(mails: list[Received], date: str) -> None:
    raw = re.sub(rb"^Date: .*?$", b"", bounce_of(mails[0]), flags=re.MULTILINE)
    assert receiving.receive(f"Date: {date}\r\n".encode() + raw).done == Done.NOTED
    assert suppressed()


# --- by a pipe ---


def pipe(environment: dict[str, str], raw: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "manage.py", "receive_mail", *arguments],
        input=raw,
        env=environment | {"BOUNCE_ADDRESS": BOUNCES},
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )


def test_mail_is_piped_in_and_counts_once(environment: dict[str, str], mails: list[Received]) -> None:
    raw = bounce(BOUNCES, mails[0].rcpt)
    first = pipe(environment, raw, "--recipient", mails[0].sender)
    assert (first.returncode, first.stderr) == (0, b"")
    assert b"A bounce (hard)" in first.stdout
    again = pipe(environment, raw, "--recipient", mails[0].sender, "--json")
    assert b'"done": "repeated"' in again.stdout
    assert len(suppressed()) == 1


def test_the_rest_of_a_huge_mail_is_taken_from_the_pipe(environment: dict[str, str], mails: list[Received]) -> None:
    huge = bounce_of(mails[0]) + b"x" * 76 * (3 * receiving.LIMIT // 76)
    assert pipe(environment, huge).returncode == 0
    assert suppressed()


def test_blanks_without_end_hold_up_nobody(environment: dict[str, str], mails: list[Received]) -> None:
    assert pipe(environment, bounce_of(mails[0]) + b" " * receiving.LIMIT).returncode == 0
    assert suppressed()


def test_the_mail_server_keeps_what_could_not_be_stored(environment: dict[str, str], mails: list[Received]) -> None:
    environment |= {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
    kept = pipe(environment, bounce_of(mails[0]))
    assert kept.returncode == 75
    assert b"database" in kept.stderr
    assert pipe(environment, bounce_of(mails[0]), "--wrong").returncode == 75


def test_a_person_who_writes_to_the_pipe_is_told(environment: dict[str, str]) -> None:
    told = pipe(environment, letter(BOUNCES, "A question", "May I quote you?"))
    assert told.returncode == 69
    assert b"Nobody reads mail to this address." in told.stderr
    assert pipe(environment, b"").returncode == 65
    assert pipe(environment, letter(BOUNCES, "Out of office", Auto_Submitted="auto-replied")).returncode == 0
