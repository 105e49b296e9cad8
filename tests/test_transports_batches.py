"""Batch calls: one call for many readers, each with their own text and headers, whatever anybody wrote."""

from __future__ import annotations

import html
import json
import re
import uuid
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from anymail.backends.base import BasePayload  # type: ignore[import-untyped]
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from newsletter import clock, message, tracking, transports
from newsletter.fields import Slot, SlotTable
from newsletter.rendering import Rendered
from newsletter.transports import Result
from newsletter.transports.provider import ProviderTransport
from newsletter.transports.provider.merging import BATCHES, SYNTAX, Merged
from tests.provider_double import (
    MAILGUN_FINE,
    Call,
    Double,
    hand_over,
    make_compiled,
    make_reader,
    make_sender,
    results,
    running,
)

SETTINGS = {
    "mailgun": {"MAILGUN_API_KEY": "key"},
    "sparkpost": {"SPARKPOST_API_KEY": "key"},
    "brevo": {"BREVO_API_KEY": "key"},
    "mailjet": {"MAILJET_API_KEY": "key", "MAILJET_SECRET_KEY": "secret"},
    "unisender_go": {"UNISENDER_GO_API_KEY": "key"},
    "resend": {"RESEND_API_KEY": "key"},
}
KEY = uuid.UUID("5f3b1d5e-0000-4000-8000-000000000001")


def takes(name: str, call: Call) -> tuple[int, dict[str, str], Any]:
    """What provider `name` answers when it takes all that `call` carries."""
    fields = call.fields
    said: Any = MAILGUN_FINE
    if name == "sparkpost":
        said = {
            "results": {
                "id": "17",
                "total_accepted_recipients": len(fields["recipients"]),
                "total_rejected_recipients": 0,
            }
        }
    elif name == "brevo":
        versions = fields.get("messageVersions")
        said = (
            {"messageIds": [f"<{version['to'][0]['email']}>" for version in versions]}
            if versions
            else {"messageId": "<1>"}
        )
    elif name == "mailjet":
        to = [each["To"][0]["Email"] for each in fields["Messages"]]
        said = {"Messages": [{"Status": "success", "To": [{"Email": address, "MessageID": 7}]} for address in to]}
    elif name == "unisender_go":
        said = {
            "status": "success",
            "job_id": "1",
            "emails": [each["email"] for each in fields["message"]["recipients"]],
        }
    elif name == "resend":
        said = {"id": "49a3999c"}
    return 200, {}, said


@pytest.fixture
def double() -> Iterator[Double]:
    with running() as made:
        yield made


@pytest.fixture
def transport(double: Double, settings: Any, request: pytest.FixtureRequest) -> Iterator[ProviderTransport]:
    """The provider that the test names, or Mailgun, taking everything."""
    name = getattr(request, "param", "mailgun")
    settings.ANYMAIL = {**SETTINGS[name], f"{name.upper()}_API_URL": double.url, "REQUESTS_TIMEOUT": 5}
    double.answer = lambda call: takes(name, call)
    made = ProviderTransport(name)
    yield made
    made.close()


