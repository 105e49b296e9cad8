"""What people agreed to: every change of a subscription's status, of a suppression, and erasure.

Lowest layer beside the models. Each change is one conditional UPDATE and leaves a ConsentRecord.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from subscribers.models import ConsentRecord, Membership, Subscriber, Subscription, Suppression

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable

    from django.db.models import QuerySet

    from newsletter.models import Newsletter

Action = ConsentRecord.Action
Status = Subscription.Status


# What a person's own confirmation lifts; what an operator set by hand only an operator lifts.
_BOUNCES = (Suppression.Reason.HARD_BOUNCE, Suppression.Reason.SOFT_BOUNCE)
LIFTED_BY_CONFIRMING = (Suppression.Reason.COMPLAINT, Suppression.Reason.ERASED, *_BOUNCES)
LIFTED_BY_OPERATORS = (Suppression.Reason.MANUAL, *_BOUNCES)
ASK_AGAIN_AFTER = timedelta(days=183)  # six months


@dataclass(frozen=True)
class Evidence:
    """What proves a consent (GDPR, article 7(1)): the hash of the words that were shown, and where the answer came
    from: the network, never an address, and the program."""

    text_version: str = ""
    network: str = ""
    agent: str = ""


def record(
    subscriber: Subscriber,
    newsletter: Newsletter | None,
    action: ConsentRecord.Action,
    source: str,
    evidence: Evidence = Evidence(),
    reason: str = "",
) -> ConsentRecord:
    """Note what `subscriber` agreed to or withdrew; `reason` in the words of the operator who did it."""
    return ConsentRecord.objects.create(
        subscriber=subscriber,
        newsletter=newsletter,
        action=action,
        source=source,
        reason=reason[: ConsentRecord._meta.get_field("reason").max_length],
        **asdict(evidence),
    )


def _change(
    subscription: Subscription,
    *,
    to: Subscription.Status,
    allowed: Iterable[Subscription.Status],
    action: ConsentRecord.Action,
    source: str,
    **fields: Any,
) -> bool:
    """Move one subscription; True where this call moved it, False where it stood elsewhere already."""
    with transaction.atomic():
        moved = Subscription.objects.filter(pk=subscription.pk, status__in=allowed).update(
            status=to, changed_at=Now(), **fields
        )
        if moved:
            record(subscription.subscriber, subscription.newsletter, action, source)
    subscription.refresh_from_db(fields=["status", "changed_at", *fields])
    return bool(moved)


def request(subscriber: Subscriber, newsletter: Newsletter, *, source: str, evidence: Evidence) -> ConsentRecord:
    """Somebody asks for `newsletter` with this person's address. It stays a wish until `confirm`: who left is not
    brought back by it, and nobody gets an issue for it."""
    with transaction.atomic():
        subscription, _ = Subscription.objects.get_or_create(subscriber=subscriber, newsletter=newsletter)
        Subscription.objects.filter(pk=subscription.pk, status=Status.PENDING).update(changed_at=Now())
        return record(subscriber, newsletter, Action.REQUESTED, source, evidence)


def confirm(requested: ConsentRecord, *, source: str, evidence: Evidence) -> bool:
    """The person answers the mail about what was `requested`: double opt-in. True where this call changed something.

    It undoes leaving, a complaint, bounces and an erasure that came before the request, and none that came after it.
    A complaint about the whole site stays for the other newsletters. Idempotent.
    """
    subscriber, newsletter = requested.subscriber, requested.newsletter
    if subscriber is None or newsletter is None:
        return False
    with transaction.atomic():
        own = Subscription.objects.filter(subscriber=subscriber, newsletter=newsletter)
        moved = own.filter(open_to_confirming(requested)).update(
            status=Status.ACTIVE, changed_at=Now(), paused_until=None
        )
        lifted = _lift_for(requested, subscriber)
        if lifted:
            record(subscriber, newsletter, Action.UNSUPPRESSED, source, evidence)
        if moved:
            record(subscriber, newsletter, Action.SUBSCRIBED, source, evidence)
    return bool(moved or lifted)


def open_to_confirming(requested: ConsentRecord) -> Q:
    """Which subscription confirming makes active: one never confirmed, or left before the request and not after it."""
    return Q(status=Status.PENDING) | Q(status=Status.UNSUBSCRIBED, changed_at__lte=requested.at)


def liftable(requested: ConsentRecord) -> QuerySet[Suppression]:
    """The suppressions that confirming lifts."""
    return Suppression.objects.filter(
        Q(newsletter=requested.newsletter_id) | Q(newsletter=None),
        fingerprint=requested.subscriber.fingerprint if requested.subscriber else "",
        reason__in=LIFTED_BY_CONFIRMING,
        created_at__lte=requested.at,
    )


def _lift_for(requested: ConsentRecord, subscriber: Subscriber) -> int:
    lifted = liftable(requested)
    if lifted.filter(newsletter=None, reason=Suppression.Reason.COMPLAINT).exists():
        others = Subscription.objects.filter(subscriber=subscriber).exclude(newsletter=requested.newsletter_id)
        for other in others:
            Suppression.objects.get_or_create(
                fingerprint=subscriber.fingerprint,
                newsletter_id=other.newsletter_id,
                reason=Suppression.Reason.COMPLAINT,
            )
    return lifted.delete()[0]


def enrol(subscriber: Subscriber, newsletter: Newsletter, *, source: str) -> bool:
    """An operator enters somebody who agreed elsewhere: on paper, by word. Who had left is not brought back by it.

    True where a subscription was made.
    """
    with transaction.atomic():
        _, created = Subscription.objects.get_or_create(
            subscriber=subscriber, newsletter=newsletter, defaults={"status": Status.ACTIVE}
        )
        if created:
            record(subscriber, newsletter, Action.IMPORTED, source)
    return created


def unsubscribe(subscription: Subscription, *, source: str) -> bool:
    """The reader leaves this newsletter, at once: mail that is still queued is skipped. Idempotent."""
    allowed = (Status.PENDING, Status.ACTIVE, Status.PAUSED)
    return _change(subscription, to=Status.UNSUBSCRIBED, allowed=allowed, action=Action.UNSUBSCRIBED, source=source)


def pause(subscription: Subscription, *, source: str, until: dt.datetime | None = None) -> bool:
    """No mail of this newsletter until `until` (aware) or, where that is None, until `resume`."""
    return _change(
        subscription,
        to=Status.PAUSED,
        allowed=(Status.ACTIVE,),
        action=Action.PAUSED,
        source=source,
        paused_until=until,
    )


def resume(subscription: Subscription, *, source: str) -> bool:
    """Mail again after a pause."""
    return _change(
        subscription,
        to=Status.ACTIVE,
        allowed=(Status.PAUSED,),
        action=Action.RESUMED,
        source=source,
        paused_until=None,
    )


def resubscribe(subscription: Subscription, *, source: str) -> bool:
    """The reader takes back having left, by their own act on a page that their own mail led to."""
    allowed = (Status.UNSUBSCRIBED,)
    return _change(subscription, to=Status.ACTIVE, allowed=allowed, action=Action.SUBSCRIBED, source=source)


def choose_sections(subscription: Subscription, *, muted: Iterable[int]) -> None:
    """The standing sections (by id) that the reader does not want from now on."""
    subscription.muted = ",".join(str(pk) for pk in sorted(set(muted)))
    subscription.save(update_fields=["muted"])


# What is noted of a choice of tracking, and the only actions by which such a choice is made.
TRACKING_ACTIONS = {
    Subscriber.Tracking.OFF: Action.TRACKING_OFF,
    Subscriber.Tracking.ANONYMOUS: Action.TRACKING_ANONYMOUS,
    Subscriber.Tracking.AGREED: Action.TRACKING_ON,
    Subscriber.Tracking.NEWSLETTER: Action.TRACKING_ON,
}


def choose_tracking(
    subscriber: Subscriber, *, tracking: Subscriber.Tracking, source: str, evidence: Evidence = Evidence()
) -> None:
    """How far opens and clicks of this reader may be noted; it counts for mail already sent too."""
    with transaction.atomic():
        changed = Subscriber.objects.filter(pk=subscriber.pk).exclude(tracking=tracking).update(tracking=tracking)
        if changed:
            record(subscriber, None, TRACKING_ACTIONS[tracking], source, evidence)
    subscriber.tracking = tracking


def may_ask_about_tracking(subscriber: Subscriber) -> bool:
    """Whether to ask this reader for their consent to tracking: not who agreed, nor who decided within ASK_AGAIN_AFTER
    (CNIL, deliberation 2026-042)."""
    if subscriber.tracking == Subscriber.Tracking.AGREED:
        return False
    decided = ConsentRecord.objects.filter(subscriber=subscriber, action__in=set(TRACKING_ACTIONS.values()))
    return not decided.filter(at__gt=Now() - ASK_AGAIN_AFTER).exists()


def suppress(
    fingerprint: str, *, reason: Suppression.Reason, newsletter: Newsletter | None = None, source: str
) -> None:
    """Never write to the address behind `fingerprint` again, on the whole site or for one newsletter. Idempotent."""
    with transaction.atomic():
        _, created = Suppression.objects.get_or_create(fingerprint=fingerprint, newsletter=newsletter, reason=reason)
        subscriber = Subscriber.objects.filter(fingerprint=fingerprint).first()
        if created and subscriber is not None:
            record(subscriber, newsletter, Action.SUPPRESSED, source)


def suppress_all(
    fingerprints: Collection[str],
    *,
    reason: Suppression.Reason,
    source: str,
    newsletter_id: int | None = None,
) -> list[ConsentRecord]:
    """`suppress` for many at once; the records of those people for whom it is new. Written in bulk, they send no
    signal. The caller holds the people's rows."""
    rows = Suppression.objects.filter(fingerprint__in=fingerprints, newsletter=newsletter_id, reason=reason)
    new = set(fingerprints) - set(rows.values_list("fingerprint", flat=True)) if fingerprints else set()
    Suppression.objects.bulk_create(
        [Suppression(fingerprint=each, newsletter_id=newsletter_id, reason=reason) for each in sorted(new)],
        ignore_conflicts=True,
    )
    return _record_all(new, newsletter_id, Action.SUPPRESSED, source)


