"""Every change of Delivery.status. Each is one conditional UPDATE: the UPDATE is the lock.

QUEUED -> SENDING -> SENT | FAILED | QUEUED (later) | UNCONFIRMED;  QUEUED -> SKIPPED
UNCONFIRMED -> SENT | FAILED | QUEUED by a late answer of its own attempt, or by the author's word
UNCONFIRMED -> SENT where the provider repeats its answer to the same call under the same key
"""

from __future__ import annotations

import datetime as dt
import json
import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import Case, CharField, DateTimeField, Exists, F, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, Greatest, Now

from newsletter.models import Attempt, Batch, Delivery, Dispatch, Halt
from newsletter.settings import ENV
from newsletter.transports import KEPT, Outcome, Result
from subscribers.models import Subscriber, Subscription, exclusion, tier_level_of

Status = Delivery.Status
STALE = dt.timedelta(hours=72)  # put off for so long, a newsletter is old news: fail it
LONGEST_WAIT = dt.timedelta(hours=1)
OPEN = (Status.SENDING, Status.UNCONFIRMED)
# A late accept also settles a row that the author had queued again and nobody has claimed since: one mail is enough.
TAKEN_FROM = (*OPEN, Status.QUEUED)
REPEATING = (Dispatch.Status.SENDING, Dispatch.Status.SENT)  # the dispatches whose doubts are asked about


# What stands in a compiled statement where each call has values of its own.
_BATCH, _ATTEMPT, _TOKEN = -101, -102, uuid.UUID(int=103)


def _filled(params: tuple[Any, ...], values: Mapping[Any, Any]) -> list[Any]:
    """`params` with the values in place of the holes."""
    token = Batch._meta.get_field("lease_token").get_db_prep_value(_TOKEN, connection)
    by_hole = {(token if hole == _TOKEN else hole): value for hole, value in values.items()}
    return [by_hole.get(param, param) for param in params]


def _exclusion(newsletter_id: int, kind: str) -> Case:
    """For a query over deliveries of a newsletter's dispatch of that kind: why this reader may not be written to now,
    or "".

    A single message answers what the person just asked for, so only their erasure keeps it back.
    """
    subscription = Subscription.objects.filter(subscriber=OuterRef("subscriber"), newsletter=newsletter_id)
    reason = subscription.annotate(exclusion=exclusion()).values("exclusion")
    by_subscription = Coalesce(Subquery(reason[:1]), Value("unsubscribed"))
    return Case(
        When(subscriber__address=None, then=Value("erased")),
        default=Value("") if kind == Dispatch.Kind.SINGLE else by_subscription,
        output_field=CharField(),
    )


class Claimed(NamedTuple):
    """A row that `claim` made SENDING, with all that its message needs."""

    pk: int
    tries: int
    address: str
    address_key: str
    name: str
    public_id: int
    tier_level: int  # the one that the reader holds now
    profile_id: int
    profile_level: int  # the one at the snapshot
    tracking: str
    digest: str | None  # of the profile's variant


def claim(batch: Batch, *, attempt: Attempt, limit: int) -> list[Claimed]:
    """Make at most `limit` due deliveries of `batch` SENDING under `attempt`; those that were claimed.

    Only the holder of the batch's lease gets any, only while the dispatch is SENDING and nothing halts the site.
    Whether each reader may still be written to is asked in the same statement; those who may not are SKIPPED with the
    reason.
    """
    sql, params = _claiming(batch.dispatch.newsletter_id, batch.dispatch.kind, limit)
    token = Batch._meta.get_field("lease_token").get_db_prep_value(batch.lease_token, connection)
    given = _filled(params, {_BATCH: batch.pk, _TOKEN: token, _ATTEMPT: attempt.pk})
    while True:
        with connection.cursor() as cursor:
            cursor.execute(sql, given)
            moved = cursor.fetchall()
        # In the order of their ids, whatever order the database moved them in.
        rows = sorted((Claimed(*row) for status, *row in moved if status == Status.SENDING), key=lambda row: row.pk)
        if rows and connection.vendor == "sqlite":
            rows = [Claimed(*row) for row in with_messages(Delivery.objects.filter(pk__in=[row.pk for row in rows]))]
        if rows or not moved:
            return rows


