"""One mail that came back: whose it is, what it means, and what follows, once.

    receive(raw, recipient)    the same for a pipe (`receive_mail`) and for a mailbox (`read_bounces`)

Whose it is says a signed token: in the address that it was sent to, else in the Message-ID of the mail that it returns.
Anybody can write to the address for bounces, so nothing follows from what only names a reader's address, unless there
is no BOUNCE_ADDRESS and so no token to ask for. The unsubscribe link is seen by whomever the mail is shown to, and does
no more here than on its page. What a person wrote is for a person to read, and is left where it is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from enum import StrEnum

from django.conf import settings
from django.utils import timezone

from newsletter import bounces, feedback, tracking
from newsletter.bounces import Judgement, Report
from newsletter.feedback import Notice
from newsletter.models import Delivery, Event, Newsletter
from subscribers import addresses
from subscribers.models import Subscriber

logger = logging.getLogger(__name__)

Kind = bounces.Kind

LIMIT = 5 * 1024 * 1024  # octets of a mail that are read: what went wrong stands in front of the mail that is returned
SOURCE = "mail"

_OLDEST = dt.timedelta(days=30)  # a Date before this is a clock that is wrong
# What tells two mails apart: systems on the way add headers, and some change how lines end.
_SAME = ("Message-ID", "Date")
_HASHED = 64 * 1024
# What an address says: a delivery, or who leaves what.
_Said = int | tracking.ReaderToken | None
_UNSUBSCRIBE_LINK = re.compile(r"/u/([A-Za-z0-9_-]{42})(?![A-Za-z0-9_-])")


class Done(StrEnum):
    """What was done about a mail."""

    NOTED = "noted"
    REPEATED = "repeated"  # it had come before
    UNKNOWN = "unknown"  # a report on no mail or reader that is known here
    LEFT = "left"  # nothing follows from it


@dataclass(frozen=True)
class Received:
    """What a mail was and what was done; `sentence` says it in words and holds no address. `by_a_person` says that
    somebody may wait for an answer."""

    kind: Kind
    done: Done
    sentence: str

    @property
    def by_a_person(self) -> bool:
        return self.done == Done.LEFT and self.kind in (Kind.REPLY, Kind.UNSUBSCRIBE)


@dataclass(frozen=True)
class _About:
    """What a mail is about, as `Notice` takes it."""

    delivery_id: int | None = None
    fingerprint: str = ""
    newsletter_id: int | None = None


def receive(raw: bytes, recipient: str | None = None) -> Received:
    """Do what follows from one mail, any bytes; `recipient` is the address it was delivered to, where that is known.

    Safe to call again with the same mail. When it returns, all is committed. Raises what the database raises.
    """
    raw = raw[:LIMIT]
    report = bounces.read(raw)
    said = _said_by_address([*filter(None, [recipient]), *report.sent_to])
    about = _about(said) or _about_returned(report)
    to_leave = isinstance(said, tracking.ReaderToken) and (
        report.kind in (Kind.REPLY, Kind.UNREADABLE) or report.asks_to_leave
    )
    leaves = report.kind == Kind.UNSUBSCRIBE or to_leave
    if leaves:
        about = about or _about_link(report)
        if said is None and about is None:
            return Received(
                report.kind,
                Done.LEFT,
                "Somebody asks to be unsubscribed, at an address that does not say whom: take them off by hand.",
            )
        return _note(raw, report, about, Event.Kind.UNSUBSCRIBE)
    if report.kind == Kind.COMPLAINT:
        if about is None and (link := _about_link(report)):
            return _note(raw, report, link, Event.Kind.UNSUBSCRIBE)
        return _note(raw, report, about, Event.Kind.COMPLAINT)
    if report.kind == Kind.BOUNCE:
        return _note(raw, report, about or _about_address(report), Event.Kind.BOUNCE)
    return Received(report.kind, Done.LEFT, f"{report.reason} Nothing follows from it.")


def _said_by_address(written: Iterable[str]) -> _Said:
    """What the first of these addresses that has a token of ours says."""
    for address in written:
        try:
            said = tracking.read_address(address)
        except tracking.BadToken as error:
            logger.warning("A mail came to an address with a token that this site did not make. %s", error)
            continue
        if said is not None:
            return said
    return None


def _about(said: _Said) -> _About | None:
    if said is None:
        return None
    if isinstance(said, int):
        return _About(delivery_id=said)
    public_id = said.subscriber_public_id
    reader = Subscriber.objects.filter(public_id=public_id).values_list("fingerprint", flat=True).first()
    newsletter = Newsletter.objects.filter(public_id=said.newsletter_public_id).values_list("pk", flat=True).first()
    if reader is None or newsletter is None:
        return None
    return _About(said.delivery_id, reader, newsletter)


def _about_returned(report: Report) -> _About | None:
    """What the Message-ID of the mail that is returned says."""
    try:
        return _About(delivery_id=tracking.delivery_of_message_id(report.message_id))
    except tracking.BadToken:
        return None


def _about_link(report: Report) -> _About | None:
    """What the unsubscribe link of the mail that is returned says."""
    leave = report.headers.get("list-unsubscribe", "")
    try:
        link = _UNSUBSCRIBE_LINK.search(leave)
        return _about(tracking.read_reader_token(link[1])) if link else None
    except tracking.BadToken:
        return None


def _about_address(report: Report) -> _About | None:
    """The reader whose address a bounce names. Anybody could say so."""
    if settings.BOUNCE_ADDRESS or not report.recipients:
        return None
    fingerprint = _fingerprint(report.recipients[0])
    return _About(fingerprint=fingerprint) if fingerprint else None


def _fingerprint(address: str) -> str:
    try:
        return addresses.fingerprint(addresses.parse(address).key)
    except addresses.AddressError:
        return ""


def _note(raw: bytes, report: Report, about: _About | None, kind: Event.Kind) -> Received:
    what = _in_words(report, kind)
    if about is None:
        return Received(report.kind, Done.UNKNOWN, f"{what}, about no mail or reader that is known here.")
    key, at = _key(raw, about, kind), _date(raw)
    if kind == Event.Kind.BOUNCE:
        judgement = _judgement(report, about)
        notice = Notice.bounced(judgement, key=key, at=at, source=SOURCE, **vars(about))
    else:
        notice = Notice(kind=kind, key=key, at=at, source=SOURCE, detail=report.feedback_type, **vars(about))
    if feedback.write_notices([notice]):
        return Received(report.kind, Done.NOTED, f"{what}. {report.reason}")
    if Event.objects.filter(key=key).exists():
        return Received(report.kind, Done.REPEATED, f"{what}, which had come before.")
    return Received(report.kind, Done.UNKNOWN, f"{what}, about no mail or reader that is known here.")


def _in_words(report: Report, kind: Event.Kind) -> str:
    if kind == Event.Kind.BOUNCE:
        return f"A bounce ({report.verdict})"
    return "A complaint" if kind == Event.Kind.COMPLAINT else "A reader leaves by mail"


def _judgement(report: Report, about: _About) -> Judgement:
    """What the report says of the reader: where it lists several recipients, of the one we wrote to, else the worst."""
    if len(report.failures) > 1 and about.delivery_id:
        ours = Delivery.objects.filter(pk=about.delivery_id).values_list("subscriber__fingerprint", flat=True).first()
        for failure in report.failures:
            if ours and _fingerprint(failure.address) == ours:
                return failure.judgement
    return report.failures[0].judgement


def _key(raw: bytes, about: _About, kind: Event.Kind) -> uuid.UUID:
    """The same for one mail, by whichever way it came."""
    headers = _headers(raw)
    _, _, body = b"\n".join(line.rstrip(b" \t\r") for line in raw.split(b"\n")).partition(b"\n\n")
    digest = hashlib.sha256(body[:_HASHED].rstrip()).hexdigest()
    own = [str(headers.get(name, "")).strip() for name in _SAME]
    return feedback.key_of(SOURCE, kind.value, about.delivery_id or about.fingerprint, *own, digest)


def _date(raw: bytes) -> dt.datetime:
    """When the mail says it was written, where that can be; else now."""
    now = timezone.now()
    try:
        at = parsedate_to_datetime(str(_headers(raw).get("Date", "")))
    except (TypeError, ValueError, OverflowError):  # the last from numbers that no date holds
        return now
    return at if at.tzinfo and now - _OLDEST < at < now else now


def _headers(raw: bytes) -> Message:
    # A parser of headers alone does not look into what they say, which may take it long.
    return BytesHeaderParser(policy=policy.compat32).parsebytes(raw[:_HASHED])