def take_back(
    fingerprints: Collection[str], *, reason: Suppression.Reason, source: str, why: str
) -> list[ConsentRecord]:
    """Lift the site's suppressions for `reason`, which no longer hold; the records of it, as `suppress_all`."""
    if not fingerprints:
        return []
    Suppression.objects.filter(fingerprint__in=fingerprints, newsletter=None, reason=reason).delete()
    return _record_all(fingerprints, None, Action.UNSUPPRESSED, source, reason=why)


def unsubscribe_all(who: Collection[tuple[int, int]], *, source: str) -> list[ConsentRecord]:
    """`unsubscribe` for many pairs of subscriber and newsletter (ids) at once; the records of those who had not left
    yet, as `suppress_all`."""
    if not who:
        return []
    reading = Subscription.objects.filter(
        subscriber__in={subscriber for subscriber, _ in who}, newsletter__in={newsletter for _, newsletter in who}
    ).exclude(status=Status.UNSUBSCRIBED)
    rows = reading.select_for_update().order_by("pk").values_list("pk", "subscriber", "newsletter")
    leaving = [(pk, subscriber, newsletter) for pk, subscriber, newsletter in rows if (subscriber, newsletter) in who]
    Subscription.objects.filter(pk__in=[pk for pk, *_ in leaving]).update(status=Status.UNSUBSCRIBED, changed_at=Now())
    return ConsentRecord.objects.bulk_create(
        [
            ConsentRecord(subscriber_id=subscriber, newsletter_id=newsletter, action=Action.UNSUBSCRIBED, source=source)
            for _, subscriber, newsletter in leaving
        ]
    )


