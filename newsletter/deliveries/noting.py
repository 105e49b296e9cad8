"""SENDING -> whatever became of it: what the transport answered, and what it was never given."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, DateTimeField, F, Value, When
from django.db.models.functions import Coalesce, Now

from newsletter.content import clean_line
from newsletter.deliveries import accepting, attempts, given, prepared
from newsletter.deliveries.accepting import OPEN, TAKEN_FROM
from newsletter.deliveries.clock import now
from newsletter.models import Attempt, Batch, Delivery, Dispatch
from newsletter.transports import KEPT, Outcome, Result

Status = Delivery.Status
STALE = dt.timedelta(hours=72)  # put off for so long, a newsletter is old news: fail it
LONGEST_WAIT = dt.timedelta(hours=1)
NoteAccepted = Callable[[Attempt, Sequence[Outcome]], None]


class _KnownBefore(Exception):
    """Of some of these deliveries an accept was known before, or they are another attempt's by now."""


def note(
    attempt: Attempt,
    outcomes: Sequence[Outcome],
    *,
    tries: Mapping[int, int],
    retry_seconds: float,
    earlier: Sequence[Outcome] = (),
    last: bool = True,
    before: Callable[[], object] = lambda: None,
    after: Callable[[bool], object] = lambda closed: None,
) -> None:
    """Write down what became of the deliveries of `attempt`: UPDATEs that require that attempt, one for all accepted
    together and one for each other outcome.

    `tries` says how often each delivery (by id) was tried, this time included. `earlier` are outcomes of the attempt
    that were noted before; the `last` close it. `before` and `after` write what belongs to it in the same transaction;
    `after` is told whether this closed the attempt: not where that was done before. A late answer settles an
    UNCONFIRMED row of its own attempt. Safe to repeat. Raises django.db.Error while the database cannot be reached: the
    caller keeps trying.
    """
    accepted = [outcome for outcome in outcomes if outcome.result == Result.ACCEPTED]
    sender_refused = any(outcome.result == Result.SENDER_REFUSED for outcome in outcomes)
    single = sender_refused and attempt.batch.dispatch.kind == Dispatch.Kind.SINGLE

    def write(note_accepted: NoteAccepted) -> None:
        before()
        note_accepted(attempt, accepted)
        for outcome in outcomes:
            if outcome.result != Result.ACCEPTED:
                row = Delivery.objects.filter(pk=outcome.delivery_id, attempt=attempt, status__in=OPEN)
                row.update(**_fields(outcome, tries[outcome.delivery_id], retry_seconds, single=single))
        count = sum(outcome.result == Result.ACCEPTED for outcome in (*earlier, *accepted))
        after(attempts.count(attempt, accepted=count, last=last) and last)

    with_accepted(write)


def with_accepted(write: Callable[[NoteAccepted], object]) -> None:
    """Call `write` with what notes the accepted, in a transaction.

    Nearly always all of them are the attempt's own and nobody told of them before: one statement. Where that is not so
    it is undone, and each is looked at by itself: rows that were locked by then would not be in the order of their ids.
    """
    try:
        with transaction.atomic():
            write(_note_at_once)
    except _KnownBefore:
        with transaction.atomic():
            write(_note_each)


def _note_each(attempt: Attempt, accepted: Sequence[Outcome]) -> None:
    accepting.note(
        accepting.Told(each.delivery_id, accepting.Message(attempt.pk, _provider_id(each)), each.reply)
        for each in accepted
    )


def _note_at_once(attempt: Attempt, accepted: Sequence[Outcome]) -> None:
    """Raises _KnownBefore."""
    if not accepted:
        return
    table = connection.ops.quote_name(Delivery._meta.db_table)
    # In the order of their ids, as all who hold several deliveries take them, so that no two wait for each other.
    in_order = sorted(accepted, key=lambda outcome: outcome.delivery_id)
    answers = [{"id": each.delivery_id, "reply": each.reply, "provider_id": _provider_id(each)} for each in in_order]
    sql = f"""
        UPDATE {table}
        SET status = %s, settled_at = {now()}, reply = given.reply, provider_id = given.provider_id, accepted_by = %s
        FROM {given.table(given.types_of(Delivery, list(answers[0])))}
        WHERE {table}.id = given.id AND {table}.attempt_id = %s AND {table}.status IN (%s, %s, %s, %s)
            AND {table}.accepted_by IS NULL
    """  # noqa: S608 - own names
    taken_from = [status.value for status in TAKEN_FROM]
    params = [Status.SENT.value, attempt.pk, given.rows(answers), attempt.pk, *taken_from]
    with prepared.run(sql, params, dispatch_id=attempt.batch.dispatch_id) as cursor:
        if cursor.rowcount < len(accepted):
            raise _KnownBefore


