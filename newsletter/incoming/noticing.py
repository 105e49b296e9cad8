"""From one of django-anymail's events to a notice: what it is about, what it means, and the key that makes two one.

An address is turned into its fingerprint here and goes no further.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from anymail.signals import EventType, RejectReason  # type: ignore[import-untyped]

from newsletter import bounces, tracking
from newsletter.bounces import Cause, Judgement, Verdict
from newsletter.bounces.judging import is_hollow
from newsletter.feedback import Notice, key_of
from newsletter.incoming import meanings
from newsletter.incoming.meanings import Kind, dig, text
from newsletter.transports.provider.mails import DELIVERY
from subscribers import addresses

if TYPE_CHECKING:
    from anymail.signals import AnymailTrackingEvent

# What is in none of these is no notice. Opens and clicks are our own pixel's and links': a provider's are switched off,
# and where somebody left them on they would count a second time.
KINDS: Mapping[str, Kind] = {
    EventType.QUEUED: Kind.ACCEPTED,
    EventType.SENT: Kind.ACCEPTED,
    EventType.DELIVERED: Kind.DELIVERED,
    EventType.DEFERRED: Kind.DEFERRED,
    EventType.BOUNCED: Kind.BOUNCE,
    EventType.REJECTED: Kind.BOUNCE,
    EventType.FAILED: Kind.BOUNCE,
    EventType.COMPLAINED: Kind.COMPLAINT,
    EventType.UNSUBSCRIBED: Kind.UNSUBSCRIBE,
}
# What follows where a provider hands on what a reader reported; nothing from what is in none of these.
_FEEDBACK = {bounces.Kind.COMPLAINT: Kind.COMPLAINT, bounces.Kind.UNSUBSCRIBE: Kind.UNSUBSCRIBE}
# Where neither the receiving server nor the provider's own words say why. A provider that will not send to an address
# that bounced keeps those that bounced hard.
_REASONS: Mapping[str, Cause] = {
    RejectReason.INVALID: Cause.NO_MAILBOX,
    RejectReason.TIMED_OUT: Cause.EXPIRED,
    RejectReason.BLOCKED: Cause.POLICY,
    RejectReason.SPAM: Cause.SPAM,
}
# Where the mail's own Message-ID stands, when the event's id is another.
_MESSAGE_IDS: Mapping[str, tuple[str | int, ...]] = {
    "amazon_ses": ("mail", "commonHeaders", "messageId"),
    "postal": ("payload", "message", "message_id"),
    "sendgrid": ("smtp-id",),
}
# What is one event, where the provider's id of the call would be another each time it repeats it.
_EVENT_IDS: Mapping[str, tuple[str | int, ...]] = {"mailgun": ("event-data", "id")}
# Most addresses are their own key in lower case; the others take a hundred times as long to be read.
_PLAIN = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}"
)
ADDRESS = 320  # characters that an address has at the most: 64 before the @, 255 behind it
# The calendar's own ends cannot be stored, nor moved to another time zone.
FIRST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_ANGLES = str.maketrans("", "", "<>")


class Nameless(ValueError):
    """An event that says of no mail and no reader what happened to them."""


def notice_of(event: AnymailTrackingEvent, name: str, now: dt.datetime) -> Notice | None:
    """What `event` of provider `name` tells; None where it is nothing that anything follows from.

    Raises Nameless where it names neither a delivery nor an address.
    """
    given = KINDS.get(event.event_type)
    has_words = given in (Kind.BOUNCE, Kind.COMPLAINT) or event.event_type == EventType.UNKNOWN
    words = meanings.words(name, event.esp_event) if has_words else []
    kind = _kind(given, event, name, words)
    if kind is None:
        return None
    print_ = _fingerprint(text(event.recipient))
    provider_id = text(event.message_id)
    about = _about(event, name, provider_id)
    if not about and not provider_id and not print_:
        raise Nameless("It names neither a mail nor an address.")
    fields = {
        "key": _key(event, name, kind, print_, (about.get("delivery_id", ""), provider_id, *words)),
        "at": _at(event.timestamp, now),
        "source": name,
        "provider_id": provider_id,
        "fingerprint": print_,
        **about,
    }
    if kind == Kind.BOUNCE:
        return Notice.bounced(_judgement(event, name, words), **fields)
    detail = "" if kind in (Kind.ACCEPTED, Kind.DELIVERED) else text(event.mta_response) or text(event.description)
    return Notice(kind=kind, detail=detail, **fields)


def _kind(kind: Kind | None, event: AnymailTrackingEvent, name: str, words: list[str]) -> Kind | None:
    """The kind that the provider's words make of it."""
    if kind == Kind.BOUNCE and event.reject_reason == RejectReason.UNSUBSCRIBED:
        return Kind.UNSUBSCRIBE
    meant = meanings.KINDS.get(name, {})
    kind = next((meant[word] for word in words if word in meant), kind)
    if kind != Kind.COMPLAINT:
        return kind
    return _FEEDBACK.get(bounces.kind_of_feedback(meanings.feedback_type(name, event.esp_event)))


