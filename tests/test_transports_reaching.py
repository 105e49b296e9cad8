"""SMTP: how the relay is found and reached, and what is no relay of ours."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from newsletter.transports import Result
from newsletter.transports.smtp import SmtpTransport
from newsletter.transports.smtp.relay import Relay
from tests.smtp_sink import EXTENSIONS, HANG_UP, WITH_CHUNKING, SmtpSink
from tests.test_transports_smtp import SOON, Sinks, hand_over, results, sinks
from tests.waiting import until

__all__ = ["sinks"]  # a fixture

STEP_BY_STEP = tuple(extension for extension in EXTENSIONS if extension != "PIPELINING")
NAME = "relay.example.org"
Resolve = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Let NAME lead to these ports of this machine, in this order, once `when` is set."""
    real = socket.getaddrinfo

    def leads_to(*ports: int, when: threading.Event | None = None) -> None:
        def answer(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
            if host != NAME:
                return list(real(host, port, *rest, **options))
            if when:
                when.wait(30)
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", each)) for each in ports]

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    return leads_to


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no attempt to connect, as behind a firewall: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def relay_that_says(*said: bytes) -> Iterator[str]:
    """A relay that says these, one after the other whatever it is told, then hangs up: its host and port."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                for each in said:
                    connection.sendall(each)
                    connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def reached_again(transport: SmtpTransport) -> list[Result]:
    """What comes of one mail, once the relay is asked again."""
    until(lambda: not transport.rests(), "the relay's rest is over")
    return results(hand_over(transport, "ada@example.org"))


def test_an_address_that_does_not_answer_gives_way_to_the_next_and_stands_behind_it_from_then_on(
    sinks: Sinks, resolve: Resolve
) -> None:
    sink = sinks()
    transport = SmtpTransport(f"smtp://{NAME}", timeout=8, messages_per_connection=1)
    with black_hole() as port:
        resolve(port, sink.port)
        # The first has half of the time; had it all of it, there would be none left for the message.
        assert results(hand_over(transport, "ada@example.org", seconds=7.9)) == [Result.ACCEPTED]
    with SmtpSink(port=port) as recovered:
        assert results(hand_over(transport, "bob@example.org", "cyd@example.org")) == [Result.ACCEPTED] * 2
        assert (sink.count(), recovered.count()) == (3, 0)
    transport.close()


def test_a_relay_none_of_whose_addresses_answers_is_away(resolve: Resolve) -> None:
    transport = SmtpTransport(f"smtp://{NAME}", timeout=SOON)
    with black_hole() as one, black_hole() as other:
        resolve(one, other)
        (outcome,) = hand_over(transport, "ada@example.org")
    transport.close()
    assert (outcome.result, outcome.tried) == (Result.LATER, False)
    assert "did not answer in time" in outcome.reply


def test_an_address_that_takes_connections_and_no_mail_stands_behind_the_others(sinks: Sinks, resolve: Resolve) -> None:
    ill, well = sinks(answers={"connect": HANG_UP}), sinks()
    resolve(ill.port, well.port)
    transport = SmtpTransport(f"smtp://{NAME}", timeout=5)
    assert results(hand_over(transport, "ada@example.org")) == [Result.LATER]
    assert reached_again(transport) == [Result.ACCEPTED]
    transport.close()
    assert (len(ill.sessions), well.count()) == (1, 1)


def test_a_resolver_that_hangs_holds_no_worker_and_no_more_than_one_thread(sinks: Sinks, resolve: Resolve) -> None:
    sink, answers = sinks(), threading.Event()
    resolve(sink.port, when=answers)
    transport = SmtpTransport(f"smtp://{NAME}", timeout=SOON)
    assert results(hand_over(transport, "ada@example.org")) == [Result.LATER]
    assert reached_again(transport) == [Result.LATER]
    assert [thread.name for thread in threading.enumerate()].count("lookup") == 1
    answers.set()
    assert reached_again(transport) == [Result.ACCEPTED]
    transport.close()
    until(lambda: "lookup" not in [thread.name for thread in threading.enumerate()], "the thread ended")


def test_a_resolver_that_hangs_is_not_waited_for_beyond_the_lease(resolve: Resolve) -> None:
    answers = threading.Event()
    resolve(when=answers)
    transport = SmtpTransport(f"smtp://{NAME}", timeout=5)
    (outcome,) = hand_over(transport, "ada@example.org", seconds=SOON)
    assert "lease ran out" in outcome.reply
    transport.close()
    answers.set()


def test_a_name_that_leads_nowhere_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (outcome,) = hand_over(f"smtp://{NAME}", "ada@example.org")
    assert (outcome.result, outcome.tried) == (Result.LATER, False)
    assert "Name or service not known" in outcome.reply


# Answers that contradict themselves.


@pytest.mark.parametrize("answer", ["550-5.7.1 no\r\n250 2.0.0 yes", "250-2.0.0 yes\r\n550 5.7.1 no"])
@pytest.mark.parametrize("step", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "message"])
@pytest.mark.parametrize(
    "extensions", [WITH_CHUNKING, EXTENSIONS, STEP_BY_STEP], ids=["chunking", "pipelining", "step by step"]
)
def test_an_answer_of_two_codes_is_neither(sinks: Sinks, extensions: tuple[str, ...], step: str, answer: str) -> None:
    # RFC 5321 section 4.2.1: the code of every line must be the same.
    sink = sinks(extensions=extensions, answers={step: answer})
    outcomes = hand_over(sink, "ada@example.org")
    left = step == "message" or (extensions == WITH_CHUNKING and step in {"MAIL", "RCPT"})
    if extensions == WITH_CHUNKING and step == "DATA":
        wanted = Result.ACCEPTED  # it is never asked
    else:
        wanted = Result.UNKNOWN if left else Result.LATER
    assert results(outcomes) == [wanted]
    if wanted != Result.ACCEPTED:
        assert f"begins with {answer[:3]} and goes on with" in outcomes[0].reply
    if wanted == Result.LATER:
        assert sink.count() == 0


@pytest.mark.parametrize("extensions", [EXTENSIONS, STEP_BY_STEP], ids=["pipelining", "step by step"])
def test_no_message_leaves_once_the_relay_talks_nonsense(sinks: Sinks, extensions: tuple[str, ...]) -> None:
    sink = sinks(extensions=extensions, answers={"DATA": "354 go on\r\nhello"})
    assert results(hand_over(sink, "ada@example.org")) == [Result.LATER]
    assert sink.count() == 0


def test_no_password_leaves_once_the_relay_talks_nonsense(sinks: Sinks) -> None:
    sink = sinks(credentials=("ann", "right"), answers={"EHLO": "250-sink\r\n250 AUTH PLAIN\r\nhello"})
    url = f"smtp://ann:right@127.0.0.1:{sink.port}"
    assert results(hand_over(url, "ada@example.org")) == [Result.LATER]
    assert not any(command.startswith("AUTH") for command in sink.sessions[0].commands)


# Encryption that is none.

GREETING = (b"220 relay\r\n", b"250-relay\r\n250 STARTTLS\r\n")


@pytest.mark.parametrize(
    "said", [b"250 I am the relay\r\n", b"hello world\r\n", b"\x00" * 40, b"\x16\x03\x03\x00\x04\x02\x00\x00\x00"]
)
def test_what_is_no_tls_after_starttls_is_told_as_that(said: bytes) -> None:
    with relay_that_says(*GREETING, b"220 go ahead\r\n", said) as place:
        (outcome,) = hand_over(f"smtp+starttls://ann:secret@{place}", "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert "no TLS" in outcome.reply
    assert "tampers" in outcome.reply


@pytest.mark.parametrize("said", [b"250 I am the relay\r\n", b"hello world\r\n", b"25"])
def test_what_is_said_with_the_answer_to_starttls_is_told_as_that(said: bytes) -> None:
    with relay_that_says(*GREETING, b"220 go ahead\r\n" + said) as place:
        (outcome,) = hand_over(f"smtp+starttls://ann:secret@{place}", "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert "in the clear after STARTTLS" in outcome.reply


def test_a_relay_that_refuses_every_encryption_is_told_as_that() -> None:
    alert = b"\x15\x03\x03\x00\x02\x02\x28"  # fatal: handshake failure
    with relay_that_says(*GREETING, b"220 go ahead\r\n", alert) as place:
        (outcome,) = hand_over(f"smtp+starttls://{place}", "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert "handshake failure" in outcome.reply
    assert "tampers" not in outcome.reply


def test_a_port_without_encryption_is_told_as_that(sinks: Sinks) -> None:
    sink = sinks()
    (outcome,) = hand_over(f"smtps://127.0.0.1:{urlsplit(sink.url).port}", "ada@example.org")
    assert outcome.result == Result.SENDER_REFUSED
    assert "the port is a wrong one" in outcome.reply


def test_a_relay_that_hangs_up_in_the_handshake_is_away() -> None:
    with relay_that_says(*GREETING, b"220 go ahead\r\n") as place:
        (outcome,) = hand_over(f"smtp+starttls://{place}", "ada@example.org")
    assert (outcome.result, outcome.tried) == (Result.LATER, False)


def test_a_relay_does_not_show_its_password() -> None:
    relay = Relay.from_url("smtps://user:secret@mail.example.org")
    assert relay.password == "secret"
    assert "secret" not in f"{relay} {relay!r}"
