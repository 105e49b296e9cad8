"""Every change of Delivery.status. Each is one conditional UPDATE: the UPDATE is the lock.

QUEUED -> SENDING -> SENT | FAILED | QUEUED (later) | UNCONFIRMED;  QUEUED -> SKIPPED
UNCONFIRMED -> SENT | FAILED | QUEUED by a late answer of its own attempt, or by the author's word
UNCONFIRMED -> SENT where the provider repeats its answer to the same call under the same key
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, CharField, DateTimeField, Exists, F, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, Greatest, Now

from newsletter.models import Attempt, Batch, Delivery, Dispatch, Halt
from newsletter.settings import ENV
from newsletter.transports import KEPT, Outcome, Result
from subscribers.models import Subscription, exclusion, tier_level_of

Status = Delivery.Status
STALE = dt.timedelta(hours=72)  # put off for so long, a newsletter is old news: fail it
LONGEST_WAIT = dt.timedelta(hours=1)
OPEN = (Status.SENDING, Status.UNCONFIRMED)
# A late accept also settles a row that the author had queued again and nobody has claimed since: one mail is enough.
TAKEN_FROM = (*OPEN, Status.QUEUED)
REPEATING = (Dispatch.Status.SENDING, Dispatch.Status.SENT)  # the dispatches whose doubts are asked about


def _exclusion(dispatch: Dispatch) -> Case:
    """For a query over deliveries of `dispatch`: why this reader may not be written to at this moment, or "".

    A single message answers what the person just asked for, so only their erasure keeps it back.
    """
    subscription = Subscription.objects.filter(
        subscriber=OuterRef("subscriber"), newsletter=dispatch.newsletter_id
    ).annotate(exclusion=exclusion())
    by_subscription = Coalesce(Subquery(subscription.values("exclusion")[:1]), Value("unsubscribed"))
    return Case(
        When(subscriber=None, then=Value("erased")),
        default=Value("") if dispatch.kind == Dispatch.Kind.SINGLE else by_subscription,
        output_field=CharField(),
    )


def claim(batch: Batch, *, attempt: Attempt, limit: int) -> int:
    """Make at most `limit` due deliveries of `batch` SENDING under `attempt`; the number claimed.

    Only the holder of the batch's lease gets any, only while the dispatch is SENDING and nothing halts the site.
    Whether each reader may still be written to is asked in the same statement; those who may not are SKIPPED with the
    reason.
    """
    allowed = Batch.objects.filter(
        ~Exists(Halt.objects.all()),
        pk=batch.pk,
        lease_token=batch.lease_token,
        leased_until__gt=Now(),
        dispatch__status=Dispatch.Status.SENDING,
    )
    reason = _exclusion(batch.dispatch)
    due = Delivery.objects.due().filter(Exists(allowed), batch=batch).annotate(exclusion=reason).order_by("pk")
    with transaction.atomic():
        left = due.exclude(exclusion="")[:limit]
        Delivery.objects.filter(pk__in=left.values("pk"), status=Status.QUEUED).update(
            status=Status.SKIPPED, reason=reason, settled_at=Now()
        )
        chunk = due.filter(exclusion="")[:limit]
        return Delivery.objects.filter(pk__in=chunk.values("pk"), status=Status.QUEUED).update(
            status=Status.SENDING, attempt=attempt, tries=F("tries") + 1, due_at=None
        )


def claimed(attempt: Attempt) -> list[Delivery]:
    """The rows that `claim` made SENDING under `attempt`, with all that their messages need: the `tier_level` that each
    reader holds now, and the `digest` of the profile's variant or None.

    A reader erased since the claim is SKIPPED and left out.
    """
    sending = Delivery.objects.filter(attempt=attempt, status=Status.SENDING)
    rows = list(
        sending.annotate(tier_level=tier_level_of("subscriber_id"), digest=F("profile__variant__digest"))
        .select_related("subscriber", "profile")
        .order_by("pk")
    )
    erased = [row.pk for row in rows if row.subscriber is None]
    if erased:
        sending.filter(pk__in=erased).update(status=Status.SKIPPED, reason="erased", settled_at=Now())
    return [row for row in rows if row.subscriber is not None]


def note(attempt: Attempt, outcomes: Sequence[Outcome], *, tries: Mapping[int, int], retry_seconds: float) -> None:
    """Write down what became of the deliveries of `attempt`: UPDATEs that require that attempt, one for all accepted
    together and one for each other outcome.

    `tries` says how often each delivery (by id) was tried, this time included. A late answer settles an UNCONFIRMED row
    of its own attempt. Safe to repeat. Raises django.db.Error while the database cannot be reached: the caller keeps
    trying.
    """
    with transaction.atomic():
        accepted = [outcome for outcome in outcomes if outcome.result == Result.ACCEPTED]
        _note_accepted(attempt, accepted)
        for outcome in outcomes:
            if outcome.result != Result.ACCEPTED:
                row = Delivery.objects.filter(pk=outcome.delivery_id, attempt=attempt, status__in=OPEN)
                row.update(**_fields(outcome, tries[outcome.delivery_id], retry_seconds))
        Attempt.objects.filter(pk=attempt.pk).update(accepted=len(accepted), finished_at=Now())


def _note_accepted(attempt: Attempt, accepted: Sequence[Outcome]) -> None:
    """What nearly every delivery comes to, hence one statement; the ORM has no UPDATE from a list of values."""
    if not accepted:
        return
    table = connection.ops.quote_name(Delivery._meta.db_table)
    now = "STATEMENT_TIMESTAMP()" if connection.vendor == "postgresql" else "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"
    rows = ", ".join(["(%s, %s, %s)"] * len(accepted))
    width = Delivery._meta.get_field("provider_id").max_length
    values = [value for each in accepted for value in (each.delivery_id, each.reply, each.provider_id[:width])]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE {table} SET status = %s, settled_at = {now}, reply = answer.reply, provider_id = answer.provider_id
            FROM (
                SELECT column1 AS id, column2 AS reply, column3 AS provider_id FROM (VALUES {rows}) AS given
            ) AS answer
            WHERE {table}.id = answer.id AND {table}.attempt_id = %s AND {table}.status IN (%s, %s, %s)
            """,  # noqa: S608 - own names
            [Status.SENT.value, *values, attempt.pk, *(status.value for status in TAKEN_FROM)],
        )


