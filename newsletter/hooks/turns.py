"""A hook's turn: its calls one after the other, each claimed, made outside any transaction, and noted.

One worker at a time holds a hook, by a lease with the database's clock: so a slow receiver gets one call at a time, and
calls go in order as long as none fails. One that fails waits for its own next try while later ones go on. Whoever finds
the lease of a hook run out puts back what that worker was calling: it is called again, with the same id.
"""

from __future__ import annotations

import datetime as dt
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from newsletter import alerts
from newsletter.hooks import calling, payload, signing
from newsletter.models import Call, Hook
from newsletter.transports.outcomes import one_line

Status = Call.Status

AT_ONCE = 2  # hooks called at the same time on the whole site: receivers that do not answer take no more workers
TURN_SECONDS = 5.0  # no call begins later than this after the turn began
# Longer than resolving, a call and the database may take together.
LEASE = dt.timedelta(seconds=60)
# Before the next try of a call, each with up to a fifth more, so that not all come back at once.
BACK_OFF = (
    dt.timedelta(seconds=5),
    dt.timedelta(minutes=5),
    dt.timedelta(minutes=30),
    dt.timedelta(hours=2),
    dt.timedelta(hours=5),
    dt.timedelta(hours=10),
    dt.timedelta(hours=14),
)
JITTER = 0.2
# How long a hook is left alone after failures in a row: 5 s, 10 s, 20 s … A dead receiver costs a call in five minutes.
FIRST_REST, LONGEST_REST = dt.timedelta(seconds=5), dt.timedelta(minutes=5)
DISABLED_AFTER = dt.timedelta(days=5)
OLD_SECRET_FOR = dt.timedelta(hours=24)


def to_ring() -> list[int]:
    """Ids of hooks with something due that nobody holds or was called for; `rung_at` is set for each, so that of two
    ticks one rings it. At most AT_ONCE are rung or held at a time; who waited longest goes first."""
    called = Q(rung_at__gte=Now() - LEASE)
    busy = Hook.objects.filter(called | Q(leased_until__gte=Now())).count()
    due = Call.objects.due().filter(hook=OuterRef("pk"))
    left_behind = Call.objects.filter(hook=OuterRef("pk"), status=Status.CALLING)
    quiet = _free(Hook.objects.working()).filter(
        Q(rung_at=None) | ~called, Q(rests_until=None) | Q(rests_until__lte=Now())
    )
    waiting = quiet.filter(Exists(due) | Exists(left_behind)).order_by(F("called_at").asc(nulls_first=True), "pk")
    rung = []
    for pk in waiting.values_list("pk", flat=True)[: max(0, AT_ONCE - busy)]:
        if Hook.objects.filter(Q(rung_at=None) | ~called, pk=pk).update(rung_at=Now()):
            rung.append(pk)
    return rung


def take(hook: Hook, *, stopping: Callable[[], bool] = lambda: False) -> int:
    """Make the calls of `hook` that are due, for TURN_SECONDS; the number made. 0 where another worker holds it.

    `stopping` is asked before each call: no other begins once it says so.
    """
    began = time.monotonic()
    token = uuid.uuid4()
    with transaction.atomic():
        free = _free(Hook.objects.working()).filter(pk=hook.pk)
        if not free.update(lease_token=token, leased_until=Now() + LEASE, called_at=Now()):
            return 0
        left_behind = Call.objects.filter(hook=hook, status=Status.CALLING)
        left_behind.update(status=Status.WAITING, due_at=Now() + BACK_OFF[0])
    made = 0
    try:
        while time.monotonic() - began < TURN_SECONDS and not stopping():
            call = _claim(hook.pk, token)
            if call is None:
                break
            _note(call, _make(call))
            made += 1
    finally:
        Hook.objects.filter(pk=hook.pk, lease_token=token).update(lease_token=None, leased_until=None, rung_at=None)
    return made


def again(call: Call) -> bool:
    """The author's word: this call once more, now, with all its tries. False where it has not ended."""
    return _again(Call.objects.filter(pk=call.pk, status__in=(Status.ACCEPTED, Status.GIVEN_UP))) == 1


def all_again(hook: Hook) -> int:
    """Once more whatever was given up of `hook`; how many."""
    return _again(Call.objects.filter(hook=hook, status=Status.GIVEN_UP))


def enable(hook: Hook) -> bool:
    """The author's word: a hook that was switched off is called again, with all that waited. False where it was not."""
    off = Hook.objects.filter(pk=hook.pk, disabled_at__isnull=False)
    return bool(
        off.update(disabled_at=None, disabled_reason="", failing_since=None, failures=0, rests_until=None, rung_at=None)
    )


