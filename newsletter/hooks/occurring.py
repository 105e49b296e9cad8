"""What happened becomes a row, in the transaction of the change itself: rolled back with it, and never forgotten.

Every change of consent leaves a ConsentRecord, so that is what is listened to; tiers are listened to on Membership. The
rules that make the changes know nothing of it. Rows that are made in bulk send no signals: an import says itself what
it did, a chunk at a time. Without a hook that wants to know, nothing is written.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from newsletter.hooks import payload
from newsletter.models import Call, Dispatch, Hook, Newsletter, Occurrence
from subscribers import consent
from subscribers.models import FREE_LEVEL, ConsentRecord, Membership, Subscriber, Subscription, Suppression

Kind = Occurrence.Kind
Action = ConsentRecord.Action

_OF_ACTION = {
    Action.REQUESTED: Kind.REQUESTED,
    Action.SUBSCRIBED: Kind.CONFIRMED,
    Action.PAUSED: Kind.PAUSED,
    Action.RESUMED: Kind.RESUMED,
    Action.UNSUBSCRIBED: Kind.UNSUBSCRIBED,
    Action.UNSUPPRESSED: Kind.UNSUPPRESSED,
    Action.ADDRESS_CHANGED: Kind.ADDRESS_CHANGED,
}
_OF_REASON = {
    Suppression.Reason.HARD_BOUNCE: Kind.BOUNCED,
    Suppression.Reason.SOFT_BOUNCE: Kind.BOUNCED,
    Suppression.Reason.COMPLAINT: Kind.COMPLAINED,
    Suppression.Reason.MANUAL: Kind.SUPPRESSED,
}
_TIERS = (Kind.UPGRADED, Kind.DOWNGRADED)
_BEFORE = "_levels_before"


def listen() -> None:
    """Connect what writes rows to what makes the changes; called once, when the apps are loaded."""
    for signal, receiver, model in (
        (post_save, _consent_recorded, ConsentRecord),
        (pre_save, _membership_changes, Membership),
        (post_save, _membership_changed, Membership),
        (pre_delete, _membership_changes, Membership),
        (post_delete, _membership_changed, Membership),
        (pre_delete, _person_goes, Subscriber),
    ):
        signal.connect(receiver, sender=model, dispatch_uid=f"newsletter.hooks.{receiver.__name__}")


def sent(dispatch: Dispatch) -> None:
    """An issue is out: `dispatch`, which is SENT now. Call it in the transaction of that change."""
    issue = dispatch.issue
    if issue is not None:
        told = {"id": issue.pk, "number": issue.number, "title": issue.title, "subject": issue.subject}
        data = {"issue": told, "dispatch": dispatch.pk, "candidates": dispatch.candidates}
        _tell(Kind.SENT, _listening(Kind.SENT, dispatch.newsletter_id), newsletter=dispatch.newsletter, data=data)


def entered(newsletter: Newsletter, public_ids: Iterable[int], *, source: str) -> None:
    """Those people were subscribed, or given a tier, by staff or from a file: one occurrence for all of them, since a
    file of 100,000 rows must not become as many calls."""
    data = {"subscribers": [str(public_id) for public_id in public_ids], "source": source}
    if data["subscribers"]:
        _tell(Kind.ENTERED, _listening(Kind.ENTERED, newsletter.pk), newsletter=newsletter, data=data)


def try_out(hook: Hook) -> Call:
    """Something to try `hook` with, whatever it is told otherwise."""
    return _tell(Kind.TEST, [hook], newsletter=hook.newsletter, data={"webhook": hook.name})[0]


def tell_ended_memberships() -> None:
    """Tell of tiers that time took away since the last look: nothing is written when a membership runs out."""
    for hook in Hook.objects.all():
        with transaction.atomic():
            if Hook.objects.filter(pk=hook.pk, looked_at=hook.looked_at).update(looked_at=Now()):
                now = Hook.objects.values_list("looked_at", flat=True).get(pk=hook.pk)
                if hook.enabled and Kind.DOWNGRADED in hook.kinds:
                    _tell_ended(hook, hook.looked_at, now)


def _tell_ended(hook: Hook, since: dt.datetime, until: dt.datetime) -> None:
    ended = Membership.objects.filter(ends_at__gt=since, ends_at__lte=until).order_by("ends_at")
    for subscriber_id, ends_at, level in ended.values_list("subscriber", "ends_at", "tier__level"):
        left = _levels([subscriber_id])[subscriber_id]
        known = Occurrence.objects.filter(subscriber=subscriber_id, kind__in=_TIERS, at__gte=ends_at, calls__hook=hook)
        if left < level and not known.exists() and hook in _listening(Kind.DOWNGRADED, None, subscriber_id):
            _tell_tier(subscriber_id, level, left, [hook])


def _consent_recorded(instance: ConsentRecord, *, created: bool, raw: bool, **_: Any) -> None:
    person, newsletter = instance.subscriber, instance.newsletter
    if raw or not created or person is None:
        return
    if instance.action == Action.IMPORTED and newsletter is not None:
        entered(newsletter, [person.public_id], source=instance.source)
        return
    recorded([instance], reason=_suppressed_for(instance) if instance.action == Action.SUPPRESSED else None)


def recorded(records: Sequence[ConsentRecord], *, reason: Suppression.Reason | None = None) -> None:
    """Tell of these records, which are about people and all of one action; `reason` is that of a suppression.

    For what was written in bulk and so sent no signal. In the transaction that wrote it.
    """
    if not records:
        return
    kind = _OF_REASON.get(reason) if reason else _OF_ACTION.get(Action(records[0].action))
    hooks = [hook for hook in Hook.objects.filter(enabled=True) if kind in hook.kinds] if kind else []
    if not kind or not hooks:
        return
    people = Subscriber.objects.in_bulk([record.subscriber_id for record in records if record.subscriber_id])
    statuses: dict[int, dict[int, str]] = {pk: {} for pk in people}
    for subscriber, newsletter, status in Subscription.objects.filter(subscriber__in=people).values_list(
        "subscriber", "newsletter", "status"
    ):
        statuses[subscriber][newsletter] = status
    levels, tiers_by_level = _levels(people), payload.tiers_by_level()
    occurrences, calls = [], []
    for record in records:
        person = people[record.subscriber_id or 0]
        # What happens to a person on the whole site is told for each newsletter they have to do with.
        here = {record.newsletter_id} if record.newsletter_id else set(statuses[person.pk])
        listening = [hook for hook in hooks if hook.newsletter_id is None or hook.newsletter_id in here]
        data = {
            "subscriber": str(person.public_id),
            "status": statuses[person.pk].get(record.newsletter_id) if record.newsletter_id else None,
            "tier": tiers_by_level.get(levels[person.pk]),
            "source": record.source,
        }
        if listening:
            told = data | ({"reason": reason.value} if reason else {})
            occurrence = Occurrence(kind=kind, newsletter_id=record.newsletter_id, subscriber=person, data=told)
            occurrences.append(occurrence)
            calls += [Call(hook=hook, occurrence=occurrence) for hook in listening]
    with transaction.atomic():
        Occurrence.objects.bulk_create(occurrences)
        Call.objects.bulk_create(calls)


def _suppressed_for(record: ConsentRecord) -> Suppression.Reason | None:
    """Why: the suppression written just before its record."""
    fingerprint = record.subscriber.fingerprint if record.subscriber else ""
    made = Suppression.objects.filter(fingerprint=fingerprint, newsletter=record.newsletter_id).order_by("-pk").first()
    return Suppression.Reason(made.reason) if made else None


def _membership_changes(instance: Membership, *, raw: bool = False, origin: Any = None, **_: Any) -> None:
    """Before it is saved or deleted: who holds which tier. Of people who are deleted along with it nothing is told."""
    setattr(instance, _BEFORE, {})
    if raw or _goes_with_the_person(origin) or not _tiers_are_told():
        return
    held_by = Membership.objects.filter(pk=instance.pk).values_list("subscriber", flat=True)
    setattr(instance, _BEFORE, _levels({instance.subscriber_id, *held_by}))


def _membership_changed(instance: Membership, **_: Any) -> None:
    before: dict[int, int] = getattr(instance, _BEFORE)
    for subscriber_id, level in _levels(before).items():
        if level != before[subscriber_id]:
            kind = Kind.UPGRADED if level > before[subscriber_id] else Kind.DOWNGRADED
            _tell_tier(subscriber_id, before[subscriber_id], level, _listening(kind, None, subscriber_id))


def _person_goes(instance: Subscriber, **_: Any) -> None:
    """Somebody is erased. A row that was only ever a wish is tidied away without a word."""
    hooks = _listening(Kind.ERASED, None, instance.pk)
    if hooks and not consent.is_bare(instance):
        _tell(Kind.ERASED, hooks, data={"subscriber": str(instance.public_id)})


def _tiers_are_told() -> bool:
    return any(set(_TIERS) & set(hook.kinds) for hook in Hook.objects.filter(enabled=True))


def _goes_with_the_person(origin: Any) -> bool:
    model = origin.model if isinstance(origin, QuerySet) else type(origin)
    return origin is not None and model is not Membership


def _levels(subscriber_ids: Iterable[int]) -> dict[int, int]:
    """The level that each of these people holds now."""
    ids = set(subscriber_ids)
    held = Membership.objects.current().filter(subscriber__in=ids).values_list("subscriber", "tier__level")
    levels = dict.fromkeys(ids, FREE_LEVEL)
    for subscriber_id, level in held:
        levels[subscriber_id] = max(levels[subscriber_id], level)
    return levels


def _tell_tier(subscriber_id: int, before: int, now: int, hooks: list[Hook]) -> None:
    if hooks:
        person = Subscriber.objects.get(pk=subscriber_id)
        tiers = payload.tiers_by_level()
        told = {"subscriber": str(person.public_id), "tier": tiers.get(now), "previous_tier": tiers.get(before)}
        _tell(Kind.UPGRADED if now > before else Kind.DOWNGRADED, hooks, subscriber=person, data=told)


def _listening(kind: Kind, newsletter_id: int | None = None, subscriber_id: int | None = None) -> list[Hook]:
    """The hooks that want to know. What happens to a person on the whole site is told for each newsletter they have to
    do with."""
    here = Q(newsletter=None) | Q(newsletter=newsletter_id)
    if newsletter_id is None and subscriber_id is None:
        here = Q()
    elif newsletter_id is None:
        theirs = Subscription.objects.filter(subscriber=subscriber_id).values("newsletter")
        here = Q(newsletter=None) | Q(newsletter__in=theirs)
    return [hook for hook in Hook.objects.filter(here, enabled=True) if kind in hook.kinds]


def _tell(
    kind: Kind,
    hooks: list[Hook],
    *,
    data: dict[str, Any],
    newsletter: Newsletter | None = None,
    subscriber: Subscriber | None = None,
) -> list[Call]:
    if not hooks:
        return []
    with transaction.atomic():
        occurrence = Occurrence.objects.create(kind=kind, newsletter=newsletter, subscriber=subscriber, data=data)
        return Call.objects.bulk_create([Call(hook=hook, occurrence=occurrence) for hook in hooks])
