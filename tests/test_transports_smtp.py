"""SMTP: what each answer, and each silence of the relay means for a message, told by a server that misbehaves."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from newsletter import clock, message, transports
from newsletter.fields import Slot, SlotTable
from newsletter.rendering import Rendered
from newsletter.transports import Outcome, Result
from newsletter.transports.outcomes import one_line
from newsletter.transports.smtp import GIVE_UP_AFTER, SmtpTransport, problems
from tests.smtp_sink import EXTENSIONS, HANG_UP, WITH_CHUNKING, SmtpSink, read_journal
from tests.waiting import until

SENDER = message.Sender(
    name="The Weekly",
    address="news@example.org",
    reply_to="",
    list_id="weekly.news.example.org",
    list_name="The Weekly",
    feedback_id="i12:n1:issue:masthead",
    domain="news.example.org",
    language="en",
)
PLAIN = [extension for extension in EXTENSIONS if extension != "PIPELINING"]
SOON = 0.3  # seconds until these tests find a relay too slow


def make_compiled(text: str = "Hello\n.\n..dots\n") -> message.Compiled:
    table = SlotTable()
    text += table.marker(Slot("name", "there"))
    return message.compile(Rendered("Weekly", "", "", text, tuple(table.slots), (), 0, (), ()), SENDER)


def make_reader(address: str = "ada@example.org", delivery_id: int = 1) -> message.Reader:
    return message.Reader(
        delivery_id=delivery_id,
        address=address,
        name="",
        message_id=f"token{delivery_id}@news.example.org",
        date=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
        values={"unsubscribe_url": f"https://news.example.org/u/{delivery_id}"},
    )


Sinks = Callable[..., SmtpSink]


@pytest.fixture
def sinks() -> Iterator[Sinks]:
    """Make sinks that stop with the test."""
    made: list[SmtpSink] = []

    def make(**options: Any) -> SmtpSink:
        made.append(SmtpSink(**options))
        return made[-1]

    yield make
    for sink in made:
        sink.stop()


def hand_over(where: SmtpSink | SmtpTransport | str, *addresses: str, seconds: float = 30) -> list[Outcome]:
    """Hand one message to each of `addresses`; over a transport of its own unless given one."""
    readers = [make_reader(address, number) for number, address in enumerate(addresses, 1)]
    url = where.url if isinstance(where, SmtpSink) else where
    transport = url if isinstance(url, SmtpTransport) else SmtpTransport(url, timeout=5)
    try:
        outcomes = transports.hand_over(transport, [(make_compiled(), readers)], SENDER, deadline=clock.now() + seconds)
    finally:
        if transport is not where:
            transport.close()
    assert [outcome.delivery_id for outcome in outcomes] == [reader.delivery_id for reader in readers]
    return outcomes


def results(outcomes: list[Outcome]) -> list[Result]:
    return [outcome.result for outcome in outcomes]


@pytest.fixture(params=[EXTENSIONS, PLAIN], ids=["pipelining", "step by step"])
def extensions(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


def test_each_reader_gets_one_message_as_it_was_assembled(sinks: Sinks, extensions: list[str]) -> None:
    sink = sinks(extensions=extensions)
    outcomes = hand_over(sink, "ada@example.org", "bob@example.org")
    assert results(outcomes) == [Result.ACCEPTED] * 2
    assert outcomes[0].reply == "250 2.0.0 kept"
    (kept,) = sink.messages("bob@example.org")
    assert kept.raw == message.assemble(make_compiled(), make_reader("bob@example.org", 2))
    assert kept.sender == "news@example.org"
    assert sink.count() == 2


@pytest.mark.parametrize("offered", ["PIPELINING", "8BITMIME"])
def test_commands_go_out_together_only_where_pipelining_is_offered(offered: str) -> None:
    said: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 hello\r\n")
            connection.recv(65536)
            connection.sendall(f"250-relay\r\n250 {offered}\r\n".encode())
            said.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        hand_over(f"smtp://127.0.0.1:{listener.getsockname()[1]}", "ada@example.org", seconds=SOON)
        thread.join(5)
    together = b"MAIL FROM:<news@example.org>\r\nRCPT TO:<ada@example.org>\r\nDATA\r\n"
    assert said == [together if offered == "PIPELINING" else b"MAIL FROM:<news@example.org>\r\n"]


@pytest.mark.parametrize(
    ("address", "result", "kept"),
    [
        ("refuse550-a@example.org", Result.REFUSED, 0),
        ("later451-a@example.org", Result.LATER, 0),
        ("data554-a@example.org", Result.REFUSED, 0),
        ("data451-a@example.org", Result.LATER, 0),
        ("final550-a@example.org", Result.REFUSED, 0),
        ("final451-a@example.org", Result.LATER, 0),
        ("close421-a@example.org", Result.LATER, 0),
        ("final421-a@example.org", Result.LATER, 0),
        ("drop-at-rcpt-a@example.org", Result.LATER, 0),
        ("drop-at-data-a@example.org", Result.LATER, 0),
        ("drop-before-dot-a@example.org", Result.UNKNOWN, 0),
        ("drop-after-dot-a@example.org", Result.UNKNOWN, 1),
        ("lose-after-dot-a@example.org", Result.UNKNOWN, 0),
        ("a b@example.org", Result.REFUSED, 0),
    ],
)
def test_one_readers_trouble_is_that_readers_alone(
    sinks: Sinks, extensions: list[str], address: str, result: Result, kept: int
) -> None:
    sink = sinks(extensions=extensions)
    outcomes = hand_over(sink, "before@example.org", address, "after@example.org")
    assert results(outcomes) == [Result.ACCEPTED, result, Result.ACCEPTED]
    assert sink.count(address) == kept
    assert (sink.count("before@example.org"), sink.count("after@example.org"), sink.count()) == (1, 1, 2 + kept)


@pytest.mark.parametrize("step", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "message"])
@pytest.mark.parametrize("code", [421, 451, 550])
def test_what_a_refusal_means_depends_on_the_step(sinks: Sinks, extensions: list[str], step: str, code: int) -> None:
    sink = sinks(extensions=extensions, answers={step: f"{code} 1.2.3 as told", "HELO": f"{code} 1.2.3 as told"})
    outcomes = hand_over(sink, "ada@example.org", "bob@example.org")
    wanted = Result.LATER if code < 500 else Result.REFUSED
    if code == 550 and step in {"connect", "EHLO", "MAIL"}:
        wanted = Result.SENDER_REFUSED
    assert results(outcomes) == [wanted] * 2
    assert outcomes[0].reply == f"{code} 1.2.3 as told"
    assert sink.count() == 0


@pytest.mark.parametrize("step", ["connect", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_relay_that_hangs_up_before_the_message_leaves_no_doubt(
    sinks: Sinks, extensions: list[str], step: str
) -> None:
    sink = sinks(extensions=extensions, answers={step: HANG_UP})
    assert results(hand_over(sink, "ada@example.org")) == [Result.LATER]
    assert sink.count() == 0


@pytest.mark.parametrize("step", ["connect", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_relay_that_is_silent_before_the_message_leaves_no_doubt(sinks: Sinks, step: str) -> None:
    sink = sinks(answers={step: silent_for(4 * SOON)})
    transport = SmtpTransport(sink.url, timeout=SOON)
    (outcome,) = hand_over(transport, "ada@example.org")
    transport.close()
    assert outcome.result == Result.LATER
    assert "did not answer in time" in outcome.reply
    assert sink.count() == 0


def test_a_relay_that_hangs_up_while_the_message_is_written_leaves_no_doubt(sinks: Sinks) -> None:
    sink = sinks()
    readers = [make_reader("drop-before-dot-ada@example.org")]
    compiled = make_compiled("more than the buffers between us and the relay hold\n" * 300_000)
    transport = SmtpTransport(sink.url, timeout=5)
    (outcome,) = transports.hand_over(transport, [(compiled, readers)], SENDER, deadline=clock.now() + 30)
    assert outcome.result == Result.LATER
    assert sink.count() == 0


def test_a_relay_that_is_silent_after_the_message_leaves_a_doubt(sinks: Sinks) -> None:
    sink = sinks(delay=4 * SOON)
    transport = SmtpTransport(sink.url, timeout=SOON)
    outcomes = hand_over(transport, "slow-ada@example.org", "bob@example.org")
    transport.close()
    assert results(outcomes) == [Result.UNKNOWN, Result.ACCEPTED]
    until(lambda: sink.count("slow-ada@example.org") == 1, "the slow relay kept the message after all")


def test_a_doubt_is_never_tried_again(sinks: Sinks) -> None:
    sink = sinks()
    transport = SmtpTransport(sink.url, timeout=5)
    addresses = ["ada@example.org", "drop-after-dot-bob@example.org"]
    assert results(hand_over(transport, *addresses)) == [Result.ACCEPTED, Result.UNKNOWN]
    assert sink.count("drop-after-dot-bob@example.org") == 1
    transport.close()


def silent_for(seconds: float) -> Callable[[Any], None]:
    return lambda _: time.sleep(seconds)


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
def test_a_demand_to_sign_in_is_about_the_sender_at_whatever_step(sinks: Sinks, step: str) -> None:
    sink = sinks(answers={step: "530 5.7.0 authentication required"})
    assert results(hand_over(sink, "ada@example.org", "bob@example.org")) == [Result.SENDER_REFUSED] * 2


def test_once_the_sender_is_refused_nobody_else_is_tried(sinks: Sinks) -> None:
    sink = sinks(answers={"MAIL": "550 5.7.1 go away"})
    outcomes = hand_over(sink, *(f"reader{number}@example.org" for number in range(20)))
    assert sum(command.startswith("MAIL") for session in sink.sessions for command in session.commands) == 1
    assert [outcome.tried for outcome in outcomes].count(True) == 1


def test_an_empty_message_is_never_delivered_where_data_is_taken_without_a_recipient(sinks: Sinks) -> None:
    # RFC 2920 section 3.1 lets a relay answer 354 though every RCPT was refused.
    sink = sinks(answers={"DATA": "354 go on"})
    outcomes = hand_over(sink, "refuse550-a@example.org", "later451-b@example.org", "ada@example.org")
    assert results(outcomes) == [Result.REFUSED, Result.LATER, Result.ACCEPTED]
    assert [kept.rcpt for kept in sink.messages()] == ["ada@example.org"]
    assert len(sink.sessions) == 1


def test_the_connection_is_kept_from_chunk_to_chunk(sinks: Sinks) -> None:
    sink = sinks()
    transport = SmtpTransport(sink.url, timeout=5)
    for _ in range(3):
        assert results(hand_over(transport, "ada@example.org", "bob@example.org")) == [Result.ACCEPTED] * 2
    transport.close()
    assert len(sink.sessions) == 1
    until(lambda: sink.sessions[0].commands[-1] == "QUIT", "the relay was told QUIT")


def test_a_new_connection_is_opened_after_so_many_messages(sinks: Sinks) -> None:
    sink = sinks()
    transport = SmtpTransport(sink.url, timeout=5, messages_per_connection=7)
    addresses = [f"reader{number}@example.org" for number in range(15)]
    assert results(hand_over(transport, *addresses)) == [Result.ACCEPTED] * len(addresses)
    transport.close()
    assert [session.kept for session in sink.sessions] == [7, 7, 1]


def test_a_connection_lost_between_two_messages_costs_no_reader_a_try(sinks: Sinks) -> None:
    sink = sinks()
    transport = SmtpTransport(sink.url, timeout=5)
    hand_over(transport, "ada@example.org")
    sink.hang_up()
    assert results(hand_over(transport, "bob@example.org")) == [Result.ACCEPTED]
    sink.answers["MAIL"] = lambda session: "421 4.7.0 enough for one connection" if session.kept else None
    assert results(hand_over(transport, "cyd@example.org", "dan@example.org")) == [Result.ACCEPTED] * 2
    transport.close()
    assert Counter(kept.rcpt for kept in sink.messages()).most_common(1)[0][1] == 1


def test_a_relay_that_cannot_be_reached_is_not_tried_for_every_reader(sinks: Sinks) -> None:
    sink = sinks(answers={"connect": HANG_UP})
    outcomes = hand_over(sink, *(f"reader{number}@example.org" for number in range(50)))
    assert results(outcomes) == [Result.LATER] * 50
    assert not any(outcome.tried for outcome in outcomes), "no fault of these messages"
    assert len(sink.sessions) == 1


def test_a_relay_that_closes_after_every_message_is_not_tried_for_every_reader(sinks: Sinks) -> None:
    sink = sinks(answers={"message": "421 4.3.2 closing"})
    assert results(hand_over(sink, *(f"reader{number}@example.org" for number in range(50)))) == [Result.LATER] * 50
    assert len(sink.sessions) == GIVE_UP_AFTER


def test_a_relay_that_never_answers_a_message_leaves_few_doubts(sinks: Sinks) -> None:
    sink = sinks(answers={"message": HANG_UP})
    outcomes = hand_over(sink, *(f"reader{number}@example.org" for number in range(50)))
    assert Counter(results(outcomes)) == {Result.UNKNOWN: GIVE_UP_AFTER, Result.LATER: 50 - GIVE_UP_AFTER}
    assert sink.count() == GIVE_UP_AFTER


def test_a_closed_port_leaves_no_doubt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (outcome,) = hand_over(f"smtp://127.0.0.1:{port}", "ada@example.org")
    assert outcome.result == Result.LATER
    assert "refused" in outcome.reply


def test_nothing_leaves_after_the_deadline(sinks: Sinks) -> None:
    sink = sinks()
    assert results(hand_over(sink, "ada@example.org", seconds=0)) == [Result.LATER]
    assert sink.sessions == []


def test_a_message_begun_in_time_does_not_leave_after_the_deadline(sinks: Sinks) -> None:
    sink = sinks(answers={"DATA": silent_for(SOON)})
    outcomes = hand_over(sink, "ada@example.org", "bob@example.org", seconds=SOON / 3)
    assert results(outcomes) == [Result.LATER] * 2
    assert "lease ran out" in outcomes[0].reply
    assert sink.count() == 0


@pytest.mark.parametrize("extensions", [EXTENSIONS, ["PIPELINING", "8BITMIME"], ["SMTPUTF8"]])
def test_a_non_ascii_local_part_needs_smtputf8(sinks: Sinks, extensions: list[str]) -> None:
    sink = sinks(extensions=extensions)
    outcomes = hand_over(sink, "jörg@example.org", "ada@example.org")
    supported = {"8BITMIME", "SMTPUTF8"} <= set(extensions)
    assert results(outcomes) == [Result.ACCEPTED if supported else Result.REFUSED, Result.ACCEPTED]
    asked = [command for command in sink.sessions[0].commands if "SMTPUTF8" in command]
    assert len(asked) == (1 if supported else 0), "only the reader who needs it asks for it"
    if not supported:
        assert "not supported by this route" in outcomes[0].reply
    assert [outcome.tried for outcome in outcomes] == [supported, True]


def test_a_relay_without_ehlo_is_greeted_with_helo(sinks: Sinks) -> None:
    sink = sinks(answers={"EHLO": "502 5.5.1 not here"})
    assert results(hand_over(sink, "ada@example.org")) == [Result.ACCEPTED]
    assert "HELO news.example.org" in sink.sessions[0].commands


@pytest.mark.parametrize("offered", [EXTENSIONS, WITH_CHUNKING, PLAIN], ids=["pipelining", "chunking", "step by step"])
def test_each_mail_comes_back_to_a_return_address_of_its_own(sinks: Sinks, offered: list[str]) -> None:
    sink = sinks(extensions=offered)
    own = [replace(make_reader(f"r{n}@example.org", n), return_address=f"bounces+{n}@example.org") for n in (1, 2, 3)]
    readers = [*own, make_reader("r4@example.org", 4)]
    transport = SmtpTransport(sink.url, timeout=5)
    transports.hand_over(transport, [(make_compiled(), readers)], SENDER, deadline=clock.now() + 30)
    transport.close()
    assert {mail.rcpt: mail.sender for mail in sink.messages()} == {
        **{f"r{n}@example.org": f"bounces+{n}@example.org" for n in (1, 2, 3)},
        "r4@example.org": SENDER.address,
    }


def test_the_relay_is_told_the_size(sinks: Sinks) -> None:
    sink = sinks()
    hand_over(sink, "ada@example.org")
    size = len(sink.messages()[0].raw)
    assert f"MAIL FROM:<news@example.org> SIZE={size}" in sink.sessions[0].commands


def test_answers_of_many_lines_and_in_pieces_are_read(sinks: Sinks) -> None:
    sink = sinks(answers={"RCPT": "550-5.1.1 first\r\n550-5.1.1 second\r\n550 5.1.1 third"})
    assert hand_over(sink, "ada@example.org")[0].reply == "550 5.1.1 first 5.1.1 second 5.1.1 third"


@pytest.mark.parametrize("answer", ["hello", "25x what", "99", "\x00\x01", "HTTP/1.1 400 Bad Request"])
def test_what_is_no_smtp_leaves_no_doubt_before_the_message(sinks: Sinks, answer: str) -> None:
    assert results(hand_over(sinks(answers={"RCPT": answer}), "ada@example.org")) == [Result.LATER]
    assert results(hand_over(sinks(answers={"message": answer}), "ada@example.org")) == [Result.UNKNOWN]


def test_no_address_is_kept_in_what_the_relay_said(sinks: Sinks) -> None:
    said = '550 5.1.1 <Ada@Example.org> "ada smith"@example.org bounces+ada=example.org@relay.example unknown'
    reply = hand_over(sinks(answers={"RCPT": said}), "ada@example.org")[0].reply
    assert reply == "550 5.1.1 <(address)> (address) (address) unknown"


def test_what_the_relay_said_stays_one_short_line() -> None:
    assert one_line("550 a\r\nb\x00\u202e c" + "x" * 999) == ("550 a b c" + "x" * 999)[:300]


def test_an_ipv6_relay_is_reached() -> None:
    try:
        sink = SmtpSink(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with sink:
        assert results(hand_over(sink, "ada@example.org")) == [Result.ACCEPTED]


# Signing in, and encryption.


def with_user(sink: SmtpSink, user: str, password: str, *, scheme: str = "") -> str:
    parts = urlsplit(sink.url)
    return f"{scheme or parts.scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_the_user_of_the_url_signs_in(sinks: Sinks, mechanism: str) -> None:
    sink = sinks(credentials=("ann@relay", "p:/@ü"), mechanisms=[mechanism])
    assert results(hand_over(with_user(sink, "ann@relay", "p:/@ü"), "ada@example.org")) == [Result.ACCEPTED]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
def test_a_wrong_password_is_about_the_sender(sinks: Sinks, mechanism: str) -> None:
    sink = sinks(credentials=("ann@relay.example", "right"), mechanisms=[mechanism])
    (outcome,) = hand_over(with_user(sink, "ann@relay.example", "wrong"), "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert "ann@relay.example" not in outcome.reply
    assert "wrong" not in outcome.reply


def test_a_relay_that_cannot_sign_in_anyone_for_now_is_tried_later(sinks: Sinks) -> None:
    sink = sinks(credentials=("ann", "right"), answers={"AUTH": "454 4.7.0 later"})
    assert results(hand_over(with_user(sink, "ann", "right"), "ada@example.org")) == [Result.LATER]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "relay.pem"
    pem, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(key.private_bytes(pem, kind, serialization.NoEncryption()) + made.public_bytes(pem))
    return file


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("implicit", [True, False], ids=["smtps", "starttls"])
def test_mail_and_password_go_encrypted(
    sinks: Sinks, certificate: Path, monkeypatch: pytest.MonkeyPatch, implicit: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sink = sinks(tls=tls_of(certificate), implicit_tls=implicit, credentials=("ann", "right"))
    outcomes = hand_over(with_user(sink, "ann", "right"), "ada@example.org", "drop-after-dot-bob@example.org")
    assert results(outcomes) == [Result.ACCEPTED, Result.UNKNOWN]
    assert all(session.secured and session.signed_in for session in sink.sessions)
    if not implicit:
        first = sink.sessions[0].commands
        assert [command.split()[0] for command in first[:4]] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


@pytest.mark.parametrize("implicit", [True, False], ids=["smtps", "starttls"])
def test_a_certificate_nobody_vouches_for_is_refused(sinks: Sinks, certificate: Path, implicit: bool) -> None:
    sink = sinks(tls=tls_of(certificate), implicit_tls=implicit, credentials=("ann", "right"))
    (outcome,) = hand_over(with_user(sink, "ann", "right"), "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert "certificate of 127.0.0.1 cannot be trusted" in outcome.reply
    assert not any(command.startswith(("AUTH", "MAIL")) for command in sink.sessions[0].commands)


def test_nothing_is_said_in_the_clear_where_starttls_was_asked_for(sinks: Sinks) -> None:
    sink = sinks(credentials=("ann", "right"))
    (outcome,) = hand_over(with_user(sink, "ann", "right", scheme="smtp+starttls"), "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert sink.sessions[0].commands == ["EHLO news.example.org"]


def test_what_is_said_in_the_clear_after_starttls_is_not_believed(sinks: Sinks, certificate: Path) -> None:
    sink = sinks(tls=tls_of(certificate), answers={"STARTTLS": "220 go ahead\r\n250 I am the relay, too"})
    (outcome,) = hand_over(sink, "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert "in the clear" in outcome.reply


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("smtp://127.0.0.1:1025", 0),
        ("smtp://ann:secret@localhost", 0),
        ("smtps://ann:secret@relay.example", 0),
        ("smtp+starttls://ann:secret@relay.example:587", 0),
        ("smtp://ann:secret@relay.example", 1),
        ("http://relay.example", 1),
        ("smtp://", 1),
    ],
)
def test_a_url_that_cannot_be_used_is_said_in_a_sentence(url: str, count: int) -> None:
    said = problems(url)
    assert len(said) == count
    assert not any("secret" in sentence for sentence in said)


def test_without_a_provider_the_transport_is_smtp() -> None:
    transport = transports.open_transport()
    assert transport.name == "smtp"
    assert transports.problems() == []
    transport.close()


# The sink itself, which others trust.


def test_the_journal_of_a_sink_outlives_it(sinks: Sinks, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    first = sinks(journal=journal)
    hand_over(first, "ada@example.org", "drop-after-dot-bob@example.org", "lose-after-dot-cyd@example.org")
    first.stop()
    with journal.open("ab") as file:
        file.write(b'{"rcpt": "cut off')
    kept = read_journal(journal)
    assert [(each.rcpt, each.answered, each.message_id) for each in kept] == [
        ("ada@example.org", True, "token1@news.example.org"),
        ("drop-after-dot-bob@example.org", False, "token2@news.example.org"),
    ]
    assert sinks(journal=tmp_path / "journal").count() == 2


def test_a_sink_misbehaves_once_where_told_so(sinks: Sinks) -> None:
    sink = sinks()
    assert results(hand_over(sink, *["once-final451-ada@example.org"] * 2)) == [Result.LATER, Result.ACCEPTED]


def test_a_sink_refuses_bare_line_feeds(sinks: Sinks) -> None:
    sink = sinks(extensions=[])
    with socket.create_connection((sink.host, sink.port), 5) as connection, connection.makefile("rb") as replies:
        for line in ["EHLO a", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA"]:
            replies.readline()
            connection.sendall(f"{line}\r\n".encode())
        replies.readline()
        connection.sendall(b"a\n.\nb\r\n.\r\n")
        assert replies.readline().startswith((b"354", b"550"))
    until(lambda: sink.sessions[0].sender is None, "the message was refused")
    assert sink.count() == 0
