"""What each provider says of sent mail, as its documents show it, and how it proves that it says so.

`PROVIDERS[name].calls(told)` are the calls by which the provider tells a list of `Told`.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from svix.webhooks import Webhook

PASSWORD = "lamp:a password of lamps"
BASIC = {"WEBHOOK_SECRET": PASSWORD}
KEY = "a key to sign events with"
SVIX_KEY = "whsec_" + base64.b64encode(b"a key to sign events with, long").decode()
HOST = "http://testserver"


@dataclass(frozen=True)
class Told:
    """Something that a provider tells: `kind` is a Kind of ours, or one of hard, soft and block for a bounce."""

    kind: str
    token: str
    address: str
    at: dt.datetime
    message_id: str = "b7bc2f4a-e38e-4336-af7d-e6c392c2f817"
    own_message_id: str = ""

    @property
    def id(self) -> str:
        """The provider's own id of this event."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.kind} {self.address} {self.at}"))

    @property
    def seconds(self) -> int:
        return int(self.at.timestamp())

    @property
    def iso(self) -> str:
        return self.at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Call:
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Provider:
    """`event` is one event in the provider's words, None where it has none of the kind; `together` the bodies that
    carry a list of them, `sign` the headers that prove a body; `settings` what ANYMAIL then has."""

    event: Callable[[Told], Any]
    settings: dict[str, Any] = field(default_factory=lambda: BASIC)
    together: Callable[[list[Any]], list[Any]] = list
    sign: Callable[[bytes, Told], dict[str, str]] = lambda _body, _told: basic()
    content_type: str = "application/json"
    metadata: bool = True

    def calls(self, told: Sequence[Told]) -> list[Call]:
        events = [event for each in told if (event := self.event(each)) is not None]
        calls = []
        for number, payload in enumerate(self.together(events)):
            body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            calls.append(Call(body, self.sign(body, told[min(number, len(told) - 1)]), self.content_type))
        return calls


def basic(secret: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}


NO_MAILBOX = "550 5.1.1 The email account that you tried to reach does not exist."
FULL = "452 4.2.2 The email account that you tried to reach is over quota."
REFUSED = "550 5.7.1 Our system has detected that this message is likely unsolicited mail."
LATER = "451 4.7.1 Greylisted, please try again later"
SAID = {"hard": NO_MAILBOX, "soft": FULL, "block": REFUSED, "deferred": LATER, "delivered": "250 2.0.0 OK"}


def amazon_ses(told: Told) -> Any:
    mail = {
        "timestamp": told.iso,
        "messageId": told.message_id,
        "source": "desk@weekly.example",
        "destination": [told.address],
        "headersTruncated": False,
        "headers": [
            {"name": "From", "value": "desk@weekly.example"},
            {"name": "To", "value": told.address},
            {"name": "X-Metadata", "value": json.dumps({"delivery": told.token})},
        ],
    }
    recipient = {"emailAddress": told.address, "action": "failed", "diagnosticCode": f"smtp; {SAID.get(told.kind)}"}
    bounces = {
        "hard": ("Permanent", "General"),
        "soft": ("Transient", "MailboxFull"),
        "block": ("Transient", "General"),
    }
    events: dict[str, Any] = {
        "accepted": {"eventType": "Send", "send": {}},
        "delivered": {
            "eventType": "Delivery",
            "delivery": {"timestamp": told.iso, "recipients": [told.address], "smtpResponse": SAID["delivered"]},
        },
        "complaint": {
            "eventType": "Complaint",
            "complaint": {
                "complainedRecipients": [{"emailAddress": told.address}],
                "complaintFeedbackType": "abuse",
                "timestamp": told.iso,
                "feedbackId": "0100-1",
            },
        },
        "open": {"eventType": "Open", "open": {"ipAddress": "192.0.2.1", "userAgent": "Mail"}},
    }
    if told.kind in bounces:
        kind, sub = bounces[told.kind]
        events[told.kind] = {
            "eventType": "Bounce",
            "bounce": {
                "bounceType": kind,
                "bounceSubType": sub,
                "bouncedRecipients": [recipient],
                "timestamp": told.iso,
            },
        }
    if told.kind not in events:
        return None
    return {
        "Type": "Notification",
        "MessageId": told.id,
        "TopicArn": "arn:aws:sns:eu-central-1:111122223333:events",
        "Message": json.dumps({**events[told.kind], "mail": mail}),
        "Timestamp": told.iso,
        "SignatureVersion": "1",
    }


