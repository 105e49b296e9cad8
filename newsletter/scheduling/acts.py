"""What a person may do with a dispatch. The states are drawn in the package's docstring."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

from django.db import transaction
from django.db.models import Case, Exists, TextField, Value, When
from django.db.models.functions import Now

from newsletter import deliveries, invariants, preflight
from newsletter.content import IssueContent, TrackingMode
from newsletter.models import Batch, Delivery, Dispatch, DispatchProfile, Halt, Issue, Newsletter, Revision
from newsletter.scheduling import restoring
from newsletter.scheduling.clock import resolve, wall_time_in
from subscribers.models import Subscriber, tier_level_of

Status = Dispatch.Status
TRIES = 3  # how often an issue that is saved while it is checked is checked anew
UNDO_WINDOW = dt.timedelta(seconds=10)  # "send now" starts after it


class NotNow(ValueError):
    """What was asked cannot be done in the state things are in; the message says why and what to do."""


class NotSure(NotNow):
    """It may have been done before, and a backup restored since: only somebody who is sure does it."""


def schedule(
    issue: Issue, at: dt.datetime | None = None, *, spread: dt.timedelta = dt.timedelta(), sure: bool = False
) -> Dispatch:
    """Pin the issue as it stands now into a dispatch, to start at `at`; None means at once.

    A naive `at` is read off the clock of the newsletter's time zone; an aware one is turned to that clock. The batches
    begin evenly over `spread`. Raises NotNow if preflight finds something, the time has passed, the issue is scheduled
    or was sent already, or somebody goes on saving it; NotSure where it stood in a restored backup and nobody is
    `sure`.
    """
    for _ in range(TRIES):
        refuse_unless_editable(issue)
        if not sure and (why := restoring.unsure(issue)):
            raise NotSure(why)
        content = issue.content()
        found = preflight.problems(content)  # renders, so before the transaction
        if found:
            raise NotNow(" ".join(found))
        dispatch = _pin(issue, content, at, spread, sure=sure)
        if dispatch is not None:
            return dispatch
    raise NotNow(f"“{issue.title}” is being changed: look at it and try again.")


def _pin(
    issue: Issue, checked: IssueContent, at: dt.datetime | None, spread: dt.timedelta, *, sure: bool
) -> Dispatch | None:
    """Schedule `checked` as the content of the issue; None where somebody has saved another meanwhile."""
    with transaction.atomic():
        locked = Issue.objects.select_for_update(of=("self",), no_key=True)
        issue = locked.select_related("newsletter").get(pk=issue.pk)
        dispatch = Dispatch.objects.filter(issue=issue).exclude(status=Status.CANCELLED).first()
        refuse_unless_editable(issue)
        if issue.content() != checked:
            return None
        zone = issue.newsletter.time_zone
        now = dt.datetime.now(dt.UTC)
        at = now if at is None else at
        wall_time = at if at.tzinfo is None else wall_time_in(at, zone)
        due_at = resolve(wall_time, zone)
        if due_at < now - dt.timedelta(minutes=1):
            raise NotNow(f"{wall_time:%Y-%m-%d %H:%M} in {zone} has passed: give a time to come.")
        fields = {
            "revision": Revision.objects.create(issue=issue, data=checked.as_json()),
            "sender_domain": checked.sender_domain,
            "status": Status.SCHEDULED,
            "wall_time": wall_time.replace(tzinfo=dt.UTC),
            "wall_time_is_second": bool(wall_time.fold),
            "time_zone": zone,
            "due_at": due_at,
            "spread": spread,
            **({"sure_at": Now()} if sure else {}),
        }
        if dispatch is None:
            return Dispatch.objects.create(issue=issue, newsletter=issue.newsletter, **fields)
        Dispatch.objects.filter(pk=dispatch.pk, status__in=(Status.DRAFT, Status.MISSED)).update(**fields)
    dispatch.refresh_from_db()
    return dispatch


def send_single(
    subscriber: Subscriber,
    newsletter: Newsletter,
    *,
    subject: str,
    body: str,
    useful_for: dt.timedelta = dt.timedelta(hours=1),
) -> Dispatch:
    """Queue one message to one person, in the look of `newsletter`: a confirmation, a one-time link.

    `body` is Markdown. It goes the way of every mail, as an audience of one, and is not tracked. What has not gone out
    for as long as the link in it is `useful_for`, or any mail is tried, goes out no more. Call it inside the
    transaction that makes it necessary.
    """
    content = newsletter.single_content(subject=subject, body=body)
    revision = Revision.objects.create(data=content.as_json())
    dispatch = Dispatch.objects.create(
        newsletter=newsletter,
        kind=Dispatch.Kind.SINGLE,
        revision=revision,
        sender_domain=content.sender_domain,
        status=Status.SENDING,
        started_at=Now(),
        snapshot_at=Now(),
        useful_until=Now() + min(useful_for, deliveries.STALE),
        candidates=1,
    )
    # Its variant is rendered by the worker that sends it: no compiler inside the caller's transaction.
    levels = Subscriber.objects.annotate(tier_level=tier_level_of("pk")).values_list("tier_level", flat=True)
    profile = DispatchProfile.objects.create(
        dispatch=dispatch,
        tier_level=levels.get(pk=subscriber.pk),
        text_only=subscriber.text_only,
        tracking=TrackingMode.OFF.value,
    )
    batch = Batch.objects.create(dispatch=dispatch, number=1)
    Delivery.objects.create(dispatch=dispatch, subscriber=subscriber, profile=profile, batch=batch)
    return dispatch


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
        case Status.PAUSED if dispatch and dispatch.started_at is None:
            raise NotNow(f"“{issue.title}” waits to be sent since a backup was restored: resume or cancel it first.")
        case Status.SENT:
            raise NotNow(f"“{issue.title}” has been sent: a sent issue is never changed or sent again.")
        case _:
            raise NotNow(f"“{issue.title}” is being sent: it can no longer be changed.")


def unschedule(dispatch: Dispatch) -> None:
    """SCHEDULED or MISSED -> DRAFT: the undo. Raises NotNow once it has started."""
    why = "It is not scheduled." if dispatch.status == Status.DRAFT else "It has started: pause or cancel it."
    _move(dispatch, (Status.SCHEDULED, Status.MISSED), Status.DRAFT, why, due_at=None)


def pause(dispatch: Dispatch, reason: str) -> None:
    """PREPARING or SENDING -> PAUSED. No chunk is claimed afterwards; those in hand are finished. Raises NotNow."""
    why = (
        "It has not started, so there is nothing to pause: take its schedule back, by `manage.py unschedule_issue` or"
        " “Unschedule” on its page."
        if dispatch.status == Status.SCHEDULED
        else "Only a dispatch that is being sent can be paused."
    )
    _move(dispatch, (Status.PREPARING, Status.SENDING), Status.PAUSED, why, pause_reason=reason)


def pause_if_running(dispatch: Dispatch, reason: str, *, breached: bool = False) -> bool:
    """PAUSED by the engine itself, with the reason in plain words; False where somebody stopped it before."""
    running = Dispatch.objects.filter(pk=dispatch.pk, status__in=(Status.PREPARING, Status.SENDING))
    paused = running.update(status=Status.PAUSED, pause_reason=reason, breached=breached)
    dispatch.refresh_from_db()
    return bool(paused)


def resume(dispatch: Dispatch, *, by: str = "") -> None:
    """PAUSED -> SENDING; PREPARING where it was not ready, and SCHEDULED where it had not begun. Raises NotNow.

    Where a breach had stopped it, `by` (a name) takes note of all breaches known now, and only new ones stop it again.
    """
    seen = Delivery.objects.filter(dispatch=dispatch, status=Delivery.Status.FAILED).count()
    with transaction.atomic():
        locked = Dispatch.objects.select_for_update().get(pk=dispatch.pk)
        if locked.breached:
            invariants.acknowledge(dispatch, by)
        taken_note = {"failures_seen": seen, "failures_seen_at": Now(), "breached": False}
        if locked.snapshot_at is None:
            to, taken_note["sure_at"] = Status.PREPARING if locked.started_at else Status.SCHEDULED, Now()
        else:
            unrendered = DispatchProfile.objects.filter(dispatch=dispatch, variant=None)
            to = Status.PREPARING if unrendered.exists() else Status.SENDING
        _move(dispatch, (Status.PAUSED,), to, "It is not paused.", pause_reason="", **taken_note)
        deliveries.count_anew(dispatch)
        _ring_at_once(dispatch)


def cancel(dispatch: Dispatch) -> None:
    """Any but SENT -> CANCELLED; what is queued is skipped, what is being handed over is finished. Raises NotNow."""
    stoppable = tuple(status for status in Status if status not in Dispatch.ENDED)
    why = "It has ended: what was sent cannot be called back."
    with transaction.atomic():
        # What does not add up stays so until somebody takes note of it.
        reason = Case(When(breached=True, then="pause_reason"), default=Value(""), output_field=TextField())
        _move(dispatch, stoppable, Status.CANCELLED, why, pause_reason=reason)
        deliveries.skip_cancelled(dispatch)


def take_note(dispatch: Dispatch, *, by: str) -> None:
    """`by` (a name) takes note of what did not add up in a dispatch that has ended. Raises NotNow."""
    with transaction.atomic():
        ended = Dispatch.objects.filter(pk=dispatch.pk, status__in=Dispatch.ENDED, breached=True)
        if not ended.update(breached=False, pause_reason=""):
            raise NotNow("There is nothing to take note of: it adds up, or has not ended.")
        invariants.acknowledge(dispatch, by)
    dispatch.refresh_from_db()


def resend_unconfirmed(dispatch: Dispatch) -> int:
    """By the author's word, send again what is in doubt: some may get it twice. The number; raises NotNow."""
    return _reopen(dispatch, deliveries.resend_unconfirmed)