@lru_cache(maxsize=256)
def _claiming(newsletter_id: int, kind: str, limit: int) -> tuple[str, tuple[Any, ...]]:
    """The statement of `claim`, with holes. Compiling it takes the ORM longer than the database needs for a chunk."""
    allowed = Batch.objects.filter(
        ~Exists(Halt.objects.all()),
        pk=_BATCH,
        lease_token=_TOKEN,
        leased_until__gt=Now(),
        dispatch__status=Dispatch.Status.SENDING,
    )
    due = Delivery.objects.due().filter(Exists(allowed), batch=_BATCH).order_by("pk")[:limit]
    chunk = Delivery.objects.filter(pk__in=due.values("pk")).annotate(exclusion=_exclusion(newsletter_id, kind))
    select, params = with_messages(chunk, "exclusion").query.sql_with_params()
    table = connection.ops.quote_name(Delivery._meta.db_table)
    # MATERIALIZED, or PostgreSQL asks for the exclusion anew wherever it stands. What SQLite moved it can only tell by
    # the table's own columns.
    moved = [f"{table}.tries" if name == "tries" else f"due.{name}" for name in Claimed._fields]
    if connection.vendor == "sqlite":
        moved = ["id", *["NULL"] * (len(moved) - 1)]
    sql = f"""
        WITH due ({", ".join(Claimed._fields)}, exclusion) AS MATERIALIZED ({select})
        UPDATE {table} SET
            status = CASE due.exclusion WHEN '' THEN %s ELSE %s END,
            reason = due.exclusion,
            attempt_id = CASE due.exclusion WHEN '' THEN %s ELSE attempt_id END,
            tries = {table}.tries + CASE due.exclusion WHEN '' THEN 1 ELSE 0 END,
            due_at = CASE due.exclusion WHEN '' THEN NULL ELSE due_at END,
            settled_at = CASE due.exclusion WHEN '' THEN settled_at ELSE {_now()} END
        FROM due WHERE {table}.id = due.pk AND {table}.status = %s
        RETURNING {table}.status, {", ".join(moved)}
    """  # noqa: S608 - own queries and names
    return sql, (*params, Status.SENDING.value, Status.SKIPPED.value, _ATTEMPT, Status.QUEUED.value)


def with_messages(rows: QuerySet[Delivery], *more: str) -> QuerySet[Delivery, tuple[Any, ...]]:
    """`rows` as the fields of Claimed, in their order, and `more`."""
    return (
        rows.annotate(tier_level=tier_level_of("subscriber_id"))
        .order_by("pk")
        .values_list(
            "pk",
            "tries",
            "subscriber__address",
            "subscriber__address_key",
            "subscriber__name",
            "subscriber__public_id",
            "tier_level",
            "profile_id",
            "profile__tier_level",
            "profile__tracking",
            "profile__variant__digest",
            *more,
        )
    )


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
    width = Delivery._meta.get_field("provider_id").max_length
    answers = json.dumps([[each.delivery_id, each.reply, each.provider_id[:width]] for each in accepted])
    if connection.vendor == "postgresql":
        answer = "SELECT (value->>0)::bigint, value->>1, value->>2 FROM json_array_elements(%s::json)"
    else:
        parts = "json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')"
        answer = f"SELECT {parts} FROM json_each(%s)"  # noqa: S608 - own names
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH answer (id, reply, provider_id) AS ({answer})
            UPDATE {table}
            SET status = %s, settled_at = {_now()}, reply = answer.reply, provider_id = answer.provider_id
            FROM answer
            WHERE {table}.id = answer.id AND {table}.attempt_id = %s AND {table}.status IN (%s, %s, %s)
            """,  # noqa: S608 - own names
            [answers, Status.SENT.value, attempt.pk, *(status.value for status in TAKEN_FROM)],
        )


def _now() -> str:
    """The database's clock, as `Now()` writes it."""
    return (
        "STATEMENT_TIMESTAMP()" if connection.vendor == "postgresql" else "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"
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


def put_back(attempt: Attempt, rows: Iterable[int]) -> int:
    """Return to the queue those `rows` (ids) that `attempt` claimed and no transport was given; the number.

    Of these rows certainly no byte left, and it counts no try: not even where the lease ran out meanwhile, as it does
    while the database is away, and they were taken for doubts.
    """
    claimed = Delivery.objects.filter(pk__in=list(rows), attempt=attempt, status__in=OPEN)
    return claimed.update(status=Status.QUEUED, tries=F("tries") - 1)


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
    rows = Delivery.objects.filter(dispatch=batch.dispatch_id, batch=batch, status=Status.SENDING)
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


def calls_in_doubt(attempt: Attempt) -> list[list[Claimed]]:
    """The calls of `attempt` that may be made again, as their rows with all that messages need.

    A call is only ever repeated whole. One that carried several is left alone once anything is known of one of them,
    and so is one with a reader who was erased or may not be written to any more.
    """
    dispatch = attempt.batch.dispatch
    rows = Delivery.objects.filter(dispatch=dispatch, attempt=attempt, status=Status.UNCONFIRMED)
    mailable = rows.annotate(exclusion=_exclusion(dispatch.newsletter_id, dispatch.kind)).filter(exclusion="")
    found = {row.pk: row for row in (Claimed(*fields) for fields in with_messages(mailable))}
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


def forget_erased(dispatches: QuerySet[Dispatch]) -> int:
    """Take the subscriber out of deliveries whose subscriber is not there any more; the number of them.

    Erasing does that itself for every row it sees; it does not see those of a snapshot that is not committed yet.
    """
    named = Delivery.objects.filter(dispatch__in=dispatches, subscriber__isnull=False)
    there = Subscriber.objects.filter(pk=OuterRef("subscriber_id"))
    return named.filter(~Exists(there)).update(subscriber=None)


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
