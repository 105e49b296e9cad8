"""Providers' webhooks up to the answer: whose they are, what each event becomes, and that nothing of a call is lost."""

from __future__ import annotations

import datetime as dt
import json
import logging
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anymail.webhooks  # type: ignore[import-untyped]
import pytest
from anymail.signals import AnymailTrackingEvent, EventType  # type: ignore[import-untyped]
from anymail.signals import tracking as signal
from django.http import HttpResponse
from django.test import Client

from newsletter import incoming, intake, tracking
from newsletter.incoming import providers
from newsletter.incoming.hearing import BODY_BYTES
from newsletter.intake import Channel
from newsletter.settings import ENV
from subscribers import addresses
from tests.provider_events import PROVIDERS, Call, Told, basic

Entry = dict[str, Any]

# django-anymail no longer looks after SendGrid, and says so whenever its page is made.
pytestmark = pytest.mark.filterwarnings("ignore:django-anymail has dropped official support for SendGrid")

ADDRESS = "Ada.Lamp+news@Readers.example"
AT = dt.datetime(2026, 11, 26, 8, 30, tzinfo=dt.UTC)
KINDS = ("accepted", "delivered", "deferred", "hard", "soft", "block", "complaint", "unsubscribe")


def told(kind: str, delivery: int = 7, **changes: Any) -> Told:
    fields: dict[str, Any] = {
        "kind": kind,
        "token": tracking.delivery_token(delivery),
        "address": ADDRESS,
        "at": AT,
        "own_message_id": tracking.message_id(delivery),
    }
    return Told(**fields | changes)


@pytest.fixture
def provider(request: pytest.FixtureRequest, settings: Any) -> str:
    """The provider that this site sends by, set as its page needs it."""
    name: str = getattr(request, "param", "sparkpost")
    settings.ENV = ENV.model_copy(update={"events_from": name})
    settings.ANYMAIL = PROVIDERS[name].settings
    return name


every_provider = pytest.mark.parametrize("provider", sorted(PROVIDERS), indirect=True)


def post(name: str, call: Call, **headers: str) -> HttpResponse:
    client = Client(raise_request_exception=False)
    given: dict[str, Any] = {**call.headers, **headers}
    return client.post(f"/webhooks/{name}/", call.body, content_type=call.content_type, headers=given)  # type: ignore[return-value]


def kept() -> list[Entry]:
    found: list[Entry] = []
    intake.drain(Channel.NOTICE, found.extend)
    return found


def tell(name: str, *what: Told) -> list[Entry]:
    """What is kept of calls that tell `what`."""
    for call in PROVIDERS[name].calls(what):
        assert post(name, call).status_code == 200
    return kept()


def test_every_provider_that_django_anymail_has_events_of_is_known() -> None:
    there = {module.name for module in pkgutil.iter_modules(anymail.webhooks.__path__)}
    assert set(providers.PROVIDERS) == there - {"base", "sendinblue"}, "sendinblue is Brevo's old name"
    assert set(PROVIDERS) == set(providers.PROVIDERS)


def has(name: str, kind: str) -> bool:
    return PROVIDERS[name].event(Told(kind, "", "ada@readers.example", AT)) is not None


@pytest.mark.parametrize(
    ("provider", "kind"),
    [(name, kind) for name in sorted(PROVIDERS) for kind in KINDS if has(name, kind)],
    indirect=["provider"],
)
def test_each_event_says_what_became_of_which_delivery(provider: str, kind: str) -> None:
    (entry,) = tell(provider, told(kind))
    bounced = kind in ("hard", "soft", "block")
    assert entry["kind"] == ("bounce" if bounced else kind)
    assert entry.get("verdict") == (kind if bounced else None)
    assert entry["source"] == provider
    assert dt.datetime.fromisoformat(entry["at"]).replace(microsecond=0) == AT
    assert entry["fingerprint"] == addresses.fingerprint(addresses.parse(ADDRESS).key)
    if PROVIDERS[provider].metadata:
        assert entry["delivery_id"] == 7
    else:
        assert entry["provider_id"] == told(kind).message_id
    assert "lamp" not in json.dumps(entry).lower()


