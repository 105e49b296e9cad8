"""UNCONFIRMED: what nobody knows, and calls made again to find out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.db.models import Exists, F, QuerySet
from django.db.models.functions import Greatest, Now

from newsletter.deliveries.claiming import Claimed, exclusion_now, with_messages
from newsletter.deliveries.noting import LONGEST_WAIT, NoteAccepted, doubt_or_failure, with_accepted
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Halt
from newsletter.settings import ENV
from newsletter.transports import KEPT, Outcome, Result

Status = Delivery.Status
REPEATING = (Dispatch.Status.SENDING, Dispatch.Status.SENT)  # the dispatches whose doubts are asked about


def doubt(batch: Batch) -> int:
    """SENDING -> UNCONFIRMED for rows of a batch whose worker is gone: nobody knows whether the mail left. What came
    back already is no doubt: -> FAILED. The number moved."""
    rows = Delivery.objects.filter(dispatch=batch.dispatch_id, batch=batch, status=Status.SENDING)
    if not rows.exists():
        return 0
    held = list(rows.filter(attempt__transport__in=KEPT).values_list("attempt", flat=True).distinct())
    moved = rows.update(
        status=doubt_or_failure(), settled_at=Now(), reply="The worker stopped before the answer was noted."
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
    due = Attempt.objects.filter(Exists(_held(batch)), pk=attempt.pk, repeat_at__lte=Now())
    return bool(due.update(repeat_at=Now() + dt.timedelta(seconds=ENV.lease_seconds)))


def may_go_on(batch: Batch) -> bool:
    """Whether all that `may_repeat` asks of the batch still holds, for the next call."""
    return _held(batch).exists()


def _held(batch: Batch) -> QuerySet[Batch]:
    return Batch.objects.filter(
        ~Exists(Halt.objects.all()),
        pk=batch.pk,
        lease_token=batch.lease_token,
        leased_until__gt=Now(),
        dispatch__status__in=REPEATING,
    )


def calls_in_doubt(attempt: Attempt) -> list[list[Claimed]]:
    """The calls of `attempt` that may be made again, as their rows with all that messages need.

    A call is only ever repeated whole. One that carried several is left alone once anything is known of one of them,
    and so is one with a reader who was erased or may not be written to any more.
    """
    dispatch = attempt.batch.dispatch
    rows = Delivery.objects.filter(dispatch=dispatch, attempt=attempt, status=Status.UNCONFIRMED)
    mailable = rows.annotate(exclusion=exclusion_now(dispatch.newsletter_id, dispatch.kind)).filter(exclusion="")
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
    asked = max((outcome.wait for outcome in outcomes), default=0)

    def write(note_accepted: NoteAccepted) -> None:
        note_accepted(attempt, accepted)
        Delivery.objects.filter(pk__in=doubtful, attempt=attempt, status=Status.QUEUED).update(
            status=Status.UNCONFIRMED, settled_at=Now()
        )
        counted = Greatest(F("accepted"), attempt.accepted + len(accepted))
        Attempt.objects.filter(pk=attempt.pk).update(accepted=counted, repeat_at=None)
        if len(accepted) < len(outcomes) or not all_asked:
            age = dt.datetime.now(dt.UTC) - attempt.started_at
            repeat_later(attempt, seconds=max(retry_seconds, asked, min(age, LONGEST_WAIT).total_seconds()))

    with_accepted(write)


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
