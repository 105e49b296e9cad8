"""What the tick does, in order. All of it may run on any number of machines at once."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from newsletter import alerts, audience, deliveries, invariants, rendering, variants
from newsletter.hooks import occurring
from newsletter.models import Attempt, Batch, Breach, Delivery, Dispatch, Halt
from newsletter.scheduling.acts import pause_if_running
from newsletter.scheduling.clock import resolve
from newsletter.settings import ENV

Status = Dispatch.Status
GRACE = dt.timedelta(hours=2)  # later than this, ask a human: nobody wants Monday's mail on Tuesday
LATE = dt.timedelta(days=7)  # no worker sleeps longer
YOUNG = dt.timedelta(hours=3)  # a tidy or two
CHECK_EVERY = dt.timedelta(minutes=1)
PATIENCE, FEW = dt.timedelta(seconds=1), 10  # for single messages that nobody takes, and how many are looked for
MOST_ASKED = 500  # attempts that one look goes into
# More new failures than this, and more than this share of what was tried: something is wrong with us, not with readers.
FAILURES_TO_PAUSE, FAILING_SHARE = 20, 0.05
DOMAINS_LOOKED_AT = 10
# More new doubts than this, more than one lost answer leaves, and more than that share: answers stay away.
DOUBTS_TO_PAUSE = 100


class NobodyThere(RuntimeError):
    """A newsletter without a single subscription; the message says what to do."""


def start_due() -> None:
    """SCHEDULED -> PREPARING where the time has come, -> MISSED where it passed GRACE ago.

    The wall time is resolved anew at each look, so that a change of a zone's rules between scheduling and sending moves
    the instant and not the clock time that the author chose.
    """
    for dispatch in Dispatch.objects.filter(status=Status.SCHEDULED):
        assert dispatch.wall_time is not None  # noqa: S101 - constraint no_schedule_without_a_time
        wall_time = dispatch.wall_time.replace(tzinfo=None, fold=dispatch.wall_time_is_second)
        due_at = resolve(wall_time, dispatch.time_zone)
        still = Dispatch.objects.filter(pk=dispatch.pk, status=Status.SCHEDULED, wall_time=dispatch.wall_time)
        if due_at != dispatch.due_at:
            still.update(due_at=due_at)
        still.filter(due_at__lt=Now() - GRACE).update(status=Status.MISSED)
        still.filter(due_at__lte=Now()).update(status=Status.PREPARING, started_at=Now())


def to_prepare() -> list[int]:
    """Ids of dispatches that are PREPARING and that nobody prepares."""
    free = Q(leased_until=None) | Q(leased_until__lt=Now())
    return list(Dispatch.objects.filter(free, status=Status.PREPARING).values_list("pk", flat=True))


def prepare(dispatch: Dispatch) -> None:
    """PREPARING -> SENDING: snapshot the audience, render every variant it needs. Leased, and safe to repeat.

    An issue that cannot be rendered, or has nobody to go to, is PAUSED with the reason.
    """
    token = uuid.uuid4()
    free = Q(leased_until=None) | Q(leased_until__lt=Now())
    leased = Dispatch.objects.filter(free, pk=dispatch.pk, status=Status.PREPARING)
    until = Now() + dt.timedelta(seconds=ENV.lease_seconds)
    if not leased.update(lease_token=token, leased_until=until):
        return
    mine = Dispatch.objects.filter(pk=dispatch.pk, lease_token=token)
    try:
        if not dispatch.newsletter.subscriptions.exists():
            raise NobodyThere("The newsletter has no readers yet: import or invite some, then resume.")
        if audience.snapshot(dispatch, batch_size=ENV.batch_size) and dispatch.batches.count() > 1:
            audience.note_sizes()
        deliveries.forget_erased(Dispatch.objects.filter(pk=dispatch.pk))
        variants.ensure_all(dispatch)
        mine.filter(status=Status.PREPARING).update(status=Status.SENDING)
    except (rendering.RenderingError, audience.SumsDisagree, NobodyThere) as error:
        mine.filter(status=Status.PREPARING).update(status=Status.PAUSED, pause_reason=str(error))
    finally:
        mine.update(lease_token=None, leased_until=None)


def forget_erased() -> None:
    """Take those out of young dispatches whose erasure had not ended when `prepare` looked."""
    deliveries.forget_erased(Dispatch.objects.filter(snapshot_at__gt=Now() - YOUNG))


def to_ring(*kinds: Dispatch.Kind) -> list[int]:
    """Ids of batches of dispatches of `kinds` (of all, where none is named) with something due that nobody holds and
    nobody was called for within one lease time; `rung_at` is set for each, so that of two ticks one rings it.

    Due is mail to be handed over, or a call to be made again; that also once the dispatch is SENT.
    """
    called = Q(rung_at__gte=Now() - dt.timedelta(seconds=ENV.lease_seconds))
    due = Delivery.objects.due().filter(batch=OuterRef("pk"))
    quiet = Batch.objects.filter(
        ~called | Q(rung_at=None),
        Q(due_at=None) | Q(due_at__lte=Now()),
        ~Exists(Halt.objects.all()),
        lease_token=None,
        dispatch__kind__in=kinds or Dispatch.Kind,
    )
    asks = Attempt.objects.filter(repeat_at__lte=Now(), batch__dispatch__status__in=deliveries.REPEATING)
    # Two queries: a single one would look at every batch there ever was.
    found = [
        *quiet.filter(Exists(due), dispatch__status=Status.SENDING).order_by("dispatch", "number").values_list("pk"),
        *quiet.filter(pk__in=set(asks.values_list("batch", flat=True)[:MOST_ASKED])).values_list("pk"),
    ]
    rung = []
    for (pk,) in dict.fromkeys(found):
        if Batch.objects.filter(~called | Q(rung_at=None), pk=pk, lease_token=None).update(rung_at=Now()):
            rung.append(pk)
    return rung


def waiting_singles() -> list[int]:
    """Ids of a few batches of single messages that nobody has touched yet and somebody should have by now."""
    patient = Now() - PATIENCE
    due = Delivery.objects.due().filter(batch=OuterRef("pk"), attempt=None)
    quiet = Batch.objects.filter(
        Exists(due),
        Q(due_at=None) | Q(due_at__lte=Now()),
        Q(rung_at=None) | Q(rung_at__lt=patient),
        ~Exists(Halt.objects.all()),
        lease_token=None,
        dispatch__kind=Dispatch.Kind.SINGLE,
        dispatch__status=Status.SENDING,
        dispatch__created_at__lt=patient,
    )
    return list(quiet.order_by("pk").values_list("pk", flat=True)[:FEW])


def take_back_expired() -> None:
    """Batches whose worker is gone: what it held is UNCONFIRMED, the rest may be rung again.

    One whose worker is in the midst of a claim has its turn at the next look.
    """
    expired = Batch.objects.filter(leased_until__lt=Now())
    for batch in expired:
        with transaction.atomic():
            same = Batch.objects.select_for_update(skip_locked=True).filter(
                pk=batch.pk, lease_token=batch.lease_token, leased_until__lt=Now()
            )
            if same.exists():
                deliveries.doubt(batch)
                same.update(lease_token=None, leased_until=None, rung_at=None)


def check() -> None:
    """Hold every dispatch that is SENDING to its invariants, at its start and every minute; a breach stops it and
    alerts. Too many failures or doubts pause it with the reason in plain words."""
    old = Q(checked_at=None) | Q(checked_at__lt=Now() - CHECK_EVERY)
    for dispatch in Dispatch.objects.filter(status=Status.SENDING):
        if Dispatch.objects.filter(old, pk=dispatch.pk, status=Status.SENDING).update(checked_at=Now()):
            found = invariants.breaches(dispatch)
            if found:
                _stop(dispatch, found)
        _pause_where_too_many_fail(dispatch)
        _pause_where_too_many_are_in_doubt(dispatch)
    _tell_of_late_duplicates()


def _tell_of_late_duplicates() -> None:
    """Alert, once, where it turns out that readers were mailed twice of a dispatch that has ended or is paused."""
    still = Dispatch.objects.filter(status__in=(*Dispatch.ENDED, Status.PAUSED), breached=False)
    late = Breach.objects.new().duplicates().filter(dispatch__in=still)
    for dispatch in still.filter(pk__in=late.values("dispatch")):
        found = " ".join(invariants.breaches(dispatch))
        if dispatch.kind == Dispatch.Kind.SINGLE:
            told = bool(invariants.acknowledge(dispatch, ""))
        else:
            reason = f"{dispatch.pause_reason} {found}".strip()
            told = bool(still.filter(pk=dispatch.pk).update(breached=True, pause_reason=reason))
        if told:
            alerts.alert(f"{dispatch}: readers were mailed twice", found)


def _pause_where_too_many_fail(dispatch: Dispatch) -> None:
    failed = Delivery.objects.filter(dispatch=dispatch, status=Delivery.Status.FAILED).count() - dispatch.failures_seen
    if failed < FAILURES_TO_PAUSE:
        return
    tried = failed + invariants.accepted(dispatch)
    reason = ""
    if failed > FAILURES_TO_PAUSE and failed > tried * FAILING_SHARE:
        reason = (
            f"{failed:,} of {tried:,} mails tried were refused, more than {FAILING_SHARE:.0%}: see why in the report."
        )
    elif _have_grown(dispatch, failed + dispatch.failures_seen):
        reason = _refusing_domain(dispatch)
    if reason:
        pause_and_tell(dispatch, reason)


def pause_and_tell(dispatch: Dispatch, reason: str) -> None:
    """PAUSED by the engine itself, with the reason in plain words, and whoever runs the site hears of it."""
    if pause_if_running(dispatch, reason):
        alerts.alert(f"{dispatch} is paused", reason)


def _pause_where_too_many_are_in_doubt(dispatch: Dispatch) -> None:
    """Counts what the other side was given and did not answer for, but not what is asked again under its key, nor what
    the author took note of by resuming. What a worker that died had in hand says nothing of the other side."""
    doubts = Delivery.objects.filter(
        dispatch=dispatch,
        status=Delivery.Status.UNCONFIRMED,
        attempt__finished_at__isnull=False,
        attempt__repeat_at=None,
    )
    if dispatch.failures_seen_at:
        doubts = doubts.filter(settled_at__gt=dispatch.failures_seen_at)
    doubted = doubts.count()
    if doubted <= max(DOUBTS_TO_PAUSE, ENV.chunk_size):
        return
    tried = doubted + invariants.accepted(dispatch)
    if doubted > tried * FAILING_SHARE:
        reason = (
            f"{doubted:,} of {tried:,} mails tried are in doubt, more than {FAILING_SHARE:.0%}: the mail server or"
            " provider took them and did not say what became of them. See in the report what it said, and whether it"
            " is well, before you resume."
        )
        pause_and_tell(dispatch, reason)


def _have_grown(dispatch: Dispatch, failures: int) -> bool:
    """Whether there are a tenth more `failures` than when they were told apart the last time; true for one of two."""
    before = failures - max(1, failures // 10)
    row = Dispatch.objects.filter(pk=dispatch.pk, failures_looked_into__lte=before)
    return bool(row.update(failures_looked_into=failures))


def _refusing_domain(dispatch: Dispatch) -> str:
    """Which domain refuses this dispatch though others do not, in a sentence, or "".

    Only what was refused is read whole; of what else a domain got no more than would acquit it.
    """
    rows = Delivery.objects.filter(dispatch=dispatch, subscriber__isnull=False).order_by()
    if dispatch.failures_seen_at:
        rows = rows.filter(settled_at__gt=dispatch.failures_seen_at)
    refused = rows.filter(status=Delivery.Status.FAILED).values_list("subscriber__address_key", flat=True)
    by_domain = Counter(key.rpartition("@")[2] for key in refused.iterator())
    for domain, failed in by_domain.most_common(DOMAINS_LOOKED_AT):
        if failed < FAILURES_TO_PAUSE:
            break
        enough = round(failed / FAILING_SHARE) - failed
        taken = rows.filter(status=Delivery.Status.SENT, subscriber__address_key__endswith=f"@{domain}")
        sent = taken[:enough].count()
        if sent < enough:
            return (
                f"{domain} refuses this: {failed:,} of {failed + sent:,} mails tried there, more than"
                f" {FAILING_SHARE:.0%}. See why in the report."
            )
    return ""


def _stop(dispatch: Dispatch, found: list[str]) -> None:
    if dispatch.kind == Dispatch.Kind.SINGLE:  # of one mail nothing is left to stop, and nobody would resume it
        stopped = bool(invariants.acknowledge(dispatch, ""))
    else:
        stopped = pause_if_running(dispatch, " ".join(found), breached=True)
    if stopped:
        alerts.alert(f"{dispatch} is stopped", " ".join(found))


def finish() -> None:
    """SENDING -> SENT where nothing is left to do and the sums agree; a cancelled dispatch ends its last chunks.

    An answer that comes after that, from a worker that was frozen or cut off, may put rows back into the queue: then
    the dispatch is SENDING again, or they are skipped where it was cancelled.
    """
    deliveries.fail_useless()
    late = Delivery.objects.filter(dispatch=OuterRef("pk"), status=Delivery.Status.QUEUED)
    ended = Dispatch.objects.filter(Exists(late), finished_at__gt=Now() - LATE)
    ended.filter(status=Status.SENT).update(status=Status.SENDING, finished_at=None)
    ended.filter(status=Status.CANCELLED).update(finished_at=None)
    busy = Delivery.objects.filter(
        dispatch=OuterRef("pk"), status__in=(Delivery.Status.QUEUED, Delivery.Status.SENDING)
    )
    held = Batch.objects.filter(dispatch=OuterRef("pk"), lease_token__isnull=False)
    for dispatch in Dispatch.objects.filter(status=Status.SENDING):
        idle = Dispatch.objects.filter(~Exists(busy), ~Exists(held), pk=dispatch.pk, status=Status.SENDING)
        if not idle.exists():
            continue
        found = invariants.breaches(dispatch)
        if found:
            _stop(dispatch, found)
        else:
            with transaction.atomic():
                if idle.update(status=Status.SENT, finished_at=Now()):
                    occurring.sent(dispatch)
    for dispatch in Dispatch.objects.filter(status=Status.CANCELLED, finished_at=None):
        deliveries.skip_cancelled(dispatch)
        Dispatch.objects.filter(~Exists(busy), ~Exists(held), pk=dispatch.pk).update(finished_at=Now())