def _provider_id(accepted: Outcome) -> str:
    """What PostgreSQL cannot hold, a NUL for one, would keep all the others in doubt."""
    return clean_line(accepted.provider_id)[: Delivery._meta.get_field("provider_id").max_length]


def doubt_or_failure() -> Case:
    """The status of what nobody answered for: in doubt, unless it came back meanwhile."""
    came_back = When(verdict__isnull=False, then=Value(Status.FAILED.value))
    return Case(came_back, default=Value(Status.UNCONFIRMED.value))


def _fields(outcome: Outcome, tries: int, retry_seconds: float, *, single: bool) -> dict[str, Any]:
    match outcome.result:
        case Result.REFUSED:
            change: dict[str, Any] = {"status": Status.FAILED}
        case Result.UNKNOWN:
            change = {"status": doubt_or_failure()}
        case Result.SENDER_REFUSED if single:
            # Nobody pauses or resumes it: it is tried again by itself, after longer each time.
            change = {
                "status": Status.QUEUED,
                "reason": Delivery.SENDER_REFUSED,
                "due_at": Now() + dt.timedelta(seconds=back_off(tries, retry_seconds)),
                "put_off_at": Coalesce(F("put_off_at"), Now()),
            }
        case Result.SENDER_REFUSED:
            # Nobody's mail would go, so it is no fault of this delivery: it waits while the dispatch is paused.
            change = {"status": Status.QUEUED, "tries": F("tries") - int(not outcome.tried)}
        case Result.LATER:
            # A relay that could not be asked is no fault of the message, which waits as long as the relay rests.
            own = back_off(tries, retry_seconds) if outcome.tried else 0
            wait = max(own, outcome.wait) or back_off(1, retry_seconds)
            stale = When(put_off_at__lt=Now() - STALE, then=Value(Status.FAILED.value))
            change = {
                "status": Case(stale, default=Value(Status.QUEUED.value)),
                "due_at": Now() + dt.timedelta(seconds=wait),
                "tries": F("tries") - int(not outcome.tried),
                "put_off_at": Coalesce(F("put_off_at"), Now()),
            }
    return {"reply": outcome.reply, "settled_at": Now(), **change}


def back_off(tries: int, retry_seconds: float) -> float:
    """Seconds to wait: doubled with each try, at most LONGEST_WAIT, spread by half either way so that what was put off
    together does not come back together."""
    wait: float = min(retry_seconds * 2 ** min(tries - 1, 20), LONGEST_WAIT.total_seconds())
    return wait * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing


def put_back(attempt: Attempt, rows: Iterable[int]) -> int:
    """Return to the queue those `rows` (ids) that `attempt` claimed and no transport was given; the number.

    Of these rows certainly no byte left, and it counts no try: not even where the lease ran out meanwhile, as it does
    while the database is away, and they were taken for doubts. Only where the provider keeps keys such doubts stay:
    another worker may be making their calls at this moment.
    """
    mine = (Status.SENDING,) if attempt.transport in KEPT else OPEN
    claimed = Delivery.objects.filter(pk__in=list(rows), attempt=attempt, status__in=mine)
    return claimed.update(status=Status.QUEUED, tries=F("tries") - 1)


def unclaim(batch: Batch, key: uuid.UUID) -> int:
    """`put_back` for all that a claim of `batch` took under the idempotency key `key`, if it was committed; the number.

    For a worker that heard no answer to its commit. An attempt is known by its key here: the id of one that was not
    committed may be given to another. Safe to repeat.
    """
    with transaction.atomic():
        # The server may still be at that commit; until its end the new attempt keeps others from this lock.
        Batch.objects.select_for_update().filter(pk=batch.pk).first()
        attempt = Attempt.objects.filter(batch=batch, idempotency_key=key).first()
        if attempt is None:
            return 0
        rows = Delivery.objects.filter(dispatch=batch.dispatch_id, batch=batch, attempt=attempt)
        returned = put_back(attempt, rows.values_list("pk", flat=True))
        Attempt.objects.filter(pk=attempt.pk).update(finished_at=Now())
        return returned


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
