"""Notices become events, each once, and settle their deliveries: one read, one INSERT, few UPDATEs for a thousand."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from newsletter import deliveries, tracking
from newsletter.bounces import Verdict, redaction
from newsletter.deliveries import given
from newsletter.events import storing
from newsletter.events.storing import Row
from newsletter.feedback import following, telling
from newsletter.feedback.notices import Kind, Notice
from newsletter.models import Delivery
from newsletter.transports.smtp import SmtpTransport
from subscribers.models import Subscriber

logger = logging.getLogger(__name__)

# Whoever says one of these had the mail.
_ARRIVED = frozenset({Kind.ACCEPTED, Kind.DELIVERED, Kind.DEFERRED, Kind.COMPLAINT, Kind.UNSUBSCRIBE})
# What every mail has, and nothing follows from but that it arrived.
_ROUTINE = frozenset({Kind.ACCEPTED, Kind.DELIVERED, Kind.DEFERRED})
_ID_LENGTH = Delivery._meta.get_field("provider_id").max_length
_VERDICT_OF = {verdict.name.lower(): verdict for verdict in Delivery.Verdict}


class _Mail(NamedTuple):
    """What is asked of a delivery."""

    delivery_id: int
    status: str
    sent_at: dt.datetime | None
    dispatch_id: int
    dispatch_kind: str
    newsletter_id: int
    subscriber_id: int | None
    fingerprint: str | None
    address: str | None
    accepted_by: int | None
    provider_id: str
    tries: int
    transport: str | None  # of its last attempt


@dataclass(frozen=True)
class _Known:
    """A notice with what it is about: a delivery, or a reader alone."""

    notice: Notice
    mail: _Mail | None
    subscriber_id: int | None
    fingerprint: str

    @property
    def at(self) -> dt.datetime:
        """When it happened: not before the mail was sent, and not in the future, whatever clocks say."""
        at = min(self.notice.at, timezone.now())
        return max(at, self.mail.sent_at) if self.mail and self.mail.sent_at else at


def write(entries: Sequence[Mapping[str, Any]]) -> None:
    """Write down what `Notice.as_json` made, for `intake.drain`. Raises ValueError, TypeError or KeyError for what it
    did not make."""
    write_notices([Notice.from_json(dict(entry)) for entry in entries])


def write_notices(notices: Iterable[Notice]) -> int:
    """Write `notices` down with all that follows from them, in one transaction; the number that were new.

    A notice that was written before does nothing. One that leads to no delivery and no reader is logged and skipped.
    """
    by_key = {notice.key: notice for notice in notices}
    with transaction.atomic():
        known = _find(list(by_key.values()))
        new = storing.store([_row(each) for each in known]).keys
        fresh = [each for each in known if each.notice.key in new]
        deliveries.note_accepted(each for each in map(_accepted, fresh) if each is not None)
        changes = deliveries.came_back(_verdicts(fresh))
        following.follow(
            [
                following.Fact(
                    kind=each.notice.kind,
                    verdict=each.notice.verdict,
                    at=each.at,
                    sent_at=each.mail.sent_at if each.mail else None,
                    delivery_id=each.mail.delivery_id if each.mail else None,
                    newsletter_id=each.mail.newsletter_id if each.mail else each.notice.newsletter_id,
                    subscriber_id=each.subscriber_id,
                    fingerprint=each.fingerprint,
                    named=bool(each.notice.fingerprint),
                    source=each.notice.source,
                    changed=bool(each.mail and each.mail.delivery_id in changes),
                )
                for each in fresh
                if each.subscriber_id is not None or each.fingerprint
            ]
        )
    blocked = {
        each.mail.dispatch_id
        for each in fresh
        if each.mail and each.mail.delivery_id in changes and each.notice.verdict == Verdict.BLOCK
    }
    for dispatch_id in sorted(blocked):
        telling.tell_of_blocks(dispatch_id)
    return len(fresh)


def _accepted(each: _Known) -> deliveries.Told | None:
    """The message that a notice says was accepted; None where it says no such thing, or nothing that is not known: as
    nearly all do of a mail that was handed over once."""
    mail, named = each.mail, each.notice.provider_id
    if mail is None or each.notice.kind not in _ARRIVED:
        return None
    known = mail.status == Delivery.Status.SENT and mail.accepted_by is not None
    if known and (not named or named == mail.provider_id or (not mail.provider_id and mail.tries == 1)):
        return None
    # Ids of two kinds tell nothing apart, and our own Message-ID is the same whenever the mail is sent.
    alike = mail.transport in (None, SmtpTransport.name, each.notice.source)
    tells = alike and not _by_message_id(named)
    return deliveries.Told(mail.delivery_id, deliveries.Message(provider_id=named[:_ID_LENGTH] if tells else ""))


def _find(notices: Sequence[Notice]) -> list[_Known]:
    """Each of `notices` with what it is about, without those about nothing we know, in the order of their keys."""
    ids = {notice.key: notice.delivery_id or _by_message_id(notice.message_id) for notice in notices}
    ids |= _by_provider_id([notice for notice in notices if notice.provider_id and not ids[notice.key]])
    mails = {mail.delivery_id: mail for mail in _read({pk for pk in ids.values() if pk})}
    about = {notice.key: mails.get(ids[notice.key]) for notice in notices}
    alone = {notice.fingerprint for notice in notices if about[notice.key] is None and notice.fingerprint}
    readers = dict(Subscriber.objects.filter(fingerprint__in=alone).values_list("fingerprint", "pk")) if alone else {}
    known, unknown = [], []
    for notice in sorted(notices, key=lambda notice: notice.key):
        mail = about[notice.key]
        if mail is not None:
            known.append(_Known(notice, mail, mail.subscriber_id, notice.fingerprint or mail.fingerprint or ""))
        elif notice.fingerprint in readers:
            known.append(_Known(notice, None, readers[notice.fingerprint], notice.fingerprint))
        else:
            unknown.append(notice)
    if unknown:
        logger.warning(
            "Of %s notices %s are about no delivery or reader that is known here, and are skipped: %s",
            len(notices),
            len(unknown),
            ", ".join(f"{notice.kind} by {notice.source} ({notice.key})" for notice in unknown[:5]),
        )
    return known


def _by_provider_id(notices: Sequence[Notice]) -> dict[uuid.UUID, int]:
    """The deliveries that the provider's own ids mean, by the notices' keys.

    A reader's few mails are found by their address, which also tells the mails of one call apart where all of them
    have the same id. All deliveries with that id are looked at only where a notice does not say whose it is, or it
    matters and its reader has moved.
    """
    ids, prints = {notice.provider_id for notice in notices}, {notice.fingerprint for notice in notices} - {""}
    people = Subscriber.objects.filter(fingerprint__in=prints)
    rows = Delivery.objects.filter(provider_id__in=ids, subscriber__in=people) if prints else Delivery.objects.none()
    theirs = {(name, whose): pk for name, whose, pk in rows.values_list("provider_id", "subscriber__fingerprint", "pk")}
    found = {notice.key: theirs.get((notice.provider_id, notice.fingerprint), 0) for notice in notices}
    rest = [each for each in notices if not found[each.key] and (not each.fingerprint or each.kind not in _ROUTINE)]
    if rest:
        anybody_s: dict[str, list[int]] = {}
        # Said twice, so that the index that leaves out mail without such an id is good for it.
        rows = Delivery.objects.filter(provider_id__in={notice.provider_id for notice in rest}).exclude(provider_id="")
        for name, pk in rows.values_list("provider_id", "pk"):
            anybody_s.setdefault(name, []).append(pk)
        found |= {each.key: pks[0] for each in rest if len(pks := anybody_s.get(each.provider_id, [])) == 1}
    return found


def _by_message_id(message_id: str) -> int:
    """The delivery that a Message-ID of ours names, or 0."""
    try:
        return tracking.delivery_of_message_id(message_id) if message_id else 0
    except tracking.BadToken:
        return 0


def _read(ids: Iterable[int]) -> list[_Mail]:
    rows = Delivery.objects.filter(pk__in=given.ids(ids)).values_list(
        "pk",
        "status",
        "attempt__started_at",
        "dispatch_id",
        "dispatch__kind",
        "dispatch__newsletter_id",
        "subscriber_id",
        "subscriber__fingerprint",
        "subscriber__address",
        "accepted_by",
        "provider_id",
        "tries",
        "attempt__transport",
    )
    return [_Mail(*row) for row in rows]


def _row(each: _Known) -> Row:
    notice, mail = each.notice, each.mail
    return Row(
        key=notice.key,
        kind=notice.kind.value,
        at=each.at,
        source=notice.source[:40],
        newsletter_id=mail.newsletter_id if mail else notice.newsletter_id,
        dispatch_id=mail.dispatch_id if mail else None,
        delivery_id=mail.delivery_id if mail else None,
        subscriber_id=each.subscriber_id,
        verdict=_word(notice),
        reasons=notice.cause,
        detail=_detail(notice, (mail.address or "") if mail else ""),
    )


def _word(notice: Notice) -> str:
    """The verdict as an event has it: a complaint is one too."""
    return Kind.COMPLAINT.value if notice.kind == Kind.COMPLAINT else notice.verdict


def _detail(notice: Notice, address: str) -> str:
    """What the other side said, without the reader's address however it is spelled."""
    if not notice.detail:
        return notice.status
    there = notice.detail.lower()
    known = [spelled for spelled in (address, address.replace("@", "=")) if spelled and spelled.lower() in there]
    said = redaction.without_addresses(notice.detail, tuple(known))
    return said if not notice.status or notice.status in said else f"{notice.status} {said}"


def _verdicts(known: Iterable[_Known]) -> dict[int, int]:
    """The heaviest verdict that these notices give on each delivery."""
    found: dict[int, int] = {}
    for each in known:
        word = _word(each.notice)
        if each.mail and word:
            verdict = _VERDICT_OF[word]
            found[each.mail.delivery_id] = max(found.get(each.mail.delivery_id, 0), verdict)
    return found
