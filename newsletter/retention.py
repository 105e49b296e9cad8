"""What age deletes: where hits came from, the hits themselves, what mail servers said, the text of single messages,
and what could not be written down.

Counts stay: tallies, hours and first times are written with the hits and outlive them. Everything goes in chunks, each
of a statement or two of its own, so that nobody waits for it; it may be repeated, and broken off at any point. Events
are gone through in the order of their ids, from where every one is so old that age has done with it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Callable, Iterator

from django.db import transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from newsletter import intake
from newsletter.intake import Channel
from newsletter.models import Attempt, Delivery, Dispatch, DispatchProfile, Event, Mark, Revision, Variant
from newsletter.settings import ENV
from subscribers.models import Subscriber

logger = logging.getLogger(__name__)

CHUNK = 10_000  # events looked at by one statement
MARK, OWNERS_MARK = "done with by age", "owners looked up"
Kind = Event.Kind
# What is counted, or stands in the delivery, and says nothing more after a while.
PASSING = (Kind.OPEN, Kind.CLICK, Kind.ACCEPTED, Kind.DELIVERED, Kind.DEFERRED)
# The text of a single message is needed for as long as it may be sent: while it is of use, and no worker has it in
# hand; once it was sent, a day.
SINGLE_FOR = dt.timedelta(days=1)
SINGLE_IN_HAND = dt.timedelta(hours=1)
SINGLES = 500  # at once
IN_DOUBT = (Delivery.Status.UNCONFIRMED, Delivery.Status.FAILED)


def forget(*, stopping: Callable[[], bool] = lambda: False) -> dict[str, int]:
    """Delete what is older than the settings say; how many rows, by what was done to them. Between two chunks it ends
    where it is `stopping`; what is left waits for the next night."""
    done: Counter[str] = Counter()
    finished, owners = (Mark.objects.get_or_create(name=name)[0] for name in (MARK, OWNERS_MARK))
    last = Event.objects.aggregate(last=Max("pk"))["last"] or 0
    for start, end in _chunks(finished.value, last):
        if stopping():
            break
        rows = Event.objects.filter(pk__gt=start, pk__lte=end)
        done += _forget_in(rows)
        if end > owners.value:
            done += _forget_owners(rows)
        if start == finished.value and not rows.filter(at__gte=timezone.now() - _longest()).exists():
            finished.value = end
            finished.save(update_fields=["value"])
    else:
        # Each is looked at in two nights, for ids are given out before rows can be seen.
        owners.value, owners.seen = owners.seen, last
        owners.save(update_fields=["value", "seen"])
    done["replies"] += _forget_replies()
    done["messages"] += forget_messages()
    done["set aside"] += _forget_set_aside()
    if +done:
        logger.info("Deleted by age: %s", ", ".join(f"{number} {what}" for what, number in sorted((+done).items())))
    return dict(done)


def forget_messages() -> int:
    """Delete the text of single messages that are of no more use, whatever became of them, or were sent."""
    now = timezone.now()
    singles = Dispatch.objects.filter(kind=Dispatch.Kind.SINGLE).exclude(revision__data__sections=[])
    singles = singles.annotate(end=Coalesce("finished_at", "started_at", "created_at"))
    in_doubt = Exists(Delivery.objects.filter(dispatch=OuterRef("pk"), status__in=IN_DOUBT))
    sent = Q(~in_doubt, status__in=Dispatch.ENDED, end__lt=now - SINGLE_FOR)
    over = singles.filter(Q(useful_until__lt=now - SINGLE_IN_HAND) | sent)
    number = 0
    while found := dict(over.order_by("pk").values_list("pk", "revision")[:SINGLES]):
        with transaction.atomic():
            Attempt.objects.filter(batch__dispatch__in=found, repeat_at__isnull=False).update(repeat_at=None)
            DispatchProfile.objects.filter(dispatch__in=found).update(variant=None)
            Variant.objects.filter(dispatch__in=found).delete()
            revisions = list(Revision.objects.filter(pk__in=found.values()))
            for revision in revisions:
                revision.data = {**revision.data, "sections": []}
            Revision.objects.bulk_update(revisions, ["data"])
        number += len(found)
    return number


def _chunks(start: int, last: int) -> Iterator[tuple[int, int]]:
    """The ids after `start` up to `last`, as many at a time as CHUNK events have: no index by age, which every hit
    would have to pay for."""
    while start < last:
        ordered = Event.objects.filter(pk__gt=start, pk__lte=last).order_by("pk").values_list("pk", flat=True)
        end = next(iter(ordered[CHUNK - 1 : CHUNK]), last)
        yield start, end
        start = end


def _longest() -> dt.timedelta:
    """The age at which nothing is left to delete of an event."""
    return dt.timedelta(days=max(ENV.retain_networks_days, ENV.retain_hits_days, ENV.retain_bounces_days))


def _forget_in(rows: QuerySet[Event]) -> Counter[str]:
    now = timezone.now()
    networks, hits, texts = (
        now - dt.timedelta(days=days)
        for days in (ENV.retain_networks_days, ENV.retain_hits_days, ENV.retain_bounces_days)
    )
    done: Counter[str] = Counter()
    done["hits and arrivals"] += rows.filter(kind__in=PASSING, at__lt=hits).delete()[0]
    done["networks"] += rows.filter(at__lt=networks).exclude(network="", agent="").update(network="", agent="")
    done["texts"] += rows.filter(at__lt=texts).exclude(detail="").update(detail="")
    return done


def _forget_owners(rows: QuerySet[Event]) -> Counter[str]:
    """The database does not watch over these (models.Event): one written while its reader was erased names nobody."""
    done: Counter[str] = Counter()
    for name, model in (("subscriber", Subscriber), ("delivery", Delivery), ("dispatch", Dispatch)):
        there = Exists(model._default_manager.filter(pk=OuterRef(f"{name}_id")))
        gone = rows.filter(~there, **{f"{name}_id__isnull": False})
        with_them = {"network": "", "agent": ""} if model is Subscriber else {}
        done["references"] += gone.update(**{f"{name}_id": None}, **with_them)
    return done


def _forget_set_aside() -> int:
    """What could not be written down is kept as it came, so no longer than the most private part of it may be."""
    days = {Channel.HIT: ENV.retain_networks_days, Channel.NOTICE: ENV.retain_bounces_days}
    return sum(intake.forget(channel, dt.timedelta(days=number)) for channel, number in days.items())


def _forget_replies() -> int:
    """Delete what mail servers answered to mail they refused: it may name the reader in their own words."""
    before = timezone.now() - dt.timedelta(days=ENV.retain_bounces_days)
    number = 0
    for dispatch in Dispatch.objects.filter(snapshot_at__lt=before).order_by("pk").values_list("pk", flat=True):
        refused = Delivery.objects.filter(dispatch=dispatch, status=Delivery.Status.FAILED, settled_at__lt=before)
        refused = refused.exclude(reply="")
        while ids := list(refused.order_by("pk").values_list("pk", flat=True)[:CHUNK]):
            number += Delivery.objects.filter(pk__in=ids).update(reply="")
    return number