def _fields(outcome: Outcome, tries: int, retry_seconds: float) -> dict[str, Any]:
    match outcome.result:
        case Result.REFUSED:
            change: dict[str, Any] = {"status": Status.FAILED}
        case Result.UNKNOWN:
            change = {"status": Status.UNCONFIRMED}
        case Result.SENDER_REFUSED:
            # Nobody's mail would go, so it is no fault of this delivery: it waits while the dispatch is paused.
            change = {"status": Status.QUEUED}
        case Result.LATER:
            # A relay that could not be asked is no fault of the message, which waits as long as the relay rests.
            own = _back_off(tries, retry_seconds) if outcome.tried else 0
            wait = max(own, outcome.retry_after or 0) or _back_off(1, retry_seconds)
            stale = When(put_off_at__lt=Now() - STALE, then=Value(Status.FAILED.value))
            change = {
                "status": Case(stale, default=Value(Status.QUEUED.value)),
                "due_at": Now() + dt.timedelta(seconds=wait),
                "tries": F("tries") - int(not outcome.tried),
                "put_off_at": Coalesce(F("put_off_at"), Now()),
            }
    return {"reply": outcome.reply, "settled_at": Now(), **change}


def _back_off(tries: int, retry_seconds: float) -> float:
    """Seconds to wait: doubled with each try, at most LONGEST_WAIT, spread by half either way so that what was put off
    together does not come back together."""
    wait: float = min(retry_seconds * 2 ** min(tries - 1, 20), LONGEST_WAIT.total_seconds())
    return wait * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing


def put_back(attempt: Attempt, *, begun: Collection[int]) -> int:
    """Return to the queue what `attempt` claimed and no transport was given, all but the ids `begun`; the number.

    Of these rows certainly no byte left, and it counts no try: not even where the lease ran out meanwhile, as it does
    while the database is away, and they were taken for doubts.
    """
    rows = Delivery.objects.filter(attempt=attempt, status__in=OPEN).exclude(pk__in=begun)
    return rows.update(status=Status.QUEUED, tries=F("tries") - 1)


def postpone(attempt: Attempt, waits: Mapping[int, float]) -> int:
    """Return to the queue what `attempt` claimed and a rate keeps back, `waits` seconds by id each. The number moved.

    No byte of these left, and waiting for a rate counts no try.
    """
    by_wait: dict[float, list[int]] = {}
    for pk, wait in waits.items():
        by_wait.setdefault(wait, []).append(pk)
    due = [When(pk__in=ids, then=Now() + dt.timedelta(seconds=wait)) for wait, ids in by_wait.items()]
    rows = Delivery.objects.filter(pk__in=list(waits), attempt=attempt, status=Status.SENDING)
    return rows.update(
        status=Status.QUEUED, attempt=None, tries=F("tries") - 1, due_at=Case(*due, output_field=DateTimeField())
    )


def doubt(batch: Batch) -> int:
    """SENDING -> UNCONFIRMED for rows of a batch whose worker is gone: nobody knows whether the mail left."""
    rows = Delivery.objects.filter(batch=batch, status=Status.SENDING)
    held = list(rows.filter(attempt__transport__in=KEPT).values_list("attempt", flat=True).distinct())
    moved = rows.update(
        status=Status.UNCONFIRMED, settled_at=Now(), reply="The worker stopped before the answer was noted."
    )
    Attempt.objects.filter(pk__in=held).update(repeat_at=Now())
    return moved


def to_repeat(batch: Batch) -> list[Attempt]:
    """Attempts of `batch` whose calls are due to be made again."""
    return list(Attempt.objects.filter(batch=batch, repeat_at__lte=Now()).order_by("pk"))


def may_repeat(attempt: Attempt, batch: Batch) -> bool:
    """Become the one to make the calls of `attempt` again: only by the holder of the batch's lease, while the dispatch
    is not stopped and nothing halts the site, and while the provider still keeps the keys, with a lease time to
    spare. Where it does not, they are never made again."""
    window = KEPT[attempt.transport] - dt.timedelta(seconds=ENV.lease_seconds)
    Attempt.objects.filter(pk=attempt.pk, started_at__lt=Now() - window).update(repeat_at=None)
    held = Batch.objects.filter(
        ~Exists(Halt.objects.all()),
        pk=batch.pk,
        lease_token=batch.lease_token,
        leased_until__gt=Now(),
        dispatch__status__in=REPEATING,
    )
    due = Attempt.objects.filter(Exists(held), pk=attempt.pk, repeat_at__lte=Now())
    return bool(due.update(repeat_at=Now() + dt.timedelta(seconds=ENV.lease_seconds)))


def calls_in_doubt(attempt: Attempt) -> list[list[Delivery]]:
    """The calls of `attempt` that may be made again, as their rows with all that messages need (see `claimed`).

    A call is only ever repeated whole. One that carried several is left alone once anything is known of one of them,
    and so is one with a reader who was erased or may not be written to any more.
    """
    rows = Delivery.objects.filter(attempt=attempt, status=Status.UNCONFIRMED)
    found = {
        row.pk: row
        for row in rows.annotate(exclusion=_exclusion(attempt.batch.dispatch))
        .filter(exclusion="")
        .annotate(tier_level=tier_level_of("subscriber_id"), digest=F("profile__variant__digest"))
        .select_related("subscriber", "profile")
        .order_by("pk")
    }
    together = {pk for call in attempt.calls for pk in call}
    whole = [[found[pk] for pk in call] for call in attempt.calls if all(pk in found for pk in call)]
    return whole + [[row] for pk, row in found.items() if pk not in together]