def sign_amazon(body: bytes, told: Told) -> dict[str, str]:
    sns = json.loads(body)
    return basic() | {"X-Amz-Sns-Message-Type": sns["Type"], "X-Amz-Sns-Message-Id": sns["MessageId"]}


def brevo(told: Told) -> Any:
    names = {
        "accepted": "request", "delivered": "delivered", "deferred": "deferred", "hard": "hard_bounce",
        "soft": "soft_bounce", "block": "blocked", "complaint": "spam", "unsubscribe": "unsubscribe",
        "open": "unique_opened", "click": "click",
    }  # fmt: skip
    event = {
        "event": names[told.kind],
        "email": told.address,
        "id": 42,
        "ts_epoch": told.seconds * 1000,
        "message-id": f"<{told.message_id}@smtp-relay.example>",
        "subject": "Issue 1",
        "X-Mailin-custom": json.dumps({"delivery": told.token}),
    }
    return event | ({"reason": SAID[told.kind]} if told.kind in SAID else {})


def mailersend(told: Told) -> Any:
    names = {
        "accepted": "sent", "delivered": "delivered", "hard": "hard_bounced", "soft": "soft_bounced",
        "complaint": "spam_complaint", "unsubscribe": "unsubscribed", "open": "opened", "click": "clicked",
    }  # fmt: skip
    if told.kind not in names:
        return None
    morph = None
    if told.kind in SAID and told.kind != "delivered":
        morph = {"object": "recipient_bounce", "reason": SAID[told.kind], "readable_reason": SAID[told.kind]}
    return {
        "type": f"activity.{names[told.kind]}",
        "created_at": told.iso,
        "data": {
            "object": "activity",
            "id": told.id,
            "type": names[told.kind],
            "created_at": told.iso,
            "email": {
                "object": "email",
                "id": "62f114f8165fe0d8db0288e3",
                "message": {"object": "message", "id": told.message_id},
                "recipient": {"object": "recipient", "email": told.address},
            },
            "morph": morph,
        },
    }


