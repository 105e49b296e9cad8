"""What follows for a reader from what came back, whichever way it came.

    hard        the address is suppressed on the whole site, at once
    soft        the same once mail has failed for long enough (`softness`); taken back where that no longer holds
    block       nothing: it is the sender's fault, and the author is told
    complaint   the reader is unsubscribed, and suppressed on the whole site
    unsubscribe the reader is unsubscribed

A later word undoes an earlier one and none that comes after it: who confirmed anew after a complaint or an unsubscribe
is not thrown out by a late notice of it, nor is an address that was let in again after it had bounced, nor the one that
a reader moved to.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import Min

from newsletter.bounces import Verdict
from newsletter.feedback import softness
from newsletter.feedback.histories import SOURCE, History, histories_of
from newsletter.feedback.notices import Kind
from newsletter.hooks import occurring
from newsletter.models import Event
from subscribers import consent
from subscribers.models import Subscriber, Subscription, Suppression

Reason = Suppression.Reason


@dataclass(frozen=True)
class Fact:
    """A notice that is new, about a reader (`subscriber_id`), or about an address of which only the fingerprint is
    known. `named` says that the notice itself names the address; else it is the one that the reader has now. `sent_at`
    is when the mail was handed over; `changed` says that its delivery has another verdict now."""

    kind: Kind
    verdict: str
    at: dt.datetime
    sent_at: dt.datetime | None
    delivery_id: int | None
    newsletter_id: int | None
    subscriber_id: int | None
    fingerprint: str
    named: bool
    source: str
    changed: bool


def follow(facts: Sequence[Fact]) -> None:
    """Do what follows from `facts`. In the transaction that writes them down."""
    weighty = [fact for fact in facts if fact.kind in (Kind.COMPLAINT, Kind.UNSUBSCRIBE) or fact.changed or _hard(fact)]
    if not weighty:
        return
    people = {fact.subscriber_id for fact in weighty if fact.subscriber_id}
    fingerprints = softness.lock(Subscriber.objects.filter(pk__in=people))
    histories = histories_of(fingerprints)
    _suppress_hard([fact for fact in weighty if _hard(fact)], fingerprints, histories)
    softness.review(
        {pk: fingerprints[pk] for fact in weighty if fact.changed and (pk := fact.subscriber_id) in fingerprints},
        histories,
    )
    _leave(weighty, histories)
    _complain([fact for fact in weighty if fact.kind == Kind.COMPLAINT], fingerprints, histories)


def _hard(fact: Fact) -> bool:
    return fact.kind == Kind.BOUNCE and fact.verdict == Verdict.HARD


def _suppress_hard(facts: Sequence[Fact], fingerprints: dict[int, str], histories: dict[int, History]) -> None:
    dead, came_back = set(), _came_back(facts)
    for fact in facts:
        history = histories.get(fact.subscriber_id or 0)
        current = fingerprints.get(fact.subscriber_id or 0, "")
        at = came_back.get(fact.delivery_id, fact.at)
        if history is None or fact.fingerprint != current:
            dead.add(fact.fingerprint)  # nobody's address, or no longer theirs
        elif (fact.named or not history.moved_since(fact.sent_at)) and not history.let_in_since(at):
            dead.add(current)
    made = consent.suppress_all(dead - {""}, reason=Reason.HARD_BOUNCE, source=SOURCE)
    occurring.recorded(made, reason=Reason.HARD_BOUNCE)


def _came_back(facts: Iterable[Fact]) -> dict[int | None, dt.datetime]:
    """When mails came back, by their deliveries' ids: told again by another way it is still the same bounce, unless the
    mail has been handed over anew."""
    sent = {fact.delivery_id: fact.sent_at for fact in facts if fact.delivery_id}
    if not sent:
        return {}
    told = Event.objects.filter(delivery__in=sent, kind=Kind.BOUNCE, verdict=Verdict.HARD)
    first = told.values_list("delivery").annotate(Min("at")).order_by()
    return {pk: max(at, sent[pk] or at) for pk, at in first}


def _leave(facts: Iterable[Fact], histories: dict[int, History]) -> None:
    """Unsubscribe those who complained or left; of all that they read where it is not known from what."""
    leaving: set[tuple[int, int]] = set()
    left = [fact for fact in facts if fact.kind in (Kind.COMPLAINT, Kind.UNSUBSCRIBE) and fact.subscriber_id]
    anything = {fact.subscriber_id for fact in left if fact.newsletter_id is None}
    read: dict[int, list[int]] = {}
    for subscriber, newsletter in (
        Subscription.objects.filter(subscriber__in=anything).values_list("subscriber", "newsletter") if anything else ()
    ):
        read.setdefault(subscriber, []).append(newsletter)
    for fact in left:
        assert fact.subscriber_id is not None  # noqa: S101 - asked above
        history = histories.get(fact.subscriber_id, History())
        come_back = history.confirmed_since if fact.kind == Kind.COMPLAINT else history.came_back_since
        newsletters = [fact.newsletter_id] if fact.newsletter_id else read.get(fact.subscriber_id, [])
        leaving |= {(fact.subscriber_id, newsletter) for newsletter in set(newsletters) - come_back(fact.at)}
    occurring.recorded(consent.unsubscribe_all(leaving, source=SOURCE))


def _complain(facts: Iterable[Fact], fingerprints: dict[int, str], histories: dict[int, History]) -> None:
    """Suppress those who complained: on the whole site or, where they have confirmed some newsletter anew since, for
    the others."""
    site: set[str] = set()
    others: dict[int, set[str]] = {}
    for fact in facts:
        fingerprint = fingerprints.get(fact.subscriber_id or 0, fact.fingerprint)
        confirmed = histories.get(fact.subscriber_id or 0, History()).confirmed_since(fact.at)
        if not confirmed:
            site.add(fingerprint)
            continue
        theirs = Subscription.objects.filter(subscriber=fact.subscriber_id).exclude(newsletter__in=confirmed)
        for newsletter in theirs.values_list("newsletter", flat=True):
            others.setdefault(newsletter, set()).add(fingerprint)
    made = consent.suppress_all(site - {""}, reason=Reason.COMPLAINT, source=SOURCE)
    for newsletter, some in others.items():
        made += consent.suppress_all(some - {""}, reason=Reason.COMPLAINT, newsletter_id=newsletter, source=SOURCE)
    occurring.recorded(made, reason=Reason.COMPLAINT)