def note_repeated(attempt: Attempt, outcomes: Sequence[Outcome], *, all_asked: bool, retry_seconds: float) -> None:
    """Write down what the provider said to calls of `attempt` that were made again. Safe to repeat.

    Only an accept settles: a refusal may be meant for the key. What stays in doubt is asked for again, after twice the
    time each time; also where the author queued it meanwhile, which would be a mail beside this one.
    """
    accepted = [outcome for outcome in outcomes if outcome.result == Result.ACCEPTED]
    doubtful = [outcome.delivery_id for outcome in outcomes if outcome.result == Result.UNKNOWN]
    asked = max((outcome.retry_after or 0 for outcome in outcomes), default=0)
    with transaction.atomic():
        _note_accepted(attempt, accepted)
        Delivery.objects.filter(pk__in=doubtful, attempt=attempt, status=Status.QUEUED).update(
            status=Status.UNCONFIRMED, settled_at=Now()
        )
        Attempt.objects.filter(pk=attempt.pk).update(accepted=attempt.accepted + len(accepted), repeat_at=None)
        if len(accepted) < len(outcomes) or not all_asked:
            age = dt.datetime.now(dt.UTC) - attempt.started_at
            repeat_later(attempt, seconds=max(retry_seconds, asked, min(age, LONGEST_WAIT).total_seconds()))


def forget_doubts(attempt: Attempt) -> None:
    """Make the calls of `attempt` never again: the transport of today does not keep their keys."""
    Attempt.objects.filter(pk=attempt.pk).update(repeat_at=None)


def repeat_later(attempt: Attempt, *, seconds: float) -> None:
    """Make the calls of `attempt` that left a doubt again in `seconds`, where the provider keeps keys for that."""
    if attempt.transport in KEPT:
        Attempt.objects.filter(pk=attempt.pk).update(repeat_at=Now() + dt.timedelta(seconds=seconds))


def distrust(dispatch: Dispatch) -> int:
    """QUEUED, SENDING -> UNCONFIRMED after a backup was restored: mail may have left since. The number moved."""
    open_rows = Delivery.objects.filter(dispatch=dispatch, status__in=(Status.QUEUED, Status.SENDING))
    return open_rows.update(
        status=Status.UNCONFIRMED,
        tries=Greatest(F("tries"), 1),
        settled_at=Now(),
        reply="Open in the backup that was restored; it may have been sent since.",
    )


def repeat_nothing() -> int:
    """Make no call again that was made before now: what it left may have been settled since. The number of attempts."""
    return Attempt.objects.filter(repeat_at__isnull=False).update(repeat_at=None)


def count_anew(dispatch: Dispatch) -> int:
    """Forget since when rows were put off: time that the dispatch was paused is no fault of theirs. The number."""
    put_off = Delivery.objects.filter(dispatch=dispatch, status=Status.QUEUED, put_off_at__isnull=False)
    return put_off.update(put_off_at=None, due_at=None)


def skip_cancelled(dispatch: Dispatch) -> int:
    """QUEUED -> SKIPPED(cancelled) for all that is left of a cancelled dispatch; the number moved."""
    return Delivery.objects.filter(dispatch=dispatch, status=Status.QUEUED).update(
        status=Status.SKIPPED, reason="cancelled", settled_at=Now()
    )


def resend_unconfirmed(dispatch: Dispatch) -> int:
    """UNCONFIRMED -> QUEUED by the author's word: better twice than never. The number moved."""
    return _unconfirmed(dispatch).update(status=Status.QUEUED, due_at=None, put_off_at=None, settled_at=None)


def accept_unconfirmed(dispatch: Dispatch) -> int:
    """UNCONFIRMED -> SENT by the author's word: better never than twice. The number moved."""
    return _unconfirmed(dispatch).update(status=Status.SENT, settled_at=Now())


def retry_failed(dispatch: Dispatch) -> int:
    """FAILED -> QUEUED by the author's word; the number moved."""
    failed = Delivery.objects.filter(dispatch=dispatch, status=Status.FAILED)
    return failed.update(status=Status.QUEUED, due_at=None, put_off_at=None, settled_at=None)


def _unconfirmed(dispatch: Dispatch) -> QuerySet[Delivery]:
    return Delivery.objects.filter(dispatch=dispatch, status=Status.UNCONFIRMED)
