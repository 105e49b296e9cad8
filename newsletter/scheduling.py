"""Every change of Dispatch.status. Each is one conditional UPDATE: of two beats, one moves the row.

DRAFT <-> SCHEDULED -> PREPARING -> SENDING <-> PAUSED -> SENT
SCHEDULED -> MISSED -> DRAFT | SCHEDULED;  PREPARING <-> PAUSED;  SENT -> SENDING (the author resends what is in doubt)
any but SENT -> CANCELLED
"""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo
from collections.abc import Callable, Iterable

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from newsletter import audience, deliveries, preflight, rendering, variants
from newsletter.content import TrackingMode
from newsletter.models import Batch, Delivery, Dispatch, DispatchProfile, Issue, Newsletter, Revision
from newsletter.settings import ENV
from subscribers.models import Subscriber, tier_level_of

Status = Dispatch.Status
GRACE = dt.timedelta(hours=2)  # later than this, ask a human: nobody wants Monday's mail on Tuesday
UNDO_WINDOW = dt.timedelta(seconds=10)  # "send now" starts after it


class NotNow(ValueError):
    """What was asked cannot be done in the state things are in; the message says why and what to do."""


def resolve(wall_time: dt.datetime, time_zone: str) -> dt.datetime:
    """The instant that the naive `wall_time` on a clock in `time_zone` means by the rules known now, in UTC.

    A time that the clocks skip is moved on by the gap; of a time that comes twice the first is meant, or the second
    where `wall_time.fold` is 1 (PEP 495).
    """
    return wall_time.replace(tzinfo=zoneinfo.ZoneInfo(time_zone)).astimezone(dt.UTC)


def schedule(issue: Issue, at: dt.datetime | None = None) -> Dispatch:
    """Pin the issue as it stands now into a dispatch, to start at `at`; None means at once.

    A naive `at` is read off the clock of the newsletter's time zone; an aware one is turned to that clock. Raises
    NotNow if preflight finds something, the time has passed, or the issue is scheduled or was sent already.
    """
    with transaction.atomic():
        issue = Issue.objects.select_for_update().select_related("newsletter").get(pk=issue.pk)
        dispatch = Dispatch.objects.filter(issue=issue).exclude(status=Status.CANCELLED).first()
        refuse_unless_editable(issue)
        content = issue.content()
        found = preflight.problems(content)
        if found:
            raise NotNow(" ".join(found))
        zone = issue.newsletter.time_zone
        now = dt.datetime.now(dt.UTC)
        at = now if at is None else at
        wall_time = at if at.tzinfo is None else wall_time_in(at, zone)
        due_at = resolve(wall_time, zone)
        if due_at < now - dt.timedelta(minutes=1):
            raise NotNow(f"{wall_time:%Y-%m-%d %H:%M} in {zone} has passed: give a time to come.")
        fields = {
            "revision": Revision.objects.create(issue=issue, data=content.as_json()),
            "status": Status.SCHEDULED,
            "wall_time": wall_time.replace(tzinfo=dt.UTC),
            "wall_time_is_second": bool(wall_time.fold),
            "time_zone": zone,
            "due_at": due_at,
        }
        if dispatch is None:
            return Dispatch.objects.create(issue=issue, newsletter=issue.newsletter, **fields)
        Dispatch.objects.filter(pk=dispatch.pk, status__in=(Status.DRAFT, Status.MISSED)).update(**fields)
    dispatch.refresh_from_db()
    return dispatch


def send_single(subscriber: Subscriber, newsletter: Newsletter, *, subject: str, body: str) -> Dispatch:
    """Queue one message to one person, in the look of `newsletter`: a confirmation, a one-time link.

    `body` is Markdown. It goes the way of every mail, as an audience of one, and is not tracked. Call it inside the
    transaction that makes it necessary. Raises rendering.RenderingError.
    """
    content = newsletter.single_content(subject=subject, body=body)
    revision = Revision.objects.create(data=content.as_json())
    dispatch = Dispatch.objects.create(
        newsletter=newsletter,
        kind=Dispatch.Kind.SINGLE,
        revision=revision,
        status=Status.SENDING,
        started_at=Now(),
        snapshot_at=Now(),
        candidates=1,
    )
    levels = Subscriber.objects.annotate(tier_level=tier_level_of("pk")).values_list("tier_level", flat=True)
    profile = DispatchProfile.objects.create(
        dispatch=dispatch,
        tier_level=levels.get(pk=subscriber.pk),
        text_only=subscriber.text_only,
        tracking=TrackingMode.OFF.value,
    )
    variants.ensure(profile, content)
    batch = Batch.objects.create(dispatch=dispatch, number=1)
    Delivery.objects.create(dispatch=dispatch, subscriber=subscriber, profile=profile, batch=batch)
    return dispatch


