"""The mailbox for bounces, by IMAP and by POP3, from a real server on this machine that misbehaves as told."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db.models import F
from pydantic import SecretStr
from pytest_django import Settings

from newsletter import checks, feedback, fetching, receiving, tasks
from newsletter.admin import dashboard
from newsletter.environment import Environment
from newsletter.models import BounceMailbox, Event
from newsletter.receiving import Done
from newsletter.settings import ENV
from subscribers.models import Suppression
from tests.conftest import Start
from tests.mailbox_double import PASSWORD, MailboxDouble
from tests.making import make_dispatch, make_newsletter
from tests.returned import bounce_of, letter
from tests.sending import send, sinking
from tests.smtp_sink import Received
from tests.test_transports_smtp import certificate, tls_of
from tests.waiting import until

__all__ = ["certificate"]  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Received]:
    """Three mails of one issue, as the relay got them."""
    settings.BOUNCE_ADDRESS = "bounces@news.example.org"
    with sinking(monkeypatch) as sink:
        send(make_dispatch(make_newsletter(), readers=3))
        return sink.messages()


@pytest.fixture(params=["imap", "pop3"])
def box(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailboxDouble]:
    with MailboxDouble(request.param) as running:
        use(monkeypatch, running)
        yield running


@pytest.fixture
def imap(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailboxDouble]:
    with MailboxDouble("imap") as running:
        use(monkeypatch, running)
        yield running


def use(monkeypatch: pytest.MonkeyPatch, box: MailboxDouble) -> None:
    monkeypatch.setitem(ENV.__dict__, "bounce_mailbox", SecretStr(box.url))
    monkeypatch.setattr(fetching, "TIMEOUT", 5)


def row() -> BounceMailbox:
    mailbox = fetching.current()
    assert mailbox
    return mailbox


def look() -> fetching.Look:
    return fetching.read(row())


def bounced() -> int:
    return Event.objects.filter(kind=Event.Kind.BOUNCE).count()


def test_what_came_is_received_and_deleted(box: MailboxDouble, mails: list[Received]) -> None:
    for mail in mails:
        box.put(bounce_of(mail))
    found = look()
    assert (found.done[Done.NOTED], found.waiting, found.trouble) == (3, 0, "")
    assert box.mails == {}
    assert Suppression.objects.count() == 3
    assert look().taken == 0


def test_the_same_bounce_by_a_pipe_and_the_mailbox_counts_once(box: MailboxDouble, mails: list[Received]) -> None:
    receiving.receive(bounce_of(mails[0]).replace(b"\r\n", b"\n"), mails[0].sender)
    box.put(b"Delivered-To: bounces@news.example.org\r\n" + bounce_of(mails[0]))
    assert look().done[Done.REPEATED] == 1
    assert (bounced(), Suppression.objects.count(), box.mails) == (1, 1, {})


def test_letters_and_absence_notes_stay_and_are_not_fetched_again(box: MailboxDouble, mails: list[Received]) -> None:
    box.put(letter("bounces@news.example.org", "A question", "May I quote you?"))
    box.put(letter("bounces@news.example.org", "Out of office", "Monday.", Auto_Submitted="auto-replied"))
    assert look().done[Done.LEFT] == 2
    box.put(bounce_of(mails[0]))
    assert look().done == {Done.NOTED: 1, Done.REPEATED: 0, Done.UNKNOWN: 0, Done.LEFT: 0}
    assert (len(box.mails), box.fetched()) == (2, 3)


def test_nothing_is_deleted_that_is_not_committed(
    box: MailboxDouble, mails: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put(bounce_of(mails[0]))

    def away(*_: object) -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as while_away:
        while_away.setattr(feedback, "write_notices", away)
        with pytest.raises(OperationalError):
            look()
    assert len(box.mails) == 1
    assert look().done[Done.NOTED] == 1


def test_what_was_received_and_not_deleted_comes_again_and_counts_once(
    monkeypatch: pytest.MonkeyPatch, mails: list[Received]
) -> None:
    with MailboxDouble("pop3", drop_at_end=True) as box:
        use(monkeypatch, box)
        box.put(bounce_of(mails[0]))
        assert look().trouble
        assert (len(box.mails), bounced()) == (1, 1)
        box.drop_at_end = False
        assert look().done[Done.REPEATED] == 1
        assert (box.mails, bounced()) == ({}, 1)


def test_a_mail_that_the_server_does_not_give_blocks_no_other(box: MailboxDouble, mails: list[Received]) -> None:
    box.refuse.add(box.put(b"broken"))
    box.put(bounce_of(mails[0]))
    found = look()
    assert (found.unreadable, found.done[Done.NOTED], found.trouble) == (1, 1, "")
    assert look().taken == 0
    assert list(box.mails.values()) == [b"broken"]


def test_a_mail_that_costs_the_connection_each_time_blocks_no_other(box: MailboxDouble, mails: list[Received]) -> None:
    box.drop_at.add(box.put(b"broken" * 1000))
    for mail in mails:
        box.put(bounce_of(mail))
    assert look().trouble
    assert look().trouble
    assert bounced() == 3
    while look().trouble:
        assert box.fetched() < 20
    assert list(box.mails.values()) == [b"broken" * 1000]
    assert look().taken == 0


def test_a_server_that_does_not_answer_is_not_waited_for(
    box: MailboxDouble, mails: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    box.silent_at.add(box.put(bounce_of(mails[0])))
    assert "did not answer in time" in look().trouble
    box.silent_at.clear()
    assert look().done[Done.NOTED] == 1


def test_a_mail_of_any_size_is_understood_by_its_beginning(box: MailboxDouble, mails: list[Received]) -> None:
    box.put(bounce_of(mails[0]) + b"x" * 3000 + b"\r\n" + (b"y" * 76 + b"\r\n") * (receiving.LIMIT // 70))
    assert look().done[Done.NOTED] == 1
    assert box.mails == {}


def test_lines_that_begin_with_a_dot_come_as_they_were(box: MailboxDouble, mails: list[Received]) -> None:
    raw = bounce_of(mails[0]) + b".\r\n..\r\n.x\r\n"
    receiving.receive(raw)
    box.put(raw)
    assert look().done[Done.REPEATED] == 1


def test_trouble_is_told_without_the_password(
    box: MailboxDouble, mails: list[Received], caplog: pytest.LogCaptureFixture
) -> None:
    box.refuse_login = True
    found = look()
    assert "127.0.0.1 cannot be read" in found.trouble
    assert row().trouble == found.trouble
    (alarm,) = dashboard._alarms()
    assert alarm.sentence == found.trouble
    with pytest.raises(CommandError) as refused:
        call_command("read_bounces")
    for text in (found.trouble, caplog.text, row().place, str(refused.value)):
        assert PASSWORD not in text
    box.refuse_login = False
    look()
    assert dashboard._alarms() == []
    assert row().read_at


def test_one_worker_reads_at_a_time_and_a_dead_one_is_not_waited_for_long(
    box: MailboxDouble, mails: list[Received]
) -> None:
    box.put(bounce_of(mails[0]))
    mailbox = row()
    nested: list[fetching.Look] = []
    fetching.read(mailbox, tell=lambda *_: nested.append(fetching.read(mailbox)))
    assert [each.busy for each in nested] == [True]
    box.put(bounce_of(mails[1]))
    BounceMailbox.objects.update(leased_until=F("rung_at"), rung_at=None)
    assert look().done[Done.NOTED] == 1


def test_uids_of_another_validity_mean_other_mails(imap: MailboxDouble, mails: list[Received]) -> None:
    uid = imap.put(letter("bounces@news.example.org", "A question", "?"))
    look()
    imap.validity = 2
    imap.mails[uid] = bounce_of(mails[0])
    assert look().done[Done.NOTED] == 1
    assert imap.mails == {}


def test_a_look_ends_after_so_many_mails_and_the_command_goes_on(
    box: MailboxDouble, mails: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MOST", 2)
    for mail in mails:
        box.put(bounce_of(mail))
    found = look()
    assert (found.taken, found.waiting) == (2, 1)
    assert "1 noted" in call_command("read_bounces", "--once")
    assert box.mails == {}


def test_no_mail_is_deleted_that_others_have_marked_where_one_can_be_deleted(
    imap: MailboxDouble, mails: list[Received]
) -> None:
    imap.flagged.add(imap.put(b"marked by a person"))
    imap.put(bounce_of(mails[0]))
    look()
    assert list(imap.mails.values()) == [b"marked by a person"]


def test_older_servers_are_signed_in_to_and_cleared_too(monkeypatch: pytest.MonkeyPatch, mails: list[Received]) -> None:
    with MailboxDouble("imap", capabilities="", capabilities_inside="") as box:
        use(monkeypatch, box)
        box.put(bounce_of(mails[0]))
        assert look().done[Done.NOTED] == 1
        assert box.mails == {}
        assert any(command.split(" ")[1] == "LOGIN" for command in box.commands)


def test_a_server_that_drips_holds_nobody_for_ever(
    box: MailboxDouble, mails: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LONGEST", 1.0)
    box.drip_at.add(box.put(bounce_of(mails[0])))
    assert "was lost" in look().trouble
    assert row().lease_token is None
    box.drip_at.clear()
    assert look().done[Done.NOTED] == 1


def test_no_more_is_taken_than_was_asked_for(
    imap: MailboxDouble, mails: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 5.0)  # what the octets that never come are waited for
    imap.swell_at.add(imap.put(bounce_of(mails[0])))
    assert "octets at once" in look().trouble


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
@pytest.mark.parametrize("secured", [False, True], ids=["greeting", "TLS"])
def test_a_server_that_drips_before_anything_is_said_holds_nobody_either(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, protocol: str, secured: bool
) -> None:
    with MailboxDouble(protocol, tls=tls_of(certificate) if secured else None, drip_first=True) as box:
        use(monkeypatch, box)
        monkeypatch.setattr(fetching, "LONGEST", 1.0)
        assert "cannot be read" in look().trouble
        assert row().lease_token is None


def test_a_list_of_mails_without_end_is_not_taken(box: MailboxDouble) -> None:
    box.endless_list = True
    box.put(b"mail")
    found = look()
    assert ("octets at once" in found.trouble) or ("has no end" in found.trouble)
    assert row().lease_token is None


def test_a_mail_without_a_proper_id_is_left_and_the_others_are_read(
    monkeypatch: pytest.MonkeyPatch, mails: list[Received], caplog: pytest.LogCaptureFixture
) -> None:
    with MailboxDouble("pop3") as box:
        use(monkeypatch, box)
        for name in ("a\0b", "a b", "", "ü"):
            box.mails[name] = letter("bounces@news.example.org", "A question", "?")
        box.put(bounce_of(mails[0]))
        found = look()
        assert (found.done[Done.NOTED], found.trouble, len(box.mails), box.fetched()) == (1, "", 4, 1)
        assert "4 mails of the mailbox for bounces are left there" in caplog.text


def test_what_a_folder_is_called_is_stored_whatever_it_holds(imap: MailboxDouble, mails: list[Received]) -> None:
    imap.validity = "1\0"
    imap.put(letter("bounces@news.example.org", "A question", "?"))
    assert look().done[Done.LEFT] == 1
    assert look().taken == 0


def test_a_large_mail_that_is_left_is_not_fetched_again(box: MailboxDouble, mails: list[Received]) -> None:
    box.put(letter("bounces@news.example.org", "A question", ("x" * 76 + "\n") * (receiving.LIMIT // 70)))
    assert look().done[Done.LEFT] == 1
    assert look().taken == 0
    assert box.fetched() == 1


def test_a_mail_that_is_given_in_another_form_is_left_and_not_fetched_again(
    imap: MailboxDouble, mails: list[Received]
) -> None:
    imap.quote_at.add(imap.put(b"mail"))
    assert look().unreadable == 1
    assert look().taken == 0


def test_what_a_server_says_is_stored_whatever_it_holds(box: MailboxDouble) -> None:
    box.refuse_login, box.refusal = True, "never\0\x7f"
    assert "never" in look().trouble
    assert "never" in row().trouble


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_the_way_to_the_server_is_encrypted_and_its_certificate_checked(
    monkeypatch: pytest.MonkeyPatch, mails: list[Received], certificate: Path, protocol: str, starttls: bool
) -> None:
    with MailboxDouble(protocol, tls=tls_of(certificate), starttls=starttls) as box:
        use(monkeypatch, box)
        box.put(bounce_of(mails[0]))
        assert "certificate cannot be trusted" in look().trouble
        trusting = ssl.create_default_context(cafile=str(certificate))
        monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
        assert look().done[Done.NOTED] == 1


def test_a_mailbox_is_looked_at_once_a_minute(box: MailboxDouble, mails: list[Received]) -> None:
    box.put(bounce_of(mails[0]))
    ring = [(task, pk) for task, pk, _ in tasks.due() if task is tasks.read_bounces]
    assert ring == [(tasks.read_bounces, row().pk)]
    assert fetching.to_ring() == []
    tasks.read_bounces(row().pk)
    assert bounced() == 1
    BounceMailbox.objects.update(rung_at=F("rung_at") - timedelta(minutes=2))
    assert fetching.to_ring() == [row().pk]


def test_by_hand_it_is_watched_until_it_is_told_to_stop(
    environment: dict[str, str], start: Start, box: MailboxDouble, mails: list[Received]
) -> None:
    watching = start(sys.executable, "manage.py", "read_bounces", "--watch", BOUNCE_MAILBOX=box.url)
    box.put(bounce_of(mails[0]))
    until(lambda: not box.mails or watching.poll() is not None, "the bounce is taken out")
    watching.terminate()
    assert watching.wait(20) == 0
    assert bounced() == 1


def test_without_a_mailbox_nothing_is_read() -> None:
    assert fetching.to_ring() == []
    with pytest.raises(CommandError, match="BOUNCE_MAILBOX is not set"):
        call_command("read_bounces")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("imap://u:p@mail.example.org", "in the clear"),
        ("pop3://u:p@192.0.2.1", "in the clear"),
        ("pop3s://u:p@mail.example.org/INBOX", "POP3 has none"),
        ("imaps://u:p@mail.example.org/B%C3%BCro", "not ASCII"),
        ("imaps://mail.example.org/INBOX", "must be written like"),
        ("https://u:p@mail.example.org", "must be written like"),
        ("imaps://u:p@mail.example.org:x/", "must be written like"),
    ],
)
def test_a_url_that_cannot_be_used_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setitem(ENV.__dict__, "bounce_mailbox", SecretStr(url))
    (found,) = checks.the_mailbox_for_bounces_can_be_used()
    assert said in str(found.msg)
    assert fetching.to_ring() == []


@pytest.mark.parametrize("url", ["imaps://u:p@mail.example.org/INBOX", "pop3s://u:p@h", "imap://u:p@127.0.0.1:1143"])
def test_urls_that_can_be_used_are(url: str) -> None:
    assert fetching.problems(url) == []
    assert url not in repr(Environment(bounce_mailbox=SecretStr(url)))