def _record_all(
    fingerprints: Collection[str], newsletter_id: int | None, action: ConsentRecord.Action, source: str, **fields: str
) -> list[ConsentRecord]:
    people = Subscriber.objects.filter(fingerprint__in=fingerprints).order_by("pk") if fingerprints else []
    return ConsentRecord.objects.bulk_create(
        [
            ConsentRecord(subscriber=person, newsletter_id=newsletter_id, action=action, source=source, **fields)
            for person in people
        ]
    )


def change_address(subscriber: Subscriber, target: Subscriber, *, source: str) -> bool:
    """Give `subscriber` the address of `target`, a row that holds nothing else, and delete that row.

    False, with nothing changed, where `target` has become somebody's own row meanwhile. A complaint and an operator's
    word go along to the new address, or moving would be a way round them.
    """
    with transaction.atomic():
        rows = {row.pk: row for row in Subscriber.objects.select_for_update().filter(pk__in=[subscriber.pk, target.pk])}
        if len(rows) != 2 or not is_bare(target):
            return False
        new = rows[target.pk]
        for reason, newsletter_id in Suppression.objects.filter(
            fingerprint=rows[subscriber.pk].fingerprint,
            reason__in=(Suppression.Reason.COMPLAINT, Suppression.Reason.MANUAL),
        ).values_list("reason", "newsletter_id"):
            Suppression.objects.get_or_create(fingerprint=new.fingerprint, newsletter_id=newsletter_id, reason=reason)
        ConsentRecord.objects.filter(subscriber=new).delete()  # wishes that nobody confirmed
        new.delete()
        Subscriber.objects.filter(pk=subscriber.pk).update(
            address=new.address, address_key=new.address_key, fingerprint=new.fingerprint
        )
        record(subscriber, None, Action.ADDRESS_CHANGED, source)
    subscriber.refresh_from_db(fields=["address", "address_key", "fingerprint"])
    return True