def rotate(hook: Hook) -> None:
    """Sign with a new secret; the old one signs too for OLD_SECRET_FOR, so that a receiver can be changed meanwhile."""
    Hook.objects.filter(pk=hook.pk, secret=hook.secret).update(
        old_secret=F("secret"), old_secret_until=Now() + OLD_SECRET_FOR, secret=signing.new_secret()
    )


def _free(hooks: QuerySet[Hook]) -> QuerySet[Hook]:
    return hooks.filter(Q(leased_until=None) | Q(leased_until__lt=Now()))


def _again(calls: QuerySet[Call]) -> int:
    return calls.update(status=Status.WAITING, due_at=Now(), tries=0)


def _claim(hook_id: int, token: uuid.UUID) -> Call | None:
    """The next call due of a hook that is held by `token` and may be called, CALLING now."""
    held = Hook.objects.working().filter(
        Q(rests_until=None) | Q(rests_until__lte=Now()), pk=hook_id, lease_token=token, leased_until__gt=Now()
    )
    for pk in Call.objects.due().filter(hook=hook_id).order_by("due_at", "pk").values_list("pk", flat=True)[:1]:
        mine = Call.objects.due().filter(Exists(held), pk=pk)
        claimed = mine.update(
            status=Status.CALLING, tries=F("tries") + 1, number=F("number") + 1, tried_at=Now(), took=None
        )
        if claimed:
            return Call.objects.select_related("hook", "occurrence__newsletter", "occurrence__subscriber").get(pk=pk)
    return None


def _make(call: Call) -> calling.Answer:
    """The call itself; no transaction is open."""
    hook, now = call.hook, time.time()
    keys = [hook.secret]
    if hook.old_secret_until and hook.old_secret_until.timestamp() > now:
        keys.append(hook.old_secret)
    body = payload.body(call.occurrence)
    headers = signing.headers(payload.message_id(call.occurrence), int(now), body, keys)
    return calling.post(hook.url, body, headers)


def _note(call: Call, answer: calling.Answer) -> None:
    """Write down what came of it, where this call is still ours."""
    exhausted = call.tries > len(BACK_OFF)
    status = Status.WAITING
    if answer.accepted:
        status = Status.ACCEPTED
    elif exhausted and not answer.gone:
        status = Status.GIVEN_UP
    person = call.occurrence.subscriber
    fields: dict[str, Any] = {
        "status": status,
        "status_code": answer.status_code,
        "answer": one_line(answer.text, person.address if person else ""),
        "took": Now() - F("tried_at"),
    }
    if status == Status.WAITING:
        fields["due_at"] = Now() + max(_back_off(call.tries), answer.retry_after or dt.timedelta())
    with transaction.atomic():
        mine = Call.objects.filter(pk=call.pk, status=Status.CALLING, number=call.number)
        if not mine.update(**fields):
            return
        hook = Hook.objects.filter(pk=call.hook_id)
        if answer.accepted:
            hook.update(failures=0, failing_since=None, rests_until=None, succeeded_at=Now())
            return
        rest = max(_rest(call.hook.failures), answer.retry_after or dt.timedelta())
        hook.update(
            failures=F("failures") + 1, rests_until=Now() + rest, last_failure=_in_words(answer, fields["answer"])
        )
        hook.filter(failing_since=None).update(failing_since=Now())
    _disable_where_hopeless(call.hook, answer)


def _disable_where_hopeless(hook: Hook, answer: calling.Answer) -> None:
    """Switch a hook off that says it is gone, or failed for DISABLED_AFTER; what waits for it goes on waiting."""
    working = Hook.objects.working().filter(pk=hook.pk)
    if answer.gone:
        reason = "It answered 410 Gone: nothing more is wanted there."
    else:
        working = working.filter(failing_since__lte=Now() - DISABLED_AFTER)
        reason = f"It has failed for {DISABLED_AFTER.days} days without a success."
    if working.update(disabled_at=Now(), disabled_reason=reason):
        alerts.alert(f"The webhook “{hook}” is switched off", f"{reason} Mend it, then enable it again in the admin.")


def _in_words(answer: calling.Answer, text: str) -> str:
    """A failure in a line: its status, and what was said."""
    status = f"status {answer.status_code}" if answer.status_code else ""
    return ": ".join(filter(None, (status, text)))[:300]


def _back_off(tries: int) -> dt.timedelta:
    """How long a call waits after that many tries."""
    wait = BACK_OFF[min(max(tries, 1), len(BACK_OFF)) - 1]
    return wait + wait * random.random() * JITTER  # noqa: S311 - nobody gains by guessing it


def _rest(failures: int) -> dt.timedelta:
    """How long a hook rests after a failure that came after `failures` in a row."""
    doubled: int = 2 ** min(failures, 10)
    return min(FIRST_REST * doubled, LONGEST_REST)