def mailgun(told: Told) -> Any:
    events: dict[str, Any] = {
        "accepted": {"event": "accepted"},
        "delivered": {"event": "delivered", "delivery-status": {"code": 250, "message": "OK", "description": ""}},
        "complaint": {"event": "complained"},
        "unsubscribe": {"event": "unsubscribed"},
        "open": {"event": "opened"},
        "click": {"event": "clicked", "url": "https://example.com/"},
    }
    for kind, severity, code in (("hard", "permanent", 550), ("soft", "permanent", 552), ("block", "permanent", 550)):
        status = {"code": code, "message": SAID[kind].removeprefix(f"{code} "), "description": ""}
        if kind == "soft":
            status["message"] = "5.2.2 The email account that you tried to reach is over quota."
        events[kind] = {"event": "failed", "severity": severity, "reason": "bounce", "delivery-status": status}
    events["deferred"] = {
        "event": "failed",
        "severity": "temporary",
        "reason": "generic",
        "delivery-status": {"code": 451, "message": LATER, "retry-seconds": 600},
    }
    data = {
        **events[told.kind],
        "id": told.id,
        "timestamp": told.seconds + 0.25,
        "recipient": told.address,
        "message": {"headers": {"message-id": f"{told.message_id}@mg.example.org", "to": told.address}},
        "user-variables": {"delivery": told.token},
        "tags": [],
        "log-level": "info",
    }
    # A repeated call has another token: its signature is made anew.
    token = uuid.uuid4().hex
    stamp = str(told.seconds)
    signature = hmac.new(KEY.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    return {"signature": {"timestamp": stamp, "token": token, "signature": signature}, "event-data": data}


def mailjet(told: Told) -> Any:
    names = {
        "delivered": "sent", "hard": "bounce", "soft": "bounce", "block": "blocked", "complaint": "spam",
        "unsubscribe": "unsub", "open": "open", "click": "click", "deferred": "bounce",
    }  # fmt: skip
    errors = {
        "hard": ("recipient", "user unknown"), "soft": ("recipient", "quota exceeded"),
        "block": ("spam", "content blocked"), "deferred": ("domain", "greylisted"),
    }  # fmt: skip
    if told.kind not in names:
        return None
    event = {
        "event": names[told.kind],
        "time": told.seconds,
        "MessageID": 19421777835146490,
        "Message_GUID": told.message_id,
        "email": told.address,
        "mj_campaign_id": 7257,
        "mj_contact_id": 4,
        "customcampaign": "",
        "CustomID": "",
        "Payload": json.dumps({"delivery": told.token}),
    }
    if told.kind in errors:
        related, error = errors[told.kind]
        event |= {"error_related_to": related, "error": error, "hard_bounce": told.kind == "hard", "blocked": False}
    return event


def mailtrap(told: Told) -> Any:
    names = {
        "delivered": "delivery", "deferred": "soft bounce", "hard": "bounce", "soft": "bounce", "block": "reject",
        "complaint": "spam", "unsubscribe": "unsubscribe", "open": "open", "click": "click",
    }  # fmt: skip
    if told.kind not in names:
        return None
    event = {
        "event": names[told.kind],
        "message_id": told.message_id,
        "sending_stream": "bulk",
        "email": told.address,
        "timestamp": told.seconds,
        "event_id": told.id,
        "custom_variables": {"delivery": told.token},
    }
    if told.kind in ("hard", "soft", "deferred"):
        event |= {"response": SAID[told.kind], "response_code": int(SAID[told.kind][:3]), "bounce_category": "other"}
    return event | ({"reason": "Sending is paused for this domain."} if told.kind == "block" else {})


def mandrill(told: Told) -> Any:
    names = {
        "accepted": "send", "deferred": "deferral", "hard": "hard_bounce", "soft": "soft_bounce", "block": "reject",
        "complaint": "spam", "unsubscribe": "unsub", "open": "open", "click": "click",
    }  # fmt: skip
    if told.kind not in names:
        return None
    message = {
        "_id": told.message_id, "email": told.address, "sender": "desk@weekly.example", "ts": told.seconds,
        "state": "sent", "tags": [], "metadata": {"delivery": told.token},
    }  # fmt: skip
    if told.kind in ("hard", "soft"):
        message |= {"bounce_description": {"hard": "bad_mailbox", "soft": "mailbox_full"}[told.kind]}
        message |= {"diag": f"smtp;{SAID[told.kind]}"}
    event = {"event": names[told.kind], "_id": told.message_id, "ts": told.seconds, "msg": message}
    return event | ({"reject": {"reason": "rule", "detail": ""}} if told.kind == "block" else {})


def mandrill_form(events: list[Any]) -> list[Any]:
    return [urlencode({"mandrill_events": json.dumps(events)}).encode()]


def sign_mandrill(body: bytes, told: Told) -> dict[str, str]:
    signed = f"{HOST}/webhooks/mandrill/" + "".join(name + value for name, value in sorted(parse_qsl(body.decode())))
    digest = hmac.new(KEY.encode(), signed.encode(), hashlib.sha1).digest()
    return {"X-Mandrill-Signature": base64.b64encode(digest).decode()}


def postal(told: Told) -> Any:
    statuses = {
        "delivered": "Sent",
        "deferred": "SoftFail",
        "hard": "HardFail",
        "soft": "HardFail",
        "block": "HardFail",
    }
    message = {
        "id": 12345, "token": "abcdef123", "direction": "outgoing", "message_id": told.own_message_id,
        "to": told.address, "from": "desk@weekly.example", "subject": "Issue 1", "timestamp": told.seconds, "tag": None,
    }  # fmt: skip
    if told.kind not in statuses:
        return None
    status = statuses[told.kind]
    output = "552 5.2.2 The mailbox is over quota." if told.kind == "soft" else SAID[told.kind]
    payload = {"status": status, "details": "Message for … by the receiving server", "output": output}
    return {
        "event": "MessageSent",
        "timestamp": told.seconds,
        "uuid": told.id,
        "payload": {**payload, "sent_with_ssl": True, "timestamp": told.seconds, "time": 0.2, "message": message},
    }


def postmark(told: Told) -> Any:
    common = {"MessageID": told.message_id, "Metadata": {"delivery": told.token}, "ServerID": 23, "Tag": ""}
    if told.kind == "delivered":
        return common | {
            "RecordType": "Delivery", "Recipient": told.address, "DeliveredAt": told.iso, "Details": SAID["delivered"],
        }  # fmt: skip
    if told.kind == "unsubscribe":
        return common | {
            "RecordType": "SubscriptionChange", "Recipient": told.address, "ChangedAt": told.iso, "Origin": "Recipient",
            "SuppressSending": True, "SuppressionReason": "ManualSuppression",
        }  # fmt: skip
    if told.kind == "open":
        return common | {"RecordType": "Open", "Recipient": told.address, "ReceivedAt": told.iso, "UserAgent": "Mail"}
    types = {
        "hard": ("Bounce", "HardBounce", 1), "soft": ("Bounce", "SoftBounce", 4096), "block": ("Bounce", "Blocked", 2),
        "deferred": ("Bounce", "Transient", 2), "complaint": ("SpamComplaint", "SpamComplaint", 512),
    }  # fmt: skip
    if told.kind not in types:
        return None
    record, kind, code = types[told.kind]
    return common | {
        "RecordType": record, "Type": kind, "TypeCode": code, "ID": uuid.UUID(told.id).int % 10**10,
        "Email": told.address,
        "BouncedAt": told.iso, "Name": kind, "Description": "", "Details": SAID.get(told.kind, ""), "Inactive": False,
    }  # fmt: skip


def resend(told: Told) -> Any:
    names = {
        "accepted": "sent", "delivered": "delivered", "deferred": "delivery_delayed", "hard": "bounced",
        "soft": "bounced", "complaint": "complained", "open": "opened", "click": "clicked",
    }  # fmt: skip
    if told.kind not in names:
        return None
    data: dict[str, Any] = {
        "created_at": told.iso,
        "email_id": told.message_id,
        "from": "desk@weekly.example",
        "to": [told.address],
        "headers": [{"name": "X-Metadata", "value": json.dumps({"delivery": told.token})}],
        "subject": "Issue 1",
    }
    kinds = {"hard": ("Permanent", "General"), "soft": ("Transient", "MailboxFull")}
    if told.kind in kinds:
        kind, sub = kinds[told.kind]
        data["bounce"] = {
            "message": "The recipient's email provider sent a bounce message.",
            "type": kind,
            "subType": sub,
        }
    return {
        "type": f"email.{names[told.kind]}",
        "created_at": told.at.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00"),
        "data": data,
    }


def sign_resend(body: bytes, told: Told) -> dict[str, str]:
    now = dt.datetime.now(dt.UTC)
    signature = Webhook(SVIX_KEY).sign(told.id, now, body.decode())
    return {"svix-id": told.id, "svix-timestamp": str(int(now.timestamp())), "svix-signature": signature}


def sendgrid(told: Told) -> Any:
    names = {
        "accepted": "processed", "delivered": "delivered", "deferred": "deferred", "hard": "bounce", "soft": "bounce",
        "block": "bounce", "complaint": "spamreport", "unsubscribe": "unsubscribe", "open": "open", "click": "click",
    }  # fmt: skip
    event = {
        "email": told.address, "timestamp": told.seconds, "event": names[told.kind], "sg_event_id": told.id,
        "sg_message_id": f"{told.message_id}.filter0001", "smtp-id": f"<{told.own_message_id}>",
        "category": "weekly",
    }  # fmt: skip
    if told.kind in ("hard", "soft", "block"):
        status = SAID[told.kind].split()[1]
        event |= {"reason": SAID[told.kind], "status": status, "type": "blocked" if told.kind == "block" else "bounce"}
    if told.kind in ("deferred", "delivered"):
        event |= {"response": SAID[told.kind]}
    return event


def sign_sendgrid(body: bytes, told: Told) -> dict[str, str]:
    signature = _ec_key().sign(b"1770000000" + body, ec.ECDSA(hashes.SHA256()))
    return {
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": "1770000000",
    }


def sparkpost(told: Told) -> Any:
    names = {
        "accepted": ("message_event", "injection"), "delivered": ("message_event", "delivery"),
        "deferred": ("message_event", "delay"), "hard": ("message_event", "bounce"),
        "soft": ("message_event", "bounce"),
        "block": ("message_event", "bounce"), "complaint": ("message_event", "spam_complaint"),
        "unsubscribe": ("unsubscribe_event", "list_unsubscribe"), "open": ("track_event", "open"),
        "click": ("track_event", "click"),
    }  # fmt: skip
    place, kind = names[told.kind]
    event = {
        "type": kind, "event_id": told.id, "timestamp": str(told.seconds), "transmission_id": "65832150921904138",
        "message_id": told.message_id, "rcpt_to": told.address.lower(), "raw_rcpt_to": told.address,
        "rcpt_meta": {"delivery": told.token}, "subject": "Issue 1", "template_id": "template_1",
    }  # fmt: skip
    classes = {"hard": "10", "soft": "22", "block": "51", "deferred": "20"}
    if told.kind in classes:
        event |= {"bounce_class": classes[told.kind], "error_code": SAID[told.kind][:3], "raw_reason": SAID[told.kind]}
    return {"msys": {place: event}}


def unisender_go(told: Told) -> Any:
    statuses = {
        "accepted": ("sent", "ok_sent"), "delivered": ("delivered", "ok_delivered"), "open": ("opened", "ok_read"),
        "deferred": ("soft_bounced", "err_will_retry"), "hard": ("hard_bounced", "err_user_unknown"),
        "soft": ("hard_bounced", "err_mailbox_full"), "block": ("hard_bounced", "err_spam_rejected"),
        "complaint": ("spam", "err_spam_rejected"), "unsubscribe": ("unsubscribed", "ok_unsubscribed"),
        "click": ("clicked", "ok_link_visited"),
    }  # fmt: skip
    status, delivered = statuses[told.kind]
    return {
        "event_name": "transactional_email_status",
        "event_data": {
            "job_id": "1ZymBc-00041N-9X",
            "metadata": {"delivery": told.token, "anymail_id": told.message_id},
            "email": told.address,
            "status": status,
            "event_time": told.at.strftime("%Y-%m-%d %H:%M:%S"),
            "delivery_info": {"delivery_status": delivered, "destination_response": SAID.get(told.kind, "")},
        },
    }


def unisender_body(events: list[Any]) -> list[Any]:
    body = json.dumps({"auth": "AUTH", "events_by_user": [{"user_id": 456, "project_id": "1", "events": events}]})
    auth = hashlib.md5(body.replace("AUTH", KEY).encode()).hexdigest()
    return [body.replace("AUTH", auth).encode()]


def hexdigest(header: str) -> Callable[[bytes, Told], dict[str, str]]:
    return lambda body, told: {header: hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()}


def sign_postal(body: bytes, told: Told) -> dict[str, str]:
    signature = _rsa_key().sign(body, padding.PKCS1v15(), hashes.SHA1())
    return {"X-Postal-Signature": base64.b64encode(signature).decode()}


@lru_cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


@lru_cache
def _ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return base64.b64encode(
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).decode()


def nothing(body: bytes, told: Told) -> dict[str, str]:
    return {}


def all_in_one(events: list[Any]) -> list[Any]:
    return [events]


PROVIDERS = {
    "amazon_ses": Provider(amazon_ses, sign=sign_amazon, content_type="text/plain; charset=UTF-8"),
    "brevo": Provider(brevo),
    "mailersend": Provider(mailersend, {"MAILERSEND_SIGNING_SECRET": KEY}, sign=hexdigest("Signature"), metadata=False),
    "mailgun": Provider(mailgun, {"MAILGUN_WEBHOOK_SIGNING_KEY": KEY}, sign=nothing),
    "mailjet": Provider(mailjet, together=all_in_one),
    "mailtrap": Provider(
        mailtrap,
        {"MAILTRAP_TRACKING_SECRET": KEY},
        together=lambda events: [{"events": events}],
        sign=hexdigest("Mailtrap-Signature"),
    ),
    "mandrill": Provider(
        mandrill,
        {"MANDRILL_WEBHOOK_KEY": KEY},
        together=mandrill_form,
        sign=sign_mandrill,
        content_type="application/x-www-form-urlencoded",
    ),
    "postal": Provider(postal, {"POSTAL_WEBHOOK_KEY": _public(_rsa_key())}, sign=sign_postal),
    "postmark": Provider(postmark),
    "resend": Provider(resend, {"RESEND_SIGNING_SECRET": SVIX_KEY}, sign=sign_resend),
    "sendgrid": Provider(
        sendgrid,
        {"SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY": _public(_ec_key())},
        together=all_in_one,
        sign=sign_sendgrid,
    ),
    "sparkpost": Provider(sparkpost, together=all_in_one),
    "unisender_go": Provider(unisender_go, {"UNISENDER_GO_API_KEY": KEY}, together=unisender_body, sign=nothing),
}