def _about(event: AnymailTrackingEvent, name: str, provider_id: str) -> dict[str, Any]:
    """The delivery that our own metadata or our own Message-ID names, if any."""
    metadata = event.metadata if isinstance(event.metadata, Mapping) else {}
    for read, token in _names(metadata, event.esp_event, name, provider_id):
        try:
            return {"delivery_id": read(token)}
        except tracking.BadToken:
            continue  # another system's mail, sent through the same account
    return {}


def _names(metadata: Mapping[str, Any], raw: Any, name: str, provider_id: str) -> Iterator[tuple[Any, str]]:
    if token := text(metadata.get(DELIVERY)):
        yield tracking.read_delivery_token, token
    if message_id := text(dig(raw, *_MESSAGE_IDS[name])) if name in _MESSAGE_IDS else "":
        yield tracking.delivery_of_message_id, message_id
    if "@" in provider_id:
        yield tracking.delivery_of_message_id, provider_id


def _key(event: AnymailTrackingEvent, name: str, kind: Kind, print_: str, about: tuple[object, ...]) -> uuid.UUID:
    """The provider's id of the event, or all that tells it from others; with whom it is about, since one event may name
    several."""
    if name in _EVENT_IDS:
        own = text(dig(event.esp_event, *_EVENT_IDS[name]))
    elif own := text(event.event_id):
        return key_of(name, kind.value, print_, own)
    at = event.timestamp.isoformat() if event.timestamp else ""
    return key_of(name, kind.value, print_, own, at, event.event_type, text(event.mta_response), *about)


def _at(timestamp: dt.datetime | None, now: dt.datetime) -> dt.datetime:
    """When it happened: not in the future, whatever the provider's clock says, nor before there was such mail."""
    if timestamp is None:
        return now
    aware = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=dt.UTC)
    return max(FIRST, min(aware, now))


def _judgement(event: AnymailTrackingEvent, name: str, words: list[str]) -> Judgement:
    """Why a mail failed: the receiving server's words first, then the provider's, then its reason as normalised."""
    said = text(event.mta_response) or text(event.description)
    raw = event.esp_event
    found = bounces.judge(said, code=meanings.code(name, raw), status=meanings.status(name, raw))
    if not is_hollow(found):
        return found
    meant = meanings.CAUSES.get(name, {})
    cause = next((meant[word] for word in words if word in meant), None)
    if cause is None and found.cause is Cause.UNCLEAR:
        suppressed = event.reject_reason == RejectReason.BOUNCED and event.event_type == EventType.REJECTED
        weak = meanings.WEAK.get(name, {})
        cause = Cause.NO_MAILBOX if suppressed else next((weak[word] for word in words if word in weak), None)
        cause = cause or _REASONS.get(event.reject_reason) or _by_type(event)
    if cause is None or (cause.verdict is Verdict.HARD and found.cause is Cause.TRY_LATER):
        return found
    return Judgement(cause, found.status, found.diagnostic)


def _by_type(event: AnymailTrackingEvent) -> Cause | None:
    """A provider that did not send at all, where no receiving server has said anything, has a rule of its own."""
    own = event.event_type in (EventType.REJECTED, EventType.FAILED) and not event.mta_response
    return Cause.POLICY if own else None


def _fingerprint(address: str) -> str:
    """The fingerprint of an address, as providers give it; "" of what is none."""
    address = address.translate(_ANGLES).strip()
    if len(address) > ADDRESS:
        return ""
    if _PLAIN.fullmatch(address):
        return addresses.fingerprint(address.lower())
    try:
        return addresses.fingerprint(addresses.parse(address).key) if address else ""
    except addresses.AddressError:
        return ""