def retry_failed(dispatch: Dispatch, *, sure: bool = False) -> int:
    """Try again what was refused. The number; raises NotNow, and NotSure where it was refused before a backup was
    restored and nobody is `sure`."""
    if not sure and (why := restoring.unsure_of_refused(dispatch)):
        raise NotSure(why)
    return _reopen(dispatch, deliveries.retry_failed)


def accept_unconfirmed(dispatch: Dispatch) -> int:
    """By the author's word, take what is in doubt as sent: some may never get it. The number."""
    return deliveries.accept_unconfirmed(dispatch)


def _reopen(dispatch: Dispatch, queue: Callable[[Dispatch], int]) -> int:
    with transaction.atomic():
        locked = Dispatch.objects.select_for_update().get(pk=dispatch.pk)
        if locked.status == Status.CANCELLED:
            raise NotNow("It was cancelled: nothing more of it is sent.")
        if locked.kind == Dispatch.Kind.SINGLE and not locked.revision.content.sections:
            raise NotNow("Its text has been deleted, since the link in it ran out: have a new one sent.")
        moved = queue(locked)
        if moved and locked.status == Status.SENT:
            _move(locked, (Status.SENT,), Status.SENDING, "", finished_at=None)
            _ring_at_once(locked)
    dispatch.refresh_from_db()
    return moved


def _ring_at_once(dispatch: Dispatch) -> None:
    """Let the next tick ring all its batches: who was called while it was stopped found nothing to do."""
    Batch.objects.filter(dispatch=dispatch, lease_token=None).update(rung_at=None)


def _move(dispatch: Dispatch, allowed: Iterable[str], to: str, why_not: str, **fields: object) -> None:
    """One conditional UPDATE of the status. Raises NotNow with `why_not` where it stood in none of `allowed`."""
    if not Dispatch.objects.filter(pk=dispatch.pk, status__in=allowed).update(status=to, **fields):
        raise NotNow(why_not)
    dispatch.refresh_from_db()


def halt(reason: str) -> bool:
    """Stop all sending of this site: from now on no chunk is claimed anywhere. Chunks in hand are finished. Where it is
    halted, the reason stands beside those there are; False where it is one of them."""
    if Halt.objects.filter(reason=reason).exists():
        return False
    Halt.objects.create(reason=reason)
    return True


def end_halt() -> bool:
    """Let sending go on, for whatever reasons it was halted; False where it was not."""
    return bool(Halt.objects.all().delete()[0])