def is_bare(subscriber: Subscriber) -> bool:
    """Whether nobody has ever confirmed anything with this row: it stands there for its address alone."""
    subscriptions = Subscription.objects.filter(subscriber=subscriber).exclude(status=Status.PENDING)
    return not subscriptions.exists() and not Membership.objects.filter(subscriber=subscriber).exists()


def lift(suppression: Suppression, *, reason: str, source: str) -> bool:
    """An operator takes back what keeps mail from an address, and says why in `reason`, which is kept; True where this
    call did.

    Never a complaint or an erasure: only the person's own new confirmation undoes those. Raises ValueError where no
    reason is given.
    """
    if not reason.strip():
        raise ValueError("Say why mail may go to this address again.")
    with transaction.atomic():
        lifted, _ = Suppression.objects.filter(pk=suppression.pk, reason__in=LIFTED_BY_OPERATORS).delete()
        subscriber = Subscriber.objects.filter(fingerprint=suppression.fingerprint).first()
        if lifted and subscriber is not None:
            record(subscriber, suppression.newsletter, Action.UNSUPPRESSED, source, reason=reason.strip())
    return bool(lifted)


def erase(subscriber: Subscriber, *, source: str) -> None:
    """Delete a person. Deliveries go on counting without them, and the keyed hash keeps later imports away."""
    with transaction.atomic():
        # Held in the order of those who write what came back, or each would have what the other waits for: the person's
        # deliveries, then the person, then all that hangs on both.
        list(subscriber.deliveries.select_for_update(no_key=True).order_by("pk").values_list("pk"))
        list(Subscriber.objects.select_for_update().filter(pk=subscriber.pk).values_list("pk"))
        fingerprint = subscriber.fingerprint
        # What is kept beside a time and a kind could lead back to the person, so it goes before its owner does.
        for said in (subscriber.consent_records, subscriber.events):
            said.update(network="", agent="")
        ConsentRecord.objects.create(subscriber=None, action=Action.ERASED, source=source)
        subscriber.delete()
        Suppression.objects.get_or_create(fingerprint=fingerprint, newsletter=None, reason=Suppression.Reason.ERASED)
