"""What the author decides, and what follows from a dispatch's or a reader's end."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet, Value
from django.db.models.functions import Concat, Left, Now

from newsletter.models import Delivery, Dispatch
from newsletter.transports.outcomes import MAX_REPLY
from subscribers.models import Subscriber

Status = Delivery.Status


def forget_erased(dispatches: QuerySet[Dispatch]) -> int:
    """Take the subscriber out of deliveries whose subscriber is not there any more; the number of them.

    Erasing does that itself for every row it sees; it does not see those of a snapshot that is not committed yet.
    """
    named = Delivery.objects.filter(dispatch__in=dispatches, subscriber__isnull=False)
    there = Subscriber.objects.filter(pk=OuterRef("subscriber_id"))
    return named.filter(~Exists(there)).update(subscriber=None)


def count_anew(dispatch: Dispatch) -> int:
    """Forget since when rows were put off: time that the dispatch was paused is no fault of theirs. The number."""
    put_off = Delivery.objects.filter(dispatch=dispatch, status=Status.QUEUED, put_off_at__isnull=False)
    return put_off.update(put_off_at=None, due_at=None)


def skip_cancelled(dispatch: Dispatch) -> int:
    """QUEUED -> SKIPPED(cancelled) for all that is left of a cancelled dispatch; the number moved."""
    return Delivery.objects.filter(dispatch=dispatch, status=Status.QUEUED).update(
        status=Status.SKIPPED, reason="cancelled", settled_at=Now()
    )


def fail_useless() -> int:
    """QUEUED -> FAILED for single messages that whoever asked for them cannot use any more; the number moved."""
    over = Dispatch.objects.live().filter(kind=Dispatch.Kind.SINGLE, useful_until__lt=Now())
    # Our own word in front: what a mail server said of the sender is not to be judged as if it were of the reader.
    reply = Left(Concat(Value("It did not go out while it was of use. "), "reply"), MAX_REPLY)
    queued = Delivery.objects.filter(dispatch__in=over, status=Status.QUEUED)
    return queued.update(status=Status.FAILED, reply=reply, settled_at=Now())


def resend_unconfirmed(dispatch: Dispatch) -> int:
    """UNCONFIRMED -> QUEUED by the author's word: better twice than never. The number moved."""
    return _unconfirmed(dispatch).update(status=Status.QUEUED, due_at=None, put_off_at=None, settled_at=None)


def accept_unconfirmed(dispatch: Dispatch) -> int:
    """UNCONFIRMED -> SENT by the author's word: better never than twice. The number moved."""
    return _unconfirmed(dispatch).update(status=Status.SENT, settled_at=Now())


def retry_failed(dispatch: Dispatch) -> int:
    """FAILED -> QUEUED by the author's word; the number moved."""
    failed = Delivery.objects.filter(dispatch=dispatch, status=Status.FAILED)
    return failed.update(status=Status.QUEUED, due_at=None, put_off_at=None, settled_at=None, verdict=None)


def _unconfirmed(dispatch: Dispatch) -> QuerySet[Delivery]:
    return Delivery.objects.filter(dispatch=dispatch, status=Status.UNCONFIRMED)