def wall_time_in(instant: dt.datetime, time_zone: str) -> dt.datetime:
    """What a clock on the wall in `time_zone` shows at `instant`, naive."""
    return instant.astimezone(zoneinfo.ZoneInfo(time_zone)).replace(tzinfo=None)


def when(dispatch: Dispatch) -> str:
    """When a dispatch starts, as people say it: `Sun 1 Nov 2026, 01:30 EDT (first of two)`; "" for a draft."""
    if dispatch.due_at is None:
        return ""
    clock = dispatch.due_at.astimezone(zoneinfo.ZoneInfo(dispatch.time_zone))
    twice = clock.replace(fold=0).utcoffset() != clock.replace(fold=1).utcoffset()
    which = f" ({'second' if clock.fold else 'first'} of two)" if twice else ""
    return f"{clock:%a} {clock.day} {clock:%b %Y, %H:%M %Z}{which}"


def refuse_unless_editable(issue: Issue) -> None:
    """Raise NotNow if the issue is scheduled, on its way or sent. Call it under a lock of the issue's row."""
    handed_over = Delivery.objects.filter(dispatch__issue=issue, tries__gt=0)
    if Dispatch.objects.filter(issue=issue, status=Status.CANCELLED).filter(Exists(handed_over)).exists():
        raise NotNow(f"“{issue.title}” was cancelled while it was being sent: some readers have it. Make a new issue.")
    dispatch = Dispatch.objects.filter(issue=issue).exclude(status=Status.CANCELLED).first()
    match dispatch and dispatch.status:
        case None | Status.DRAFT | Status.MISSED:
            return
        case Status.SCHEDULED:
            raise NotNow(f"“{issue.title}” is scheduled: unschedule it first.")
        case Status.SENT:
            raise NotNow(f"“{issue.title}” has been sent: a sent issue is never changed or sent again.")
        case _:
            raise NotNow(f"“{issue.title}” is being sent: it can no longer be changed.")


def unschedule(dispatch: Dispatch) -> None:
    """SCHEDULED or MISSED -> DRAFT: the undo. Raises NotNow once it has started."""
    _move(dispatch, (Status.SCHEDULED, Status.MISSED), Status.DRAFT, "It has started: pause or cancel it.", due_at=None)


def pause(dispatch: Dispatch, reason: str) -> None:
    """PREPARING or SENDING -> PAUSED. No chunk is claimed afterwards; those in hand are finished. Raises NotNow."""
    why = "Only a dispatch that is being sent can be paused."
    _move(dispatch, (Status.PREPARING, Status.SENDING), Status.PAUSED, why, pause_reason=reason)


def pause_if_running(dispatch: Dispatch, reason: str) -> bool:
    """PAUSED by the engine itself, with the reason in plain words; False where somebody stopped it before."""
    try:
        pause(dispatch, reason)
    except NotNow:
        return False
    return True


def resume(dispatch: Dispatch) -> None:
    """PAUSED -> SENDING, or PREPARING where it was not ready. Raises NotNow."""
    ready = Dispatch.objects.filter(pk=dispatch.pk, snapshot_at__isnull=False).exclude(_unrendered())
    to = Status.SENDING if ready.exists() else Status.PREPARING
    _move(dispatch, (Status.PAUSED,), to, "It is not paused.", pause_reason="")


def cancel(dispatch: Dispatch) -> None:
    """Any but SENT -> CANCELLED; what is queued is skipped, what is being handed over is finished. Raises NotNow."""
    stoppable = tuple(status for status in Status if status not in Dispatch.ENDED)
    why = "It has ended: what was sent cannot be called back."
    with transaction.atomic():
        _move(dispatch, stoppable, Status.CANCELLED, why, pause_reason="")
        deliveries.skip_cancelled(dispatch)


def resend_unconfirmed(dispatch: Dispatch) -> int:
    """By the author's word, send again what is in doubt: some may get it twice. The number; raises NotNow."""
    return _reopen(dispatch, deliveries.resend_unconfirmed)


def retry_failed(dispatch: Dispatch) -> int:
    """Try again what was refused. The number; raises NotNow."""
    return _reopen(dispatch, deliveries.retry_failed)


def accept_unconfirmed(dispatch: Dispatch) -> int:
    """By the author's word, take what is in doubt as sent: some may never get it. The number."""
    return deliveries.accept_unconfirmed(dispatch)


