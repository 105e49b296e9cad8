"""SMTP with messages close behind each other: whatever goes wrong in the middle, each reader has one true outcome."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter import clock, transports
from newsletter.message import dkim
from newsletter.transports import Outcome, Result
from newsletter.transports.smtp import DEPTH, GIVE_UP_AFTER, SmtpTransport
from newsletter.transports.smtp.connections import Connections
from newsletter.transports.smtp.load import Load
from newsletter.transports.smtp.replies import Replies
from tests.smtp_sink import EXTENSIONS, HANG_UP, WITH_CHUNKING, Session, SmtpSink
from tests.test_transports_smtp import SENDER, Sinks, make_compiled, make_reader, results, silent_for, sinks
from tests.waiting import until

__all__ = ["sinks"]  # a fixture

STEP_BY_STEP = tuple(extension for extension in EXTENSIONS if extension != "PIPELINING")
WAYS = {"chunking": WITH_CHUNKING, "pipelining": EXTENSIONS, "step by step": STEP_BY_STEP}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def extensions(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return tuple(request.param)


class Counting(dkim.Signer):
    """Knows how many messages were signed."""

    signed: ClassVar[int] = 0

    def sign(self, octets: bytes) -> bytes:
        type(self).signed += 1
        return super().sign(octets)


def crowd(count: int, **special: str) -> list[str]:
    """`count` addresses; `r3="refuse550-"` puts that before the third's."""
    return [f"{special.get(f'r{number}', '')}r{number}@example.org" for number in range(1, count + 1)]


def hand_over(
    transport: SmtpTransport, addresses: list[str], *, text: str = "Hello\n", seconds: float = 30
) -> list[Outcome]:
    readers = [make_reader(address, number) for number, address in enumerate(addresses, 1)]
    outcomes = transports.hand_over(transport, [(make_compiled(text), readers)], SENDER, deadline=clock.now() + seconds)
    assert [outcome.delivery_id for outcome in outcomes] == [reader.delivery_id for reader in readers]
    return outcomes


@contextlib.contextmanager
def transport_to(
    sink: SmtpSink, *, connections: int = 1, timeout: float = 5, most: int = 100
) -> Iterator[SmtpTransport]:
    transport = SmtpTransport(sink.url, timeout=timeout, connections=connections, messages_per_connection=most)
    yield transport
    transport.close()


@pytest.mark.parametrize("way", ["pipelining", "step by step"])
def test_the_next_message_is_made_while_the_relay_is_busy_with_the_one_before(sinks: Sinks, way: str) -> None:
    Counting.signed = 0
    under_way = 2 if way == "pipelining" else 1  # the second's envelope goes with the first

    def wait() -> None:
        until(lambda: Counting.signed > under_way, "the next message is made", seconds=10)

    calls = iter([wait])

    def busy(_: Session) -> None:
        for call in calls:
            call()

    sink = sinks(answers={"message": busy}, extensions=WAYS[way])
    key = ed25519.Ed25519PrivateKey.generate()
    transport = SmtpTransport(sink.url, timeout=20, signers=[Counting("example.org", "s", key)])
    assert results(hand_over(transport, crowd(4))) == [Result.ACCEPTED] * 4
    transport.close()
    assert next(calls, None) is None, "the relay waited for it"


def test_of_a_relay_that_takes_its_time_the_last_answers_come_while_more_is_had(
    sinks: Sinks, extensions: tuple[str, ...]
) -> None:
    may_answer, addresses = threading.Event(), crowd(8)

    def wait_for_the_last(session: Session) -> None:
        if session.kept == 7:
            assert may_answer.wait(15), "it was asked for more meanwhile"

    sink = sinks(answers={"message": wait_for_the_last}, extensions=extensions)
    readers = [make_reader(address, number) for number, address in enumerate(addresses, 1)]
    first: list[Outcome] = []
    second: list[Outcome] = []
    with transport_to(sink, timeout=20) as transport:
        transport.hand_over([(make_compiled("Hello"), readers)], SENDER, first, deadline=clock.now() + 30)
        assert 6 <= len(first) <= 7
        may_answer.set()
        transport.hand_over([(make_compiled("Hello"), readers[:1])], SENDER, second, deadline=clock.now() + 30)
        transport.finish()
    assert results(first) == [Result.ACCEPTED] * 8
    assert results(second) == [Result.ACCEPTED]
    assert len(sink.sessions) == 1


