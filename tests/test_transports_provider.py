"""Providers: what is asked of their API for each reader, and what their answers mean; told by a double on loopback."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Iterator
from email.utils import format_datetime
from importlib import import_module
from typing import Any

import pytest
from anymail.backends.base import BasePayload  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured

from newsletter import clock, tracking, transports
from newsletter.environment import Environment
from newsletter.transports import Outcome, Result
from newsletter.transports.provider import PROVIDERS, ProviderTransport, problems
from newsletter.transports.provider.mails import CARRIES_METADATA, FORWARDS_BOUNCES, SWITCHES_TRACKING
from newsletter.transports.provider.merging import SYNTAX
from tests.provider_double import (
    Call,
    Double,
    hand_over,
    make_compiled,
    make_reader,
    make_sender,
    postmark_takes,
    results,
    running,
)

SOON = 0.3  # seconds until these tests find a provider too slow


@pytest.fixture
def double() -> Iterator[Double]:
    with running() as made:
        yield made


def tried(outcomes: list[Outcome]) -> int:
    """How many were handed over."""
    return sum(outcome.tried for outcome in outcomes)


@pytest.fixture
def mailgun(double: Double, settings: Any) -> Iterator[ProviderTransport]:
    settings.ANYMAIL = {
        "MAILGUN_API_KEY": "key",
        "MAILGUN_API_URL": double.url,
        "REQUESTS_TIMEOUT": 30,
    }
    transport = ProviderTransport("mailgun")
    yield transport
    transport.close()


@pytest.fixture
def postmark(double: Double, settings: Any) -> Iterator[ProviderTransport]:
    settings.ANYMAIL = {"POSTMARK_SERVER_TOKEN": "token", "POSTMARK_API_URL": double.url, "REQUESTS_TIMEOUT": 5}
    transport = ProviderTransport("postmark")
    yield transport
    transport.close()


def test_each_reader_is_one_call_on_a_session_that_is_kept(postmark: ProviderTransport, double: Double) -> None:
    double.answer = postmark_takes
    assert results(hand_over(postmark, make_reader(1), make_reader(2))) == [Result.ACCEPTED] * 2
    assert results(hand_over(postmark, make_reader(3))) == [Result.ACCEPTED]
    assert [call.path for call in double.calls] == ["/email"] * 3
    assert len({call.session for call in double.calls}) == 1
    assert [call.fields["TextBody"] for call in double.calls] == [f"Hello Jörg {number}\n" for number in (1, 2, 3)]


def test_mailgun_is_told_all_that_smtp_would_carry(mailgun: ProviderTransport, double: Double) -> None:
    (outcome,) = hand_over(mailgun)
    sent = double.calls[0].fields
    assert sent["subject"] == "Weekly for Jörg 1"
    assert sent["text"] == "Hello Jörg 1\n"
    assert sent["html"] == "<p>Hello Jörg 1\n"
    assert sent["from"] == '"The \\"Wöchentliche\\"" <news@example.org>'
    assert sent["to"] == '"Jörg, the <first>" <reader1@example.org>'
    assert sent["h:Reply-To"] == "editor@example.org"
    assert sent["h:List-Unsubscribe"] == "<https://news.example.org/u/1>"
    assert sent["h:List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert sent["h:List-Id"] == '"The Weekly" <weekly.news.example.org>'
    assert sent["h:Message-Id"] == "<token1@news.example.org>"
    assert sent["h:Feedback-Id"] == "i12:n1:issue:masthead"
    assert sent["h:Precedence"] == "bulk"
    assert (sent["o:tracking-opens"], sent["o:tracking-clicks"]) == ("no", "no")
    assert tracking.read_delivery_token(sent["v:delivery"]) == 1
    assert "recipient-variables" not in sent, "without them Mailgun merges nothing"
    assert outcome.provider_id == "<20261122.1@mg.example.org>"


def test_postmark_is_told_all_that_smtp_would_carry(postmark: ProviderTransport, double: Double) -> None:
    double.answer = postmark_takes
    (outcome,) = hand_over(postmark)
    sent = double.calls[0].fields
    headers = {header["Name"]: header["Value"] for header in sent["Headers"]}
    assert (outcome.result, outcome.provider_id) == (Result.ACCEPTED, "b7bc2f4a")
    assert (sent["TrackOpens"], sent["TrackLinks"]) == (False, "None")
    assert tracking.read_delivery_token(sent["Metadata"]["delivery"]) == 1
    assert headers["Message-ID"] == "<token1@news.example.org>"
    assert headers["X-PM-KeepID"] == "true"
    assert headers["List-Unsubscribe"] == "<https://news.example.org/u/1>"
    assert "Date" not in headers
    assert "To" not in headers


def test_a_list_name_that_is_not_ascii_is_left_to_smtp(mailgun: ProviderTransport, double: Double) -> None:
    sender = make_sender(list_name="Wöchentlich")
    transports.hand_over(mailgun, [(make_compiled(sender=sender), [make_reader()])], sender, deadline=clock.now() + 30)
    assert double.calls[0].fields["h:List-Id"] == "<weekly.news.example.org>"


def test_without_html_none_is_sent(mailgun: ProviderTransport, double: Double) -> None:
    transports.hand_over(mailgun, [(make_compiled(html=""), [make_reader()])], make_sender(), deadline=clock.now() + 30)
    assert "html" not in double.calls[0].fields


def test_what_an_author_writes_is_not_a_template_of_the_provider(mailgun: ProviderTransport, double: Double) -> None:
    written = "%unsubscribe_url% %recipient.name% 100% %20 "
    compiled = make_compiled(text=written, html=written, subject=written)
    transports.hand_over(mailgun, [(compiled, [make_reader()])], make_sender(), deadline=clock.now() + 30)
    sent = double.calls[0].fields
    for part in ("text", "html", "subject"):
        assert not any(opening in sent[part] for opening in SYNTAX["mailgun"])
    assert sent["text"].replace("\N{WORD JOINER}", "") == f"{written}Jörg 1\n"
    assert sent["html"].replace("&#37;", "%") == f"{written}Jörg 1\n"


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (400, Result.REFUSED),
        (413, Result.REFUSED),
        (422, Result.REFUSED),
        (401, Result.SENDER_REFUSED),
        (402, Result.SENDER_REFUSED),
        (403, Result.SENDER_REFUSED),
        (404, Result.SENDER_REFUSED),
        (408, Result.LATER),
        (429, Result.LATER),
        (503, Result.LATER),
        (500, Result.UNKNOWN),
        (502, Result.UNKNOWN),
        (504, Result.UNKNOWN),
    ],
)
def test_what_a_status_means(mailgun: ProviderTransport, double: Double, status: int, result: Result) -> None:
    double.answer = lambda call: (status, {}, {"message": "as told, reader1@example.org"})
    (outcome,) = hand_over(mailgun)
    assert (outcome.result, outcome.reply) == (result, f"{status} as told, (address)")


@pytest.mark.parametrize("said", [b"not json", b'{"id": 1}', b'{"id": "1", "message": "No."}', b"[]"])
def test_a_success_that_cannot_be_read_is_a_doubt(mailgun: ProviderTransport, double: Double, said: bytes) -> None:
    double.answer = lambda call: (200, {}, said)
    assert results(hand_over(mailgun)) == [Result.UNKNOWN]


def test_a_provider_that_asks_to_wait_is_obeyed_by_the_whole_chunk(postmark: ProviderTransport, double: Double) -> None:
    double.answer = lambda call: (429, {"Retry-After": "120"}, {"message": "slow down"})
    outcomes = hand_over(postmark, *map(make_reader, range(1, 6)))
    assert results(outcomes) == [Result.LATER] * 5
    assert all(119 < (outcome.retry_after or 0) <= 120 for outcome in outcomes)
    assert tried(outcomes) == len(double.calls) == 1
    assert 119 < postmark.rests() <= 120


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("date", 50, 61),
        ("past", 0, 0),
        ("far", 86_400, 86_400),
        ("86401", 86_400, 86_400),
        ("1767225600000", 86_400, 86_400),
        ("9" * 400, 86_400, 86_400),
        ("soon", None, None),
        ("-5", None, None),
        ("NaN", None, None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None, None),
    ],
)
def test_the_wait_may_be_seconds_or_a_date(
    mailgun: ProviderTransport, double: Double, value: str, low: float | None, high: float | None
) -> None:
    now = dt.datetime.now(dt.UTC)
    dates = {"date": now + dt.timedelta(seconds=60), "past": now - dt.timedelta(days=1), "far": now.replace(year=9999)}
    sent = format_datetime(dates[value], usegmt=True) if value in dates else value
    double.answer = lambda call: (503, {"Retry-After": sent}, {})
    wait = hand_over(mailgun)[0].retry_after
    if low is None or high is None:
        assert wait is None
    else:
        assert wait is not None
        assert low <= wait <= high


def test_a_provider_that_hangs_up_without_an_answer_leaves_a_doubt(mailgun: ProviderTransport, double: Double) -> None:
    double.answer = lambda call: None
    assert results(hand_over(mailgun)) == [Result.UNKNOWN]
    assert len(double.calls) == 1


def test_a_provider_that_is_silent_leaves_a_doubt(mailgun: ProviderTransport, double: Double, settings: Any) -> None:
    settings.ANYMAIL = {**settings.ANYMAIL, "REQUESTS_TIMEOUT": (5, SOON)}
    answered = threading.Event()

    def wait(call: Call) -> None:
        answered.wait(10)

    double.answer = wait
    assert results(hand_over(mailgun)) == [Result.UNKNOWN]
    answered.set()


def test_a_provider_that_cannot_be_reached_leaves_no_doubt(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for unreachable in (url, "http://no-such-host.invalid"):
        settings.ANYMAIL = {"POSTMARK_SERVER_TOKEN": "token", "POSTMARK_API_URL": unreachable}
        transport = ProviderTransport("postmark")
        outcomes = hand_over(transport, *map(make_reader, range(1, 8)))
        transport.close()
        assert results(outcomes) == [Result.LATER] * 7
        assert [outcome.reply.startswith("Not tried") for outcome in outcomes].count(False) == 1
        assert tried(outcomes) == 1


def test_a_provider_that_does_not_speak_tls_leaves_no_doubt(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {"MAILGUN_API_KEY": "key", "MAILGUN_API_URL": double.url.replace("http:", "https:")}
    transport = ProviderTransport("mailgun")
    assert results(hand_over(transport)) == [Result.LATER]
    transport.close()
    assert double.calls == []


def test_nothing_is_called_after_the_deadline(mailgun: ProviderTransport, double: Double) -> None:
    outcomes = hand_over(mailgun, seconds=0)
    assert results(outcomes) == [Result.LATER]
    assert tried(outcomes) == len(double.calls) == 0


def test_once_the_sender_is_refused_nobody_else_is_tried(postmark: ProviderTransport, double: Double) -> None:
    double.answer = lambda call: (401, {}, {"message": "Forbidden"})
    outcomes = hand_over(postmark, *map(make_reader, range(1, 6)))
    assert results(outcomes) == [Result.SENDER_REFUSED] * 5
    assert tried(outcomes) == len(double.calls) == 1


def test_one_reader_who_is_refused_is_refused_alone(postmark: ProviderTransport, double: Double) -> None:
    def answer(call: Call) -> tuple[int, dict[str, str], Any]:
        if "reader2@" in call.fields["To"]:
            return 422, {}, {"ErrorCode": 300, "Message": "Invalid 'To' address"}
        return postmark_takes(call)

    double.answer = answer
    outcomes = hand_over(postmark, make_reader(1), make_reader(2), make_reader(3), make_reader(4, "no address"))
    assert results(outcomes) == [Result.ACCEPTED, Result.REFUSED, Result.ACCEPTED, Result.REFUSED]
    assert tried(outcomes) == len(double.calls) == 3


@pytest.mark.parametrize(
    ("code", "said", "result"),
    [
        (406, "You tried to send to recipients that are inactive: reader1@example.org.", Result.REFUSED),
        (300, "Invalid 'To' address: 'reader1@example.org'.", Result.REFUSED),
        (402, "Invalid JSON", Result.REFUSED),
        (400, "Sender signature not found", Result.SENDER_REFUSED),
        (401, "Sender signature not confirmed", Result.SENDER_REFUSED),
        (405, "Not allowed to send: no credits", Result.SENDER_REFUSED),
        (412, "Account is pending approval", Result.SENDER_REFUSED),
        (413, "Account may not send", Result.SENDER_REFUSED),
    ],
)
def test_what_postmarks_own_codes_mean(
    postmark: ProviderTransport, double: Double, code: int, said: str, result: Result
) -> None:
    double.answer = lambda call: (422, {}, {"ErrorCode": code, "Message": said})
    (outcome,) = hand_over(postmark)
    assert outcome.result == result
    assert "reader1@" not in outcome.reply


def test_a_missing_key_is_about_the_sender_and_said_in_a_sentence(settings: Any) -> None:
    settings.ANYMAIL = {}
    (said,) = problems("mailgun")
    assert "MAILGUN_API_KEY" in said
    (outcome,) = hand_over(ProviderTransport("mailgun"))
    assert outcome.result == Result.SENDER_REFUSED
    assert "MAILGUN_API_KEY" in outcome.reply


def test_an_unknown_provider_is_said_in_a_sentence_that_names_those_there_are() -> None:
    (said,) = problems("mailgnu")
    assert "“mailgnu”" in said
    assert "mailgun" in said
    assert results(hand_over(ProviderTransport("mailgnu"))) == [Result.SENDER_REFUSED]


def test_a_provider_with_its_key_has_no_problem(settings: Any) -> None:
    settings.ANYMAIL = {"MAILGUN_API_KEY": "key"}
    assert problems("mailgun") == []
    assert problems("amazon_ses") == []


def test_the_settings_choose_the_provider(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.ANYMAIL = {}
    monkeypatch.setattr(transports, "ENV", Environment(provider="mailgun"))
    assert transports.open_transport().name == "mailgun"
    assert len(transports.problems()) == 1


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_what_we_tell_each_provider_is_what_anymail_can_tell_it(name: str) -> None:
    try:
        module = import_module(f"anymail.backends.{name}")
    except ImproperlyConfigured:
        pytest.skip(f"{name} needs a package that is not installed")
    payloads = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, BasePayload)]
    own = {feature for feature in vars(BasePayload) for each in payloads if getattr(each, feature, None)
           is not getattr(BasePayload, feature)}  # fmt: skip
    assert ("set_metadata" in own) == (name in CARRIES_METADATA)
    assert name not in FORWARDS_BOUNCES or "set_envelope_sender" in own
    assert (
        {"set_track_opens", "set_track_clicks"} <= own
        if name in SWITCHES_TRACKING
        else not ({"set_track_opens", "set_track_clicks"} & own)
    )


def test_amazon_ses_makes_one_call_and_repeats_none(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {
        "AMAZON_SES_CLIENT_PARAMS": {
            "endpoint_url": double.url,
            "region_name": "eu-west-1",
            "aws_access_key_id": "id",
            "aws_secret_access_key": "secret",
        }
    }
    settings.EMAIL_TIMEOUT = 5
    for status, said, result in [
        (200, {"MessageId": "0100"}, Result.ACCEPTED),
        (500, {"message": "oops"}, Result.UNKNOWN),
        (429, {"__type": "TooManyRequestsException", "message": "slow"}, Result.LATER),
        (403, {"__type": "InvalidClientTokenId", "message": "who?"}, Result.SENDER_REFUSED),
        (400, {"__type": "SendingPausedException", "message": "paused"}, Result.SENDER_REFUSED),
        (400, {"__type": "MessageRejected", "message": "no"}, Result.REFUSED),
    ]:
        double.calls.clear()
        double.answer = lambda call, status=status, said=said: (status, {}, said)  # type: ignore[misc]
        transport = ProviderTransport("amazon_ses")
        (outcome,) = hand_over(transport)
        transport.close()
        assert (outcome.result, len(double.calls)) == (result, 1), said