def _reopen(dispatch: Dispatch, queue: Callable[[Dispatch], int]) -> int:
    with transaction.atomic():
        locked = Dispatch.objects.select_for_update().get(pk=dispatch.pk)
        if locked.status == Status.CANCELLED:
            raise NotNow("It was cancelled: nothing more of it is sent.")
        moved = queue(locked)
        if moved and locked.status == Status.SENT:
            _move(locked, (Status.SENT,), Status.SENDING, "", finished_at=None)
    dispatch.refresh_from_db()
    return moved


def _move(dispatch: Dispatch, allowed: Iterable[str], to: str, why_not: str, **fields: object) -> None:
    """One conditional UPDATE of the status. Raises NotNow with `why_not` where it stood in none of `allowed`."""
    if not Dispatch.objects.filter(pk=dispatch.pk, status__in=allowed).update(status=to, **fields):
        raise NotNow(why_not)
    dispatch.refresh_from_db()


# What the tick does, in order. All of it may run on any number of machines at once.


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

    An issue that cannot be rendered goes to PAUSED with the reason.
    """
    token = uuid.uuid4()
    free = Q(leased_until=None) | Q(leased_until__lt=Now())
    leased = Dispatch.objects.filter(free, pk=dispatch.pk, status=Status.PREPARING)
    until = Now() + dt.timedelta(seconds=ENV.lease_seconds)
    if not leased.update(lease_token=token, leased_until=until):
        return
    mine = Dispatch.objects.filter(pk=dispatch.pk, lease_token=token)
    try:
        audience.snapshot(dispatch, batch_size=ENV.batch_size)
        variants.ensure_all(dispatch)
        mine.filter(status=Status.PREPARING).update(status=Status.SENDING)
    except (rendering.RenderingError, audience.SumsDisagree) as error:
        mine.filter(status=Status.PREPARING).update(status=Status.PAUSED, pause_reason=str(error))
    finally:
        mine.update(lease_token=None, leased_until=None)


def to_ring() -> list[int]:
    """Ids of batches with something due that nobody holds and nobody was called for within one lease time; `rung_at`
    is set for each, so that of two ticks one rings it."""
    called = Q(rung_at__gte=Now() - dt.timedelta(seconds=ENV.lease_seconds))
    due = Delivery.objects.due().filter(batch=OuterRef("pk"))
    quiet = Batch.objects.filter(~called | Q(rung_at=None), lease_token=None, dispatch__status=Status.SENDING)
    rung = []
    for pk in quiet.filter(Exists(due)).order_by("dispatch", "number").values_list("pk", flat=True):
        if Batch.objects.filter(~called | Q(rung_at=None), pk=pk, lease_token=None).update(rung_at=Now()):
            rung.append(pk)
    return rung


def take_back_expired() -> None:
    """Batches whose worker is gone: what it held is UNCONFIRMED, the rest may be rung again."""
    expired = Batch.objects.filter(leased_until__lt=Now())
    for batch in expired:
        with transaction.atomic():
            same = Batch.objects.select_for_update().filter(
                pk=batch.pk, lease_token=batch.lease_token, leased_until__lt=Now()
            )
            if same.exists():
                deliveries.doubt(batch)
                same.update(lease_token=None, leased_until=None, rung_at=None)


def finish() -> None:
    """SENDING -> SENT where nothing is left to do and the sums agree; a cancelled dispatch ends its last chunks."""
    busy = Delivery.objects.filter(
        dispatch=OuterRef("pk"), status__in=(Delivery.Status.QUEUED, Delivery.Status.SENDING)
    )
    held = Batch.objects.filter(dispatch=OuterRef("pk"), lease_token__isnull=False)
    for dispatch in Dispatch.objects.filter(status=Status.SENDING):
        if dispatch.started_at and dispatch.started_at < dt.datetime.now(dt.UTC) - deliveries.STALE:
            deliveries.give_up_on_put_off(dispatch)
        idle = Dispatch.objects.filter(~Exists(busy), ~Exists(held), pk=dispatch.pk, status=Status.SENDING)
        if not idle.exists():
            continue
        count = Delivery.objects.filter(dispatch=dispatch).count()
        if count + sum(dispatch.exclusions.values()) == dispatch.candidates:
            idle.update(status=Status.SENT, finished_at=Now())
        else:
            reason = f"Of {dispatch.candidates} candidates only {count} deliveries and {dispatch.exclusions} are left."
            idle.update(status=Status.PAUSED, pause_reason=reason)
    for dispatch in Dispatch.objects.filter(status=Status.CANCELLED, finished_at=None):
        deliveries.skip_cancelled(dispatch)
        Dispatch.objects.filter(~Exists(busy), ~Exists(held), pk=dispatch.pk).update(finished_at=Now())


def _unrendered() -> Exists:
    return Exists(DispatchProfile.objects.filter(dispatch=OuterRef("pk"), variant=None))