def test_what_is_late_keeps_back_nothing_that_is_not(sinks: Sinks) -> None:
    """The lease was renewed between the two."""
    sink = sinks()
    late, in_time = make_reader("late@example.org", 1), make_reader("ada@example.org", 2)
    first: list[Outcome] = []
    second: list[Outcome] = []
    with transport_to(sink) as transport:
        transport.hand_over([(make_compiled("Hello"), [late])], SENDER, first, deadline=clock.now() - 1)
        transport.hand_over([(make_compiled("Hello"), [in_time])], SENDER, second, deadline=clock.now() + 30)
        transport.finish()
    assert (results(first), results(second)) == ([Result.LATER], [Result.ACCEPTED])


def test_no_connection_is_opened_for_what_is_late(sinks: Sinks) -> None:
    sink = sinks()
    with transport_to(sink) as transport:
        assert results(hand_over(transport, crowd(2), seconds=-1)) == [Result.LATER] * 2
    assert sink.sessions == []


def test_a_fault_of_our_own_in_the_midst_is_raised_and_the_next_chunk_goes(
    sinks: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, before = sinks(), set(threading.enumerate())
    with transport_to(sink) as transport:
        hand_over(transport, crowd(2))
        with monkeypatch.context() as broken:
            broken.setattr("newsletter.message.assemble", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                hand_over(transport, crowd(2))
        assert results(hand_over(transport, crowd(2))) == [Result.ACCEPTED] * 2
    assert "smtp" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_a_fault_in_closing_after_a_fault_leaves_nobody_waiting(sinks: Sinks, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sinks()
    closing = Connections.close

    def close_badly(connections: Connections) -> None:
        closing(connections)
        raise KeyError("closed badly")

    monkeypatch.setattr("threading.excepthook", lambda _: None)
    monkeypatch.setattr(Connections, "close", close_badly)
    monkeypatch.setattr("newsletter.message.assemble", lambda *_: 1 // 0)
    with transport_to(sink) as transport, pytest.raises(ZeroDivisionError):
        hand_over(transport, crowd(2))


def test_a_fault_met_after_the_hand_over_is_raised_before_more_is_claimed(
    sinks: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = threading.Event()

    def wait_for_the_last(session: Session) -> None:
        if session.kept == 7:
            assert may_answer.wait(15)

    sink, readers = sinks(answers={"message": wait_for_the_last}), [make_reader(each) for each in crowd(8)]
    with transport_to(sink, timeout=20) as transport:
        transport.hand_over([(make_compiled("Hello"), readers)], SENDER, [], deadline=clock.now() + 30)
        monkeypatch.setattr(Load, "settle", lambda *_, **__: 1 // 0)
        may_answer.set()
        with pytest.raises(ZeroDivisionError):
            until(transport.rests, "the fault is met")


def test_a_message_that_cannot_be_made_ahead_is_refused_in_its_turn_and_the_others_go(sinks: Sinks) -> None:
    class Broken(dkim.Signer):
        def sign(self, octets: bytes) -> bytes:
            if b"r2@example.org" in octets:
                raise ValueError("There is no such key.")
            return super().sign(octets)

    sink = sinks()
    key = ed25519.Ed25519PrivateKey.generate()
    transport = SmtpTransport(sink.url, timeout=5, signers=[Broken("example.org", "s", key)])
    outcomes = hand_over(transport, crowd(3))
    transport.close()
    assert results(outcomes) == [Result.ACCEPTED, Result.REFUSED, Result.ACCEPTED]
    assert outcomes[1].reply == "There is no such key."


def assert_true(outcomes: list[Outcome], addresses: list[str], sink: SmtpSink) -> None:
    """What the report says of each reader, held against what the sink kept."""
    for outcome, address in zip(outcomes, addresses, strict=True):
        kept = sink.count(address)
        allowed = {0, 1} if outcome.result == Result.UNKNOWN else {1} if outcome.result == Result.ACCEPTED else {0}
        assert kept in allowed, f"{address}: {outcome.result}, and kept {kept} times"


@pytest.mark.parametrize("connections", [1, 3])
def test_all_go_out_once_and_as_they_were_assembled(
    sinks: Sinks, extensions: tuple[str, ...], connections: int
) -> None:
    sink, addresses = sinks(extensions=extensions), crowd(60)
    with transport_to(sink, connections=connections) as transport:
        for _ in range(2):
            assert set(results(hand_over(transport, addresses))) == {Result.ACCEPTED}
    assert Counter(kept.rcpt for kept in sink.messages()) == Counter(addresses * 2)
    assert len(sink.sessions) <= connections + 2


@pytest.mark.parametrize("special", ["refuse550-", "later451-", "data554-", "data451-", "final550-", "final451-"])
def test_a_refusal_in_the_middle_is_that_readers_alone(sinks: Sinks, extensions: tuple[str, ...], special: str) -> None:
    # The sink adds to an envelope that failed until RSET: a next message without one would go to two readers.
    sink, addresses = sinks(extensions=extensions), crowd(20, r4=special, r11=special, r12=special, r20=special)
    with transport_to(sink) as transport:
        outcomes = hand_over(transport, addresses)
        wanted = Result.LATER if "451" in special else Result.REFUSED
        special_ones = [address.startswith(special) for address in addresses]
        assert results(outcomes) == [wanted if special else Result.ACCEPTED for special in special_ones]
        assert_true(outcomes, addresses, sink)
        assert all(outcome.tried for outcome in outcomes)
        assert set(results(hand_over(transport, crowd(3)))) == {Result.ACCEPTED}
    assert len(sink.sessions) == 1


@pytest.mark.parametrize("special", ["close421-", "final421-"])
def test_421_in_the_middle_leaves_no_doubt_and_stops_nobody_else(
    sinks: Sinks, extensions: tuple[str, ...], special: str
) -> None:
    sink, addresses = sinks(extensions=extensions), crowd(20, r9=special)
    with transport_to(sink, connections=2) as transport:
        outcomes = hand_over(transport, addresses)
    assert [address for address, outcome in zip(addresses, outcomes, strict=True) if outcome.result != "accepted"] == [
        addresses[8]
    ]
    assert outcomes[8].result == Result.LATER
    assert_true(outcomes, addresses, sink)


@pytest.mark.parametrize("special", ["drop-at-rcpt-", "drop-at-data-", "drop-before-dot-", "drop-after-dot-"])
def test_a_connection_lost_in_the_middle_puts_in_doubt_only_what_had_left(
    sinks: Sinks, extensions: tuple[str, ...], special: str
) -> None:
    sink, addresses = sinks(extensions=extensions), crowd(30, r12=special)
    with transport_to(sink) as transport:
        outcomes = hand_over(transport, addresses)
    assert_true(outcomes, addresses, sink)
    doubts = results(outcomes).count(Result.UNKNOWN)
    if "CHUNKING" in extensions:
        assert 1 <= doubts <= DEPTH
    else:
        assert doubts == (special in {"drop-before-dot-", "drop-after-dot-"})
    assert results(outcomes).count(Result.ACCEPTED) >= 29 - doubts


@settings(max_examples=150, deadline=None)
@given(cut_at=st.integers(0, 9000), way=st.sampled_from(list(WAYS)), connections=st.integers(1, 2))
def test_a_connection_may_be_cut_after_any_octet(cut_at: int, way: str, connections: int) -> None:
    addresses = crowd(12)
    with (
        SmtpSink(extensions=WAYS[way], cut_at=cut_at) as sink,
        transport_to(sink, connections=connections) as transport,
    ):
        outcomes = hand_over(transport, addresses)
        doubts = results(outcomes).count(Result.UNKNOWN)
        assert doubts <= (DEPTH if way == "chunking" else 1)
        if sink.sessions[0].commands[1:]:  # it was not cut before anything was asked
            assert set(results(outcomes)) <= {Result.UNKNOWN, Result.ACCEPTED}
        assert_true(outcomes, addresses, sink)


def test_a_sender_refused_in_the_middle_stops_the_rest(sinks: Sinks, extensions: tuple[str, ...]) -> None:
    sink = sinks(extensions=extensions, answers={"MAIL": lambda s: "550 5.7.1 enough of you" if s.kept >= 3 else None})
    with transport_to(sink) as transport:
        outcomes = hand_over(transport, crowd(40))
    assert results(outcomes) == [Result.ACCEPTED] * 3 + [Result.SENDER_REFUSED] * 37
    asked = [command for session in sink.sessions for command in session.commands if command.startswith("MAIL")]
    assert len(asked) <= 3 + DEPTH


def test_an_ill_relay_leaves_few_doubts_however_many_may_be_under_way(
    sinks: Sinks, extensions: tuple[str, ...]
) -> None:
    sink = sinks(extensions=extensions, answers={"message": HANG_UP})
    with transport_to(sink, connections=4) as transport:
        outcomes = hand_over(transport, crowd(100))
    assert Counter(results(outcomes)) == {Result.UNKNOWN: GIVE_UP_AFTER, Result.LATER: 100 - GIVE_UP_AFTER}
    assert_true(outcomes, crowd(100), sink)


def test_not_more_than_so_many_are_in_doubt_at_once(sinks: Sinks) -> None:
    sink = sinks(extensions=WITH_CHUNKING, answers={"message": lambda s: HANG_UP if s.kept == 20 else None})
    with transport_to(sink, connections=1) as transport:
        outcomes = hand_over(transport, crowd(40), text="x" * 70 + "\n")
    assert 1 <= results(outcomes).count(Result.UNKNOWN) <= DEPTH
    assert_true(outcomes, crowd(40), sink)


def test_a_relay_that_falls_silent_in_the_middle_leaves_what_had_left_in_doubt(sinks: Sinks) -> None:
    ill = silent_for(1.0)
    sink = sinks(extensions=WITH_CHUNKING, answers={"message": lambda s: ill(s) if s.kept >= 3 else None})
    with transport_to(sink, timeout=0.3) as transport:
        outcomes = hand_over(transport, crowd(10))
    assert Result.UNKNOWN in results(outcomes)
    assert all("did not answer in time" in each.reply for each in outcomes if each.result == Result.UNKNOWN)


def test_a_chunk_is_spread_over_the_connections(sinks: Sinks, extensions: tuple[str, ...]) -> None:
    sink = sinks(extensions=extensions, answers={"message": silent_for(0.01)})
    with transport_to(sink, connections=3) as transport:
        hand_over(transport, crowd(10))  # the first shows that the relay answers
        assert set(results(hand_over(transport, crowd(60)))) == {Result.ACCEPTED}
    assert len(sink.sessions) == 3
    assert all(session.kept >= 5 for session in sink.sessions)


def test_a_relay_that_takes_one_connection_gets_one(sinks: Sinks) -> None:
    sink = sinks(answers={"connect": lambda s: "421 4.7.0 one is enough" if s.number > 1 else None})
    with transport_to(sink, connections=4, most=1000) as transport:
        for _ in range(3):
            assert set(results(hand_over(transport, crowd(50)))) == {Result.ACCEPTED}
    assert len(sink.sessions) <= 1 + 3, "it is not asked again and again"


@pytest.mark.parametrize("refusal", ["554 5.7.1 too many connections", "550 5.7.1 no"])
def test_a_second_connection_refused_stops_nobody(sinks: Sinks, refusal: str) -> None:
    sink = sinks(answers={"connect": lambda s: refusal if s.number > 1 else None})
    with transport_to(sink, connections=4) as transport:
        for _ in range(2):
            assert set(results(hand_over(transport, crowd(50)))) == {Result.ACCEPTED}


def test_what_is_left_at_the_deadline_waits_without_a_doubt(sinks: Sinks, extensions: tuple[str, ...]) -> None:
    sink = sinks(extensions=extensions, answers={"message": silent_for(0.02)})
    with transport_to(sink) as transport:
        outcomes = hand_over(transport, crowd(100), seconds=0.3)
    assert set(results(outcomes)) == {Result.ACCEPTED, Result.LATER}
    assert not any(outcome.tried for outcome in outcomes if outcome.result == Result.LATER)
    assert_true(outcomes, crowd(100), sink)


def test_a_connection_carries_only_so_many(sinks: Sinks, extensions: tuple[str, ...]) -> None:
    sink = sinks(extensions=extensions)
    with transport_to(sink, most=10, connections=2) as transport:
        assert set(results(hand_over(transport, crowd(45)))) == {Result.ACCEPTED}
    assert max(session.kept for session in sink.sessions) <= 10
    assert sum(session.kept for session in sink.sessions) == 45


def test_a_relay_that_is_away_is_left_in_peace_for_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    transport = SmtpTransport(f"smtp://127.0.0.1:{port}", timeout=5)
    first = hand_over(transport, crowd(5))
    assert {(each.result, each.tried) for each in first} == {(Result.LATER, False)}
    assert first[0].retry_after
    assert first[0].retry_after > 0.5
    with SmtpSink(port=port) as sink:
        assert set(results(hand_over(transport, crowd(5)))) == {Result.LATER}
        assert sink.sessions == [], "it is not even asked"
        end = time.monotonic() + 10
        while results(hand_over(transport, crowd(1))) != [Result.ACCEPTED]:
            assert time.monotonic() < end
            time.sleep(0.05)
    transport.close()


def test_a_relay_that_reads_no_further_leaves_no_doubt() -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            for said in (b"220 hello", b"250 relay", b"250 fine", b"250 fine", b"354 go on"):
                connection.sendall(said + b"\r\n")
                lines.readline()
            ended.wait(5)

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        transport = SmtpTransport(f"smtp://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3)
        (outcome,) = hand_over(transport, crowd(1), text="more than the buffers in between hold\n" * 400_000)
        ended.set()
        thread.join(5)
    transport.close()
    assert outcome.result == Result.LATER
    assert "did not answer in time" in outcome.reply


@pytest.mark.parametrize("answer", ["354 what", "hello"])
def test_an_answer_out_of_step_ends_the_connection(sinks: Sinks, answer: str) -> None:
    sink = sinks(
        extensions=WITH_CHUNKING, answers={"RCPT": lambda s: answer if s.number == 1 and s.kept == 6 else None}
    )
    with transport_to(sink) as transport:
        outcomes = hand_over(transport, crowd(20))
    assert set(results(outcomes)) <= {Result.ACCEPTED, Result.UNKNOWN}
    assert results(outcomes).count(Result.UNKNOWN) <= DEPTH
    assert_true(outcomes, crowd(20), sink)


def test_a_fault_of_ours_leaves_nothing_behind_for_the_next_chunk(sinks: Sinks) -> None:
    sink = sinks(extensions=WITH_CHUNKING, answers={"message": silent_for(0.05)})
    transport = SmtpTransport(sink.url, timeout=5)

    class Broken(dkim.Signer):
        @property
        def algorithm(self) -> bytes:
            raise RuntimeError("broken")

    transport._signers = [Broken("example.org", "x", None)]  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="broken"):
        hand_over(transport, crowd(3))
    transport._signers = []
    assert results(hand_over(transport, crowd(3))) == [Result.ACCEPTED] * 3
    transport.close()


def test_a_relay_that_was_restarted_between_two_chunks_leaves_no_doubt(
    sinks: Sinks, extensions: tuple[str, ...]
) -> None:
    sink = sinks(extensions=extensions)
    with transport_to(sink) as transport:
        hand_over(transport, crowd(30))
        sink.stop()
        after = sinks(extensions=extensions, port=sink.port)
        assert results(hand_over(transport, crowd(30))) == [Result.ACCEPTED] * 30
    assert len(after.messages()) == 30


def test_a_connection_that_was_idle_is_asked_first(sinks: Sinks, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sinks(extensions=WITH_CHUNKING)
    with transport_to(sink) as transport:
        hand_over(transport, crowd(2))
        monkeypatch.setattr("newsletter.transports.smtp.pipeline.IDLE", -1.0)
        assert results(hand_over(transport, crowd(2))) == [Result.ACCEPTED] * 2
    assert sink.sessions[0].commands.count("NOOP") == 1
    assert len(sink.sessions) == 1


ANSWERS = b"220 a\r\n250-one\r\n250-two\r\n250 three\r\n354\r\n550 5.1.1 no such reader\r\n421 bye\n"


@given(cuts=st.lists(st.integers(0, len(ANSWERS)), max_size=12))
def test_answers_may_come_in_any_pieces(cuts: list[int]) -> None:
    replies, found = Replies(), []
    edges = [0, *sorted(cuts), len(ANSWERS)]
    for start, end in itertools.pairwise(edges):
        found += replies.read(ANSWERS[start:end])
    assert [str(reply) for reply in found] == [
        *("220 a", "250 one two three", "354", "550 5.1.1 no such reader", "421 bye")
    ]
    assert not replies.begun


def test_an_answer_without_an_end_is_not_read_for_ever() -> None:
    endless = Replies()
    endless.read(b"250" + b"x" * 70_000)
    assert endless.fault
    many = Replies()
    many.read(b"250-more\r\n" * 1001)
    assert many.fault