@every_provider
def test_what_comes_again_has_the_same_key_and_what_is_another_has_another(provider: str) -> None:
    kinds = [kind for kind in KINDS if has(provider, kind)]
    what = [told(kind) for kind in kinds]
    what += [told("delivered", 8, address="grace@readers.example")] if "delivered" in kinds else []
    what += [told("hard", at=AT + dt.timedelta(minutes=5))]
    first, again = tell(provider, *what), tell(provider, *reversed(what))
    assert len({entry["key"] for entry in first}) == len(what)
    assert {entry["key"] for entry in first} == {entry["key"] for entry in again}


@every_provider
def test_a_call_that_proves_nothing_is_refused_and_nothing_is_kept(
    provider: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (call,) = PROVIDERS[provider].calls([told("hard")])
    if provider in ("mailgun", "unisender_go"):  # the proof stands in the body
        forged = Call(call.body.replace(b'"signature": "', b'"signature": "0').replace(b'"auth": "', b'"auth": "0'))
        unsigned = Call(call.body.replace(b'"signature"', b'"other"').replace(b'"auth"', b'"other"'))
    else:
        proof = [name for name in call.headers if "ignature" in name or name == "Authorization"]
        wrong = {name: value[:-8] + "AAAAAAA=" for name, value in call.headers.items() if name in proof}
        forged = Call(call.body, call.headers | wrong, call.content_type)
        unsigned = Call(call.body, {k: v for k, v in call.headers.items() if k not in proof}, call.content_type)
    for bad in (forged, unsigned):
        answer = post(provider, bad)
        assert answer.status_code in (401, 403)
        assert (answer.status_code == 401) == (answer.headers.get("WWW-Authenticate") is not None)
    assert kept() == []
    assert "is refused" in caplog.text
    # Beside a signature, a password is asked for wherever one is set.
    settings.ANYMAIL = PROVIDERS[provider].settings | {"WEBHOOK_SECRET": "lamp:another password of lamps"}
    assert post(provider, call).status_code == 401
    if provider != "mandrill":  # which signs the URL, password included
        both = Call(call.body, call.headers | basic("lamp:another password of lamps"), call.content_type)
        assert post(provider, both).status_code == 200
        assert len(kept()) == 1


@every_provider
def test_where_nothing_is_set_that_proves_anything_nothing_is_taken(
    provider: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ANYMAIL = {}
    (call,) = PROVIDERS[provider].calls([told("hard")])
    assert post(provider, call).status_code == 403
    assert kept() == []
    assert "is not set" in caplog.text


@pytest.mark.parametrize(("path", "set_to"), [("postmark", "sparkpost"), ("pigeon", "pigeon"), ("sparkpost", "")])
def test_only_the_provider_that_this_site_sends_by_has_a_page(path: str, set_to: str, settings: Any) -> None:
    settings.ENV = ENV.model_copy(update={"provider": set_to})
    settings.ANYMAIL = PROVIDERS["sparkpost"].settings
    (call,) = PROVIDERS["sparkpost"].calls([told("hard")])
    answer = post(path, call)
    assert answer.status_code == 404
    assert "No events of this e-mail provider are taken here" in answer.content.decode()


def test_without_events_from_the_provider_of_the_mail_is_heard(settings: Any) -> None:
    settings.ENV = ENV.model_copy(update={"provider": "sparkpost"})
    settings.ANYMAIL = PROVIDERS["sparkpost"].settings
    assert len(tell("sparkpost", told("hard"))) == 1


@every_provider
def test_a_look_at_the_page_is_answered_and_other_methods_are_not(provider: str) -> None:
    page = f"/webhooks/{provider}/"
    assert Client().head(page).status_code == 200
    assert Client().get(page).status_code == (200 if provider == "unisender_go" else 405)
    assert Client().put(page).status_code == 405


@pytest.mark.parametrize("provider", ["sparkpost", "mailjet", "sendgrid", "mailtrap", "mandrill"], indirect=True)
def test_of_a_batch_a_strange_event_is_left_out_and_the_others_are_kept(
    provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    double = PROVIDERS[provider]
    events = [double.event(told("hard", number, address=f"r{number}@readers.example")) for number in (1, 2, 3)]
    strange: list[Any] = [{"who@readers.example": [1]}, "rubbish", None, 7]
    payload = double.together([events[0], *strange, events[1], events[2]])[0]
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    assert post(provider, Call(body, double.sign(body, told("hard")), double.content_type)).status_code == 200
    assert sorted(entry["delivery_id"] for entry in kept()) == [1, 2, 3]
    left_out = 3 if provider == "mandrill" else 4  # to which a dict is always an event
    assert f"{left_out} of 7 events from {provider} could not be read" in caplog.text
    assert "readers.example" not in caplog.text


@every_provider
def test_a_body_that_cannot_be_read_is_a_bad_request(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    double = PROVIDERS[provider]
    rubbish = {
        "mandrill": b"mandrill_events=who%40readers.example",
        "amazon_ses": json.dumps({"Type": "Notification", "MessageId": "1", "Message": "who@readers.example"}).encode(),
        "mailgun": json.dumps(
            PROVIDERS["mailgun"].event(told("hard")) | {"event-data": "who@readers.example"}
        ).encode(),
        "unisender_go": double.together(["who@readers.example"])[0],
    }
    body = rubbish.get(provider, b'["who@readers.example"')
    answer = post(provider, Call(body, double.sign(body, told("hard")), double.content_type))
    assert answer.status_code == 400
    assert f"Events from {provider} cannot be read" in caplog.text
    assert "who@" not in caplog.text
    assert kept() == []


class Unread:
    """A body that nobody should read."""

    def read(self, size: int) -> bytes:
        raise AssertionError("the body was read")

    readline = read


def knock(name: str, length: str, headers: dict[str, str], body: Any = None) -> HttpResponse:
    """A call that says its length is `length`, whatever it is."""
    given: dict[str, Any] = {"CONTENT_LENGTH": length, "wsgi.input": body or Unread()}
    client = Client(raise_request_exception=False)
    return client.generic("POST", f"/webhooks/{name}/", headers=headers, **given)  # type: ignore[return-value]


@every_provider
def test_a_stranger_s_call_is_refused_before_its_body_is_read(provider: str, settings: Any) -> None:
    in_body = provider in ("mailgun", "unisender_go")
    if not in_body:
        assert knock(provider, "1000", {}).status_code in (401, 403)
    settings.ANYMAIL = PROVIDERS[provider].settings | {"WEBHOOK_SECRET": "lamp:another password of lamps"}
    for length in ("1000", str(BODY_BYTES + 1), "no number"):
        assert knock(provider, length, {}).status_code == 401
        assert knock(provider, length, basic("lamp:a wrong password")).status_code == 401
    if not in_body and providers.PROVIDERS[provider].header:
        assert knock(provider, "1000", basic("lamp:another password of lamps")).status_code == 403


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (str(BODY_BYTES + 1), 413),
        ("9" * 5000, 413),
        ("", 411),  # as by Transfer-Encoding: chunked
        ("-1", 411),
        ("+5", 411),
        ("1_0", 411),
        ("²", 411),
        ("many", 411),
        ("5, 5", 411),
    ],
)
def test_a_call_of_no_proper_length_is_refused_unread_and_not_as_a_mistake_of_ours(
    provider: str, length: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = knock(provider, length, basic())
    assert answer.status_code == status
    assert answer.content.decode().endswith(".")
    assert f"Events from {provider} are refused" in caplog.text


def test_a_call_that_breaks_off_is_no_mistake_of_ours(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    class Cut(Unread):
        def read(self, size: int) -> bytes:
            raise OSError("the client is gone")

    assert knock(provider, "1000", basic(), Cut()).status_code == 403
    assert "It broke off" in caplog.text


@pytest.mark.usefixtures("provider")
def test_a_call_may_be_larger_than_a_form() -> None:
    large = json.dumps(["x" * (BODY_BYTES - 100)]).encode()
    assert post("sparkpost", Call(large, basic())).status_code == 400


@every_provider
@pytest.mark.parametrize("nested", [b"[" * 200_000, b'{"a":' * 200_000], ids=["lists", "dicts"])
def test_a_body_nested_without_end_is_a_bad_request(provider: str, nested: bytes) -> None:
    double = PROVIDERS[provider]
    body = b"mandrill_events=" + nested if provider == "mandrill" else nested
    answer = post(
        provider, Call(body, double.sign(b'{"Type": "", "MessageId": ""}', told("hard")), double.content_type)
    )
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("provider", ["mandrill", "mailgun"], indirect=True)
def test_a_form_that_django_does_not_take_is_a_bad_request(provider: str) -> None:
    double = PROVIDERS[provider]
    body = b"&".join(b"f%d=1" % number for number in range(2000))
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary="):
        answer = post(provider, Call(body, double.sign(body, told("hard")), content_type))
        assert answer.status_code in (400, 403)
        assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.usefixtures("provider")
def test_where_nothing_can_be_kept_the_provider_is_to_call_again(settings: Any, tmp_path: Path) -> None:
    whole = settings.INTAKE_DIR
    settings.INTAKE_DIR = tmp_path / "file"
    settings.INTAKE_DIR.write_text("no folder")
    (call,) = PROVIDERS["sparkpost"].calls([told("hard")])
    assert post("sparkpost", call).status_code == 500
    settings.INTAKE_DIR = whole
    assert post("sparkpost", call).status_code == 200
    assert len(kept()) == 1


@pytest.fixture
def broken_listener() -> Iterator[None]:
    """Code of the operator's own that listens too, and fails over bounces."""

    def listen(event: AnymailTrackingEvent, **_: object) -> None:
        if event.event_type == EventType.BOUNCED:
            raise RuntimeError("of ada@readers.example")

    signal.connect(listen, weak=False, dispatch_uid="test")
    yield
    signal.disconnect(dispatch_uid="test")


@pytest.mark.usefixtures("broken_listener")
def test_a_mistake_of_ours_has_the_provider_call_again_and_keeps_the_rest(
    provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    (call,) = PROVIDERS[provider].calls([told("hard"), told("delivered")])
    assert post(provider, call).status_code == 500
    assert "delivered" in {entry["kind"] for entry in kept()}
    assert "have to come again" in caplog.text
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("newsletter")]
    assert not any("ada@" in message for message in ours)


def test_what_other_code_signals_is_kept_too() -> None:
    event = AnymailTrackingEvent(
        event_type=EventType.COMPLAINED, recipient=ADDRESS, message_id="1", timestamp=AT, esp_event={}
    )
    signal.send(sender=None, event=event, esp_name="Amazon SES")
    (entry,) = kept()
    assert (entry["kind"], entry["source"]) == ("complaint", "amazon_ses")


@pytest.mark.parametrize("kind", ["open", "click"])
@every_provider
def test_opens_and_clicks_by_a_provider_are_not_counted_beside_ours(provider: str, kind: str) -> None:
    assert tell(provider, told(kind)) == []


@pytest.mark.parametrize("provider", ["amazon_ses"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("SubscriptionConfirmation", "You have chosen to subscribe."),
        ("UnsubscribeConfirmation", "You have chosen to deactivate."),
        ("Notification", "Successfully validated SNS topic for Amazon SES event publishing."),
    ],
)
def test_what_amazon_says_of_the_subscription_itself_is_answered(
    provider: str, kind: str, message: str, settings: Any
) -> None:
    settings.ANYMAIL = PROVIDERS[provider].settings | {"AMAZON_SES_AUTO_CONFIRM_SNS_SUBSCRIPTIONS": False}
    body = json.dumps({"Type": kind, "MessageId": "1", "Token": "t", "TopicArn": "arn", "Message": message}).encode()
    assert post(provider, Call(body, PROVIDERS[provider].sign(body, told("hard")))).status_code == 200
    assert kept() == []


def test_an_event_about_nobody_is_left_out(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    event = {"msys": {"message_event": {"type": "bounce", "event_id": "1", "timestamp": "1770000000"}}}
    assert post(provider, Call(json.dumps([event]).encode(), basic())).status_code == 200
    assert kept() == []
    assert "neither a mail nor an address" in caplog.text


@pytest.mark.parametrize("token", ["12", "rubbish", 7, None, ["x"]])
def test_mail_of_another_system_in_the_same_account_is_none_of_ours(provider: str, token: Any) -> None:
    event = PROVIDERS[provider].event(told("hard"))
    event["msys"]["message_event"]["rcpt_meta"] = {"delivery": token}
    assert post(provider, Call(json.dumps([event]).encode(), basic())).status_code == 200
    assert "delivery_id" not in kept()[0]


@pytest.mark.parametrize("provider", ["sendgrid", "postal"], indirect=True)
def test_our_own_message_id_names_the_delivery_where_no_metadata_does(provider: str) -> None:
    assert tell(provider, told("hard", 9))[0]["delivery_id"] == 9


def test_nothing_happens_in_the_future(provider: str) -> None:
    now = dt.datetime.now(dt.UTC)
    (entry,) = tell(provider, told("hard", at=now + dt.timedelta(days=2)))
    assert now <= dt.datetime.fromisoformat(entry["at"]) <= now + dt.timedelta(minutes=5)


DISTRUST = "550 5.7.1 Message rejected due to the reputation of the sending IP"
CHANGE = {"RecordType": "SubscriptionChange", "SuppressSending": True, "Origin": "Recipient"}


def unisender(status: str, word: str) -> dict[str, Any]:
    info = {"delivery_status": word, "destination_response": ""}
    return {
        "event_data": PROVIDERS["unisender_go"].event(told("hard"))["event_data"]
        | {"status": status, "delivery_info": info}
    }


def resend(kind: str, bounce: str = "", sub: str = "") -> dict[str, Any]:
    data = PROVIDERS["resend"].event(told("delivered"))["data"]
    said = {"message": "It came back.", "type": bounce, "subType": sub}
    return {"type": kind, "data": data | ({"bounce": said} if bounce else {})}


def sparkpost(kind: str, number: str) -> dict[str, Any]:
    event = PROVIDERS["sparkpost"].event(told("delivered"))["msys"]["message_event"]
    return {"msys": {"message_event": event | {"type": kind, "bounce_class": number, "raw_reason": ""}}}


def mailgun(reason: str) -> dict[str, Any]:
    data = PROVIDERS["mailgun"].event(told("hard"))["event-data"]
    return {"event-data": data | {"reason": reason, "delivery-status": {"code": 605, "message": "", "description": ""}}}


def amazon(bounce: str, sub: str, diagnostic: str = "") -> dict[str, Any]:
    message = json.loads(PROVIDERS["amazon_ses"].event(told("hard"))["Message"])
    message["bounce"] |= {"bounceType": bounce, "bounceSubType": sub}
    del message["bounce"]["bouncedRecipients"][0]["diagnosticCode"]
    if diagnostic:
        message["bounce"]["bouncedRecipients"][0]["diagnosticCode"] = diagnostic
    return {"Message": json.dumps(message)}


# What Amazon says itself, word for word.
ON_THE_ACCOUNTS_LIST = (
    "Amazon SES did not send the message to this address because it is on the suppression list for your account. For"
    " more information about removing addresses from the suppression list, see the Amazon SES Developer Guide at"
    " https://docs.aws.amazon.com/ses/latest/DeveloperGuide/sending-email-suppression-list.html"
)
ON_AMAZONS_LIST = (
    "Amazon SES has suppressed sending to this address because it has a recent history of bouncing as an invalid"
    " address. For more information about how to remove an address from the suppression list, see the Amazon SES"
    " Developer Guide: http://docs.aws.amazon.com/ses/latest/DeveloperGuide/remove-from-suppressionlist.html"
)


def reported(name: str, feedback_type: str) -> dict[str, Any]:
    """What a provider tells of a reader's report of this type."""
    event: dict[str, Any] = PROVIDERS[name].event(told("complaint"))
    if name == "sparkpost":
        event["msys"]["message_event"]["fbtype"] = feedback_type
        return event
    message = json.loads(event["Message"])
    message["complaint"]["complaintFeedbackType"] = feedback_type
    return {"Message": json.dumps(message)}


WORDS: list[tuple[str, dict[str, Any], tuple[str, str | None] | None]] = [
    ("postmark", {"RecordType": "Bounce", "Type": "SpamNotification", "Details": ""}, ("bounce", "block")),
    ("postmark", {"RecordType": "Bounce", "Type": "HardBounce", "Details": ""}, ("bounce", "hard")),
    ("postmark", {"RecordType": "Bounce", "Type": "HardBounce", "Details": DISTRUST}, ("bounce", "block")),
    ("postmark", {"RecordType": "Bounce", "Type": "SoftBounce", "Details": ""}, ("bounce", "soft")),
    ("postmark", {"RecordType": "Bounce", "Type": "BadEmailAddress", "Details": ""}, ("bounce", "hard")),
    ("brevo", {"event": "hard_bounce", "reason": "451 4.3.0 try later"}, ("bounce", "soft")),
    ("brevo", {"event": "hard_bounce", "reason": ""}, ("bounce", "hard")),
    ("brevo", {"event": "invalid_email"}, ("bounce", "hard")),
    ("brevo", {"event": "error"}, ("bounce", "block")),
    ("mailjet", {"event": "blocked", "error": "spam reporter"}, ("complaint", None)),
    ("mailjet", {"event": "bounce", "error": "invalid domain", "hard_bounce": True}, ("bounce", "hard")),
    (
        "sendgrid",
        {"event": "bounce", "reason": DISTRUST, "bounce_classification": "Invalid Address"},
        ("bounce", "block"),
    ),
    ("sendgrid", {"event": "dropped", "reason": "Bounced Address"}, ("bounce", "hard")),
    ("sendgrid", {"event": "dropped", "reason": "Spam Reporting Address"}, ("complaint", None)),
    ("sendgrid", {"event": "dropped", "reason": "Unsubscribed Address"}, ("unsubscribe", None)),
    ("sendgrid", {"event": "dropped", "reason": "Recipient List over Package Quota"}, ("bounce", "block")),
    ("sendgrid", {"event": "dropped", "reason": "Spam Content"}, ("bounce", "block")),
    ("sendgrid", {"event": "bounce", "reason": "550 no", "type": "blocked"}, ("bounce", "block")),
    ("sendgrid", {"event": "bounce", "reason": "550 no", "type": "bounce"}, ("bounce", "soft")),
    ("sendgrid", {"event": "bounce", "type": "blocked", "bounce_classification": "Technical"}, ("bounce", "soft")),
    ("mailjet", {"event": "bounce", "error": "no mail host", "hard_bounce": True}, ("bounce", "soft")),
    ("mailjet", {"event": "blocked", "error": "preblocked"}, ("bounce", "soft")),
    ("mailjet", {"event": "blocked", "error": "duplicate in campaign"}, ("bounce", "block")),
    ("mailjet", {"event": "blocked", "error": "error in template language"}, ("bounce", "block")),
    ("postmark", {"RecordType": "Bounce", "Type": "SMTPApiError", "Details": "no"}, ("bounce", "block")),
    ("postmark", {"RecordType": "Bounce", "Type": "ManuallyDeactivated"}, ("bounce", "block")),
    ("postmark", {"RecordType": "Bounce", "Type": "DnsError"}, ("deferred", None)),
    ("postmark", {"RecordType": "Bounce", "Type": "Unsubscribe"}, ("unsubscribe", None)),
    ("postmark", {**CHANGE, "SuppressionReason": "HardBounce"}, None),
    ("postmark", {**CHANGE, "SuppressionReason": "SpamComplaint"}, ("complaint", None)),
    ("mandrill", {"event": "reject", "reject": {"reason": "soft-bounce"}}, ("bounce", "soft")),
    ("mandrill", {"event": "reject", "reject": {"reason": "hard-bounce"}}, ("bounce", "hard")),
    ("mandrill", {"event": "reject", "reject": {"reason": "unsub"}}, ("unsubscribe", None)),
    ("mandrill", {"event": "reject", "reject": {"reason": "unsigned"}}, ("bounce", "block")),
    ("unisender_go", unisender("hard_bounced", "err_mailbox_discarded"), ("bounce", "hard")),
    ("unisender_go", unisender("hard_bounced", "err_user_inactive"), ("bounce", "soft")),
    ("unisender_go", unisender("hard_bounced", "err_domain_inactive"), ("bounce", "soft")),
    ("unisender_go", unisender("hard_bounced", "err_spam_removed"), ("bounce", "block")),
    ("unisender_go", unisender("spam", "ok_spam_folder"), ("bounce", "block")),
    ("unisender_go", unisender("spam", "ok_fbl"), ("complaint", None)),
    ("resend", resend("email.bounced", "Permanent", "Suppressed"), ("bounce", "hard")),
    ("resend", resend("email.bounced", "Undetermined", "Undetermined"), ("bounce", "soft")),
    ("resend", resend("email.bounced", "Transient", "ContentRejected"), ("bounce", "block")),
    ("resend", resend("email.suppressed"), ("bounce", "hard")),
    ("resend", resend("email.failed"), ("bounce", "block")),
    ("resend", resend("email.scheduled"), None),
    ("sparkpost", sparkpost("bounce", "30"), ("bounce", "hard")),
    ("sparkpost", sparkpost("bounce", "1"), ("bounce", "soft")),
    ("sparkpost", sparkpost("bounce", "40"), ("bounce", "soft")),
    ("sparkpost", sparkpost("bounce", "21"), ("bounce", "soft")),
    ("sparkpost", sparkpost("bounce", "50"), ("bounce", "block")),
    ("sparkpost", sparkpost("policy_rejection", "25"), ("bounce", "block")),
    ("mailgun", mailgun("suppress-bounce"), ("bounce", "hard")),
    ("mailgun", mailgun("suppress-complaint"), ("complaint", None)),
    ("mailgun", mailgun("suppress-unsubscribe"), ("unsubscribe", None)),
    ("mailgun", mailgun("old"), ("bounce", "soft")),
    ("mailgun", mailgun("generic"), ("bounce", "soft")),
    ("amazon_ses", amazon("Permanent", "OnAccountSuppressionList"), ("bounce", "hard")),
    ("amazon_ses", amazon("Permanent", "OnAccountSuppressionList", ON_THE_ACCOUNTS_LIST), ("bounce", "hard")),
    ("amazon_ses", amazon("Permanent", "Suppressed", ON_AMAZONS_LIST), ("bounce", "hard")),
    ("amazon_ses", reported("amazon_ses", "fraud"), ("complaint", None)),
    ("amazon_ses", reported("amazon_ses", "not-spam"), None),
    ("amazon_ses", reported("amazon_ses", "auth-failure"), None),
    ("sparkpost", reported("sparkpost", "abuse"), ("complaint", None)),
    ("sparkpost", reported("sparkpost", "opt-out"), ("unsubscribe", None)),
    ("sparkpost", reported("sparkpost", "Not-Spam"), None),
    ("amazon_ses", amazon("Permanent", "NoEmail"), ("bounce", "hard")),
    ("amazon_ses", amazon("Transient", "General"), ("bounce", "soft")),
    ("amazon_ses", amazon("Transient", "MessageTooLarge"), ("bounce", "block")),
    ("amazon_ses", amazon("Undetermined", "Undetermined"), ("bounce", "soft")),
]


@pytest.mark.parametrize(("name", "fields", "wanted"), WORDS)
def test_a_provider_s_own_words_count_where_the_receiving_server_says_less(
    name: str, fields: dict[str, Any], wanted: tuple[str, str | None] | None, settings: Any
) -> None:
    settings.ENV = ENV.model_copy(update={"events_from": name})
    settings.ANYMAIL = PROVIDERS[name].settings
    double = PROVIDERS[name]
    like = double.event(told("delivered")) or double.event(told("accepted"))
    bare = {key: value for key, value in like.items() if key not in ("reason", "response")}
    payload = double.together([bare | fields | {"Email": ADDRESS}])[0]
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    content_type = "application/json" if name == "amazon_ses" else double.content_type
    assert post(name, Call(body, double.sign(body, told("hard")), content_type)).status_code == 200
    assert [(entry["kind"], entry.get("verdict")) for entry in kept()] == ([wanted] if wanted else [])


@pytest.mark.parametrize(
    ("update", "anymail", "words"),
    [
        ({"provider": "postmark"}, {}, "WEBHOOK_SECRET is not set"),
        ({"provider": "mailgun"}, {"MAILGUN_API_KEY": "x"}, "MAILGUN_WEBHOOK_SIGNING_KEY is not set"),
        ({"provider": "resend"}, {}, "RESEND_SIGNING_SECRET or WEBHOOK_SECRET is not set"),
        ({"provider": "brevo"}, {"WEBHOOK_SECRET": "lamp:short"}, "at least 16 characters"),
        ({"provider": "brevo"}, {"WEBHOOK_SECRET": ["lamp:a password of lamps", "bare"]}, "at least 16 characters"),
        ({"events_from": "sendgrid"}, {}, "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY or WEBHOOK_SECRET is not set"),
        ({"provider": "brevo"}, PROVIDERS["brevo"].settings, ""),
        ({"provider": "scaleway"}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_what_is_missing_is_named(update: dict[str, str], anymail: dict[str, Any], words: str, settings: Any) -> None:
    settings.ENV = ENV.model_copy(update=update)
    settings.ANYMAIL = anymail
    found = incoming.problems()
    assert bool(found) == bool(words)
    assert all(words in problem and "ANYMAIL" in problem + hint for problem, hint in found)