def own_part(
    entries: list[dict[str, Any]], address: str, address_of: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """The one entry that is the reader's at `address`."""
    (found,) = [each for each in entries if address_of(each) == address]
    return found


def merged(name: str, fields: dict[str, Any], address: str) -> tuple[dict[str, str], dict[str, str], int]:
    """What the reader at `address` gets once provider `name` has filled in its fields, as its documents say: the
    subject, text and html; the headers; and the delivery that its events will name."""
    parts: dict[str, str]
    if name == "mailgun":
        field, values = r"%recipient\.([\w:-]+)%", json.loads(fields["recipient-variables"])[address]
        parts = {part: fields[part] for part in ("subject", "text", "html")}
        headers = {key[2:]: value for key, value in fields.items() if key.startswith("h:")}
        token = values[fields["v:delivery"].removeprefix("%recipient.").removesuffix("%")]
    elif name == "sparkpost":
        own = own_part(fields["recipients"], address, lambda each: str(each["address"]["email"]))
        field, values = r"\{\{\{?(\w+)\}?\}\}", own["substitution_data"]
        parts = {part: fields["content"][part] for part in ("subject", "text", "html")}
        headers, token = fields["content"]["headers"], own["metadata"]["delivery"]
    elif name == "brevo":
        own = own_part(fields["messageVersions"], address, lambda each: str(each["to"][0]["email"]))
        field, values = r"\{\{\s*params\.(\w+)\s*\}\}", own["params"]
        parts = {"subject": fields["subject"], "text": fields["textContent"], "html": fields["htmlContent"]}
        headers, token = own["headers"], json.loads(own["headers"]["X-Mailin-custom"])["delivery"]
    elif name == "mailjet":
        common, own = fields["Globals"], own_part(fields["Messages"], address, lambda each: str(each["To"][0]["Email"]))
        assert common["TemplateLanguage"] is True
        field, values = r"\{\{\s*var:(\w+)\s*\}\}", own["Variables"]
        parts = {"subject": common["Subject"], "text": common["TextPart"], "html": common["HTMLPart"]}
        headers, token = own["Headers"], json.loads(own["EventPayload"])["delivery"]
    else:
        common = fields["message"]
        own = own_part(common["recipients"], address, lambda each: str(each["email"]))
        field, values = r"\{\{\s*(\w+)\s*\}\}", own["substitutions"]
        parts = {"subject": common["subject"], "text": common["body"]["plaintext"], "html": common["body"]["html"]}
        headers, token = common["headers"], own["metadata"]["delivery"]

    def fill(texts: dict[str, str]) -> dict[str, str]:
        return {key: re.sub(field, lambda found: values[found[1]], text) for key, text in texts.items()}

    return fill(parts), fill(headers), tracking.read_delivery_token(token)


def visible(text: str) -> str:
    return text.replace("\N{WORD JOINER}", "")


@pytest.mark.parametrize("transport", sorted(BATCHES), indirect=True)
def test_one_call_brings_each_reader_their_own_mail(transport: ProviderTransport, double: Double) -> None:
    readers = [make_reader(number) for number in (1, 2, 3)]
    outcomes = hand_over(transport, *readers)
    assert results(outcomes) == [Result.ACCEPTED] * 3
    assert all(outcome.provider_id for outcome in outcomes)
    assert len(double.calls) == 1
    for number, reader in enumerate(readers, 1):
        parts, headers, delivery_id = merged(transport.name, double.calls[0].fields, reader.address)
        headers = {name.title(): value for name, value in headers.items()}
        assert parts["subject"] == f"Weekly for Jörg {number}"
        assert parts["text"] == f"Hello Jörg {number}\n"
        assert parts["html"] == f"<p>Hello Jörg {number}\n"
        assert headers["List-Unsubscribe"] == f"<https://news.example.org/u/{number}>"
        assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert headers["List-Id"] == '"The Weekly" <weekly.news.example.org>'
        assert headers["Feedback-Id"] == "i12:n1:issue:masthead"
        assert delivery_id == number


def test_a_provider_gives_each_reader_its_own_id_where_it_has_one(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {**SETTINGS["brevo"], "BREVO_API_URL": double.url}
    double.answer = lambda call: takes("brevo", call)
    transport = ProviderTransport("brevo")
    ids = [outcome.provider_id for outcome in hand_over(transport, make_reader(1), make_reader(2))]
    transport.close()
    assert ids == ["<reader1@example.org>", "<reader2@example.org>"]


def tracking_of(name: str, fields: dict[str, Any]) -> tuple[Any, Any]:
    place, opens, clicks = {
        "mailgun": (fields, "o:tracking-opens", "o:tracking-clicks"),
        "sparkpost": (fields.get("options", {}), "open_tracking", "click_tracking"),
        "mailjet": (fields.get("Globals", {}), "TrackOpens", "TrackClicks"),
        "unisender_go": (fields.get("message", {}), "track_read", "track_links"),
    }[name]
    return place[opens], place[clicks]


@pytest.mark.parametrize("transport", ["mailgun", "mailjet", "sparkpost", "unisender_go"], indirect=True)
def test_the_providers_own_tracking_is_off_in_a_batch(transport: ProviderTransport, double: Double) -> None:
    hand_over(transport, make_reader(1), make_reader(2))
    assert tracking_of(transport.name, double.calls[0].fields) in {
        ("no", "no"),
        (False, False),
        ("disabled",) * 2,
        (0, 0),
    }


@pytest.mark.parametrize("name", sorted(BATCHES))
def test_a_batch_is_only_asked_of_those_that_anymail_can_ask(name: str) -> None:
    payloads = [
        each
        for each in vars(import_module(f"anymail.backends.{name}")).values()
        if isinstance(each, type) and issubclass(each, BasePayload)
    ]
    for feature in ("set_merge_data", "set_merge_headers", "set_merge_metadata"):
        assert any(getattr(each, feature, None) is not getattr(BasePayload, feature) for each in payloads)


def test_no_call_carries_more_readers_than_the_provider_takes(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {**SETTINGS["mailjet"], "MAILJET_API_URL": double.url}
    double.answer = lambda call: takes("mailjet", call)
    transport = ProviderTransport("mailjet")
    outcomes = hand_over(transport, *map(make_reader, range(1, 121)))
    transport.close()
    assert [len(call.fields["Messages"]) for call in double.calls] == [50, 50, 20]
    assert results(outcomes) == [Result.ACCEPTED] * 120
    assert len({call.session for call in double.calls}) == 1


def test_readers_who_fit_in_no_batch_get_calls_of_their_own(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {**SETTINGS["brevo"], "BREVO_API_URL": double.url}
    double.answer = lambda call: takes("brevo", call)
    transport = ProviderTransport("brevo")
    quoted = make_reader(3)
    quoted = message.Reader(**{**vars(quoted), "values": {**quoted.values, "name": "O'Hara & <Sons>"}})
    outcomes = hand_over(
        transport, make_reader(1), quoted, make_reader(2), make_reader(4, "räder@example.org"), make_reader(5, "none")
    )
    transport.close()
    assert results(outcomes)[:3] == [Result.ACCEPTED] * 3
    assert results(outcomes)[4] == Result.REFUSED
    together, alone = double.calls[0].fields, double.calls[1].fields
    assert [version["to"][0]["email"] for version in together["messageVersions"]] == [
        "reader1@example.org",
        "reader2@example.org",
    ]
    assert alone["htmlContent"] == "<p>Hello O&#x27;Hara &amp; &lt;Sons&gt;\n"


def test_a_call_refused_for_one_reader_is_made_again_without_them(transport: ProviderTransport, double: Double) -> None:
    def answer(call: Call) -> tuple[int, dict[str, str], Any]:
        refused = "reader3@" in json.dumps(call.fields)
        return (400, {}, {"message": "'to' parameter is not a valid address"}) if refused else takes("mailgun", call)

    double.answer = answer
    outcomes = hand_over(transport, *map(make_reader, range(1, 9)))
    assert [outcome.delivery_id for outcome in outcomes if outcome.result != Result.ACCEPTED] == [3]
    assert outcomes[2].result == Result.REFUSED
    assert len(double.calls) == 7, "8 and 4 and 2 are refused, 2 taken, 1 refused, 1 and 4 taken"


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (401, Result.SENDER_REFUSED),
        (429, Result.LATER),
        (503, Result.LATER),
        (500, Result.UNKNOWN),
        (504, Result.UNKNOWN),
    ],
)
def test_an_answer_to_a_batch_is_for_each_of_its_readers(
    transport: ProviderTransport, double: Double, status: int, result: Result
) -> None:
    double.answer = lambda call: (status, {"Retry-After": "9"}, {"message": "so"})
    outcomes = hand_over(transport, make_reader(1), make_reader(2), make_reader(3))
    assert results(outcomes) == [result] * 3
    assert {outcome.retry_after for outcome in outcomes} == {None if result == Result.SENDER_REFUSED else 9.0}
    assert len(double.calls) == 1


def test_a_batch_without_an_answer_leaves_all_of_it_in_doubt(transport: ProviderTransport, double: Double) -> None:
    double.answer = lambda call: None
    assert results(hand_over(transport, make_reader(1), make_reader(2))) == [Result.UNKNOWN] * 2


def test_a_provider_that_takes_some_and_names_none_leaves_a_doubt(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {**SETTINGS["sparkpost"], "SPARKPOST_API_URL": double.url}
    some = {"results": {"id": "17", "total_accepted_recipients": 1, "total_rejected_recipients": 1}}
    double.answer = lambda call: (200, {}, some)
    transport = ProviderTransport("sparkpost")
    assert results(hand_over(transport, make_reader(1), make_reader(2))) == [Result.UNKNOWN] * 2
    transport.close()


def test_each_reader_of_a_batch_has_their_own_status(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {**SETTINGS["unisender_go"], "UNISENDER_GO_API_URL": double.url}
    said = {
        "status": "success",
        "job_id": "1",
        "emails": ["reader1@example.org"],
        "failed_emails": {
            "reader2@example.org": "invalid",
            "reader3@example.org": "temporary_unavailable",
            "reader4@example.org": "unsubscribed",
        },
    }
    double.answer = lambda call: (200, {}, said)
    transport = ProviderTransport("unisender_go")
    outcomes = hand_over(transport, *map(make_reader, range(1, 5)))
    transport.close()
    assert results(outcomes) == [Result.ACCEPTED, Result.REFUSED, Result.LATER, Result.REFUSED]


def test_a_batch_refused_reader_by_reader_is_not_asked_again(double: Double, settings: Any) -> None:
    settings.ANYMAIL = {**SETTINGS["unisender_go"], "UNISENDER_GO_API_URL": double.url}
    failed = {f"reader{number}@example.org": "invalid" for number in (1, 2)}
    double.answer = lambda call: (200, {}, {"status": "success", "job_id": "1", "emails": [], "failed_emails": failed})
    transport = ProviderTransport("unisender_go")
    assert results(hand_over(transport, make_reader(1), make_reader(2))) == [Result.REFUSED] * 2
    transport.close()
    assert len(double.calls) == 1


def keys_of(transport: ProviderTransport, double: Double, *readers: message.Reader) -> list[str]:
    """The idempotency keys of the calls that hand `readers` over under KEY."""
    double.calls.clear()
    transports.hand_over(
        transport, [(make_compiled(), readers)], make_sender(), deadline=clock.now() + 30, idempotency_key=KEY
    )
    if transport.name == "brevo":
        return [call.fields["headers"]["idempotencyKey"] for call in double.calls]
    return [call.headers["Idempotency-Key"] for call in double.calls]


@pytest.mark.parametrize("transport", ["brevo", "resend"], indirect=True)
def test_a_replay_of_a_chunk_makes_the_same_calls_under_the_same_keys(
    transport: ProviderTransport, double: Double
) -> None:
    readers = [make_reader(1), make_reader(2)]
    keys, calls = keys_of(transport, double, *readers), [call.fields for call in double.calls]
    assert keys == keys_of(transport, double, *readers)
    assert calls == [call.fields for call in double.calls]
    assert len(set(keys)) == len(keys) == (1 if transport.name == "brevo" else 2)
    assert not set(keys) & set(keys_of(transport, double, make_reader(3), make_reader(4)))
    assert all(uuid.UUID(key) for key in keys)


WRITTEN = st.text(
    st.sampled_from('a {}%|*$&<">#recipient.unsubscribe_url params.h0 var:t0 ') | st.characters(codec="utf-8")
)


@pytest.mark.parametrize("name", sorted(BATCHES))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=WRITTEN, after=WRITTEN, value=WRITTEN)
@example(before="{{{h0}}} {", after="} {{ params.t0 }} {% x %}", value="{{t0}}")
@example(before="100%", after="% %recipient.t0%%unsubscribe_url%", value="%recipient.h1%")
def test_nothing_that_people_write_is_a_merge_field(name: str, before: str, after: str, value: str) -> None:
    table = SlotTable()
    marker = table.marker(Slot("name", "there"))
    before, after = (text.replace("\N{WORD JOINER}", "") for text in (before, after))
    text, page = before + marker + after, html.escape(before) + marker + html.escape(after)
    compiled = message.compile(Rendered("s", "", page, text, tuple(table.slots), (), 0, (), ()), make_sender())
    reader = message.Reader(
        **{**vars(make_reader()), "values": {"name": value, "unsubscribe_url": "https://x.example/"}}
    )
    made = Merged(name, compiled, [reader])
    values = made.values[reader.delivery_id]
    if values is None:
        return
    fields = [BATCHES[name].placeholder.replace("KEY", key) for key in values]
    for template, filled in ((made.text, message.text), (made.html or "", message.html)):
        (own,) = [each for each in fields if each in template]
        around = template.split(own)
        assert len(around) == 2
        assert not any(opening in part for part in around for opening in SYNTAX[name])
        assert not around[0].endswith(own[0])
        assert not (own.endswith("}") and around[1].startswith("}"))
        got = around[0] + values[own.strip("{}%").split(".")[-1].split(":")[-1]] + around[1]
        plain = html.unescape if filled is message.html else str
        assert visible(plain(got)) == visible(plain(filled(compiled, reader)))
