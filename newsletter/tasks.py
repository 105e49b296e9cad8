"""Celery's way in, and the only place that rings. A task takes ids, looks up, calls one function.

The database is the queue: a ring that is lost is rung again, a ring that comes twice finds the row leased or done.
Without a broker, `work` runs the same tasks in this process.
"""

from __future__ import annotations

import logging
import mmap
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec

from celery import Task, shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import close_old_connections, connection
from kombu.exceptions import OperationalError

from newsletter import alerts, events, feedback, fetching, intake, retention, scheduling, sending
from newsletter.hooks import occurring, turns
from newsletter.hooks import tidying as hooks_tidying
from newsletter.intake import Channel
from newsletter.models import Batch, Dispatch, Hook
from newsletter.settings import ENV
from subscribers import tidying

logger = logging.getLogger(__name__)

Params = ParamSpec("Params")

WORK_THREADS = 4
HOOK_THREADS = turns.AT_ONCE  # of their own: a receiver that does not answer holds up no mail
TIDY_SECONDS = 3600.0
NIGHTLY_SECONDS = 24 * 3600.0
JUDGE_SECONDS = 60.0
# Then what nobody took is rung again: a ring that ended earlier would leave its batch alone until then.
RING_SECONDS = ENV.lease_seconds
ORDINARY, SOON, HOOKS, INTAKE = (queue.name for queue in settings.CELERY_TASK_QUEUES)
LOOK_SECONDS = 1.0  # between two looks for single messages that wait
# Who writes down what came back takes so long a turn, and so many take turns at once where much waits.
TURN_SECONDS, TURNS, MUCH = 1.0, 4, 5000
WRITERS: dict[Channel, Callable[[list[dict[str, Any]]], object]] = {
    Channel.HIT: events.write_hits,
    Channel.NOTICE: feedback.write,
}


class _Flag:
    """One byte that the pool's processes share with the one that was told to stop, without a lock to die holding."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self, value: bool) -> None:
        self._byte[0] = value

    def is_set(self) -> bool:
        return bool(self._byte[0])


_stopping = _Flag()
_local = threading.local()


@worker_shutting_down.connect
def _stop_after_this_chunk(**_: object) -> None:
    _stopping.set(True)


@shared_task
def tick() -> None:
    """Look at the rows, ring what is due. Beat calls it every second; two beats do no harm."""
    try:
        for task, pk, queue in due():
            task.apply_async((pk,), expires=RING_SECONDS, queue=queue)
        intake.forward(seconds=TURN_SECONDS)
        for channel, turns_at_once in _coming_back().items():
            for _ in range(turns_at_once):
                # The next tick sees what is left.
                take_in.apply_async((channel.value,), expires=2 * TURN_SECONDS, queue=INTAKE)
        if feedback.any_refused():
            judge_refused.apply_async(expires=2 * TURN_SECONDS, queue=INTAKE)
    except OperationalError as error:
        logger.warning("The broker did not take a ring, it is rung again later: %s", error)


@shared_task
def prepare(dispatch_id: int) -> None:
    """Snapshot and render one dispatch."""
    scheduling.prepare(Dispatch.objects.get(pk=dispatch_id))


@shared_task
def send_batch(batch_id: int) -> None:
    """Send what is due of one batch; pause its dispatch where the engine says that none of it would go, but no single
    message."""
    batch = Batch.objects.select_related("dispatch").get(pk=batch_id)
    single = batch.dispatch.kind == Dispatch.Kind.SINGLE
    between = _nothing if single else _singles_first
    sent = sending.send_batch(batch, stopping=_stopping.is_set, between=between)
    if sent.stop and single:
        scheduling.tell_of_kept_back(batch.dispatch)
    elif sent.stop:
        scheduling.pause_and_tell(batch.dispatch, sent.stop)


@shared_task
def call_hook(hook_id: int) -> None:
    """Make the calls that are due of one webhook, unless it was deleted meanwhile."""
    hook = Hook.objects.filter(pk=hook_id).first()
    if hook is not None:
        turns.take(hook, stopping=_stopping.is_set)


@shared_task
def take_in(channel: str) -> None:
    """Write down what came back by `channel`, for a turn."""
    intake.drain(Channel(channel), WRITERS[Channel(channel)], seconds=TURN_SECONDS, stopping=_stopping.is_set)


@shared_task
def read_bounces(mailbox_id: int) -> None:
    """Take what has come into the mailbox for bounces, unless the settings name another by now."""
    mailbox = fetching.current()
    if mailbox is not None and mailbox.pk == mailbox_id:
        fetching.read(mailbox, stopping=_stopping.is_set)


@shared_task
def judge_refused() -> None:
    """Judge what was refused while sending."""
    feedback.take_refused()


@shared_task
def judge_late() -> None:
    """Judge opens and clicks anew together with those that came about the same time. Beat calls it every minute."""
    if events.begin_look():
        events.judge_late()


@shared_task
def forget() -> None:
    """Delete what is older than the settings say. Beat calls it every night."""
    retention.forget(stopping=_stopping.is_set)


@shared_task
def reconcile() -> None:
    """Have what had hits lately counted anew. Beat calls it every night."""
    for pk in events.to_recount():
        recount.apply_async((pk,), expires=NIGHTLY_SECONDS, queue=INTAKE)


@shared_task
def recount(dispatch_id: int) -> None:
    """Count opens and clicks of one dispatch anew."""
    events.recount(dispatch_id)


@shared_task
def tidy() -> None:
    """End what time ends: pauses, requests that nobody confirmed, links that ran out; look again at soft bounces, tell
    webhooks of memberships that ended, and forget what they were told long ago; tell the operator of what waits too
    long. Beat calls it every hour."""
    tidying.tidy()
    scheduling.forget_erased()
    feedback.review_recent()
    occurring.tell_ended_memberships()
    hooks_tidying.tidy()
    retention.forget_messages()
    for sentence in intake.complaints(intake.look()):
        alerts.alert("What came back is not written down", sentence)


def _nothing(_: Callable[[], None]) -> None:
    """What cannot wait is in hand already."""


def _singles_first(await_answers: Callable[[], None]) -> None:
    """Send single messages that nobody takes because everybody is busy with a large send; looked for once a second."""
    now = time.monotonic()
    if now - getattr(_local, "looked", float("-inf")) < LOOK_SECONDS:
        return
    _local.looked = now
    if waiting := scheduling.waiting_singles():
        await_answers()
    for pk in waiting:
        _run(send_batch, pk)


def _coming_back() -> dict[Channel, int]:
    """The channels in which something waits, each with the number of turns it is worth at once."""
    waiting = {channel: count for channel, count in intake.waiting().items() if channel in WRITERS}
    return {channel: min(TURNS, 1 + count // MUCH) for channel, count in waiting.items()}


def due() -> list[tuple[Task[[int], None], int, str]]:
    """One look at the rows: moves what the clock moves, and says which task to ring with which id, on which queue.

    Somebody waits for a single message, so it does not queue behind the batches of a large send.
    """
    scheduling.start_due()
    scheduling.take_back_expired()
    scheduling.check()
    scheduling.finish()
    return [
        *((send_batch, pk, SOON) for pk in scheduling.to_ring(Dispatch.Kind.SINGLE)),
        *((prepare, pk, SOON) for pk in scheduling.to_prepare()),
        *((send_batch, pk, ORDINARY) for pk in scheduling.to_ring(Dispatch.Kind.ISSUE)),
        *((call_hook, pk, HOOKS) for pk in turns.to_ring()),
        *((read_bounces, pk, INTAKE) for pk in fetching.to_ring()),
    ]


def work(stop: threading.Event, *, seconds_between_looks: float = 0.2) -> None:
    """The embedded loop: look at the rows and run what is due in threads of this process, until `stop` is set.

    Safe beside Celery workers and other loops. Chunks in hand are finished before it returns.
    """
    running: set[Future[None]] = set()
    taking_in: dict[Channel, Future[None]] = {}
    tidied = nightly = float("-inf")
    judging, judged = Future[None](), float("-inf")
    judging.set_result(None)
    refusing = judging
    with (
        ThreadPoolExecutor(WORK_THREADS, thread_name_prefix="work") as pool,
        ThreadPoolExecutor(HOOK_THREADS, thread_name_prefix="hooks") as hook_pool,
        ThreadPoolExecutor(len(Channel), thread_name_prefix="intake") as intake_pool,
    ):
        while not stop.is_set():
            close_old_connections()
            try:
                running |= {(hook_pool if task is call_hook else pool).submit(_run, task, pk) for task, pk, _ in due()}
                taking_in = {channel: turn for channel, turn in taking_in.items() if not turn.done()}
                for channel in _coming_back().keys() - taking_in.keys():
                    taking_in[channel] = intake_pool.submit(_run, take_in, channel.value)
                if refusing.done() and feedback.any_refused():
                    refusing = pool.submit(_run, judge_refused)
                if judging.done() and time.monotonic() - judged >= JUDGE_SECONDS:
                    judging, judged = pool.submit(_run, judge_late), time.monotonic()
                if time.monotonic() - nightly >= NIGHTLY_SECONDS:
                    nightly = time.monotonic()
                    running.add(pool.submit(_run, forget))
                    running |= {intake_pool.submit(_run, recount, pk) for pk in events.to_recount()}
                if time.monotonic() - tidied >= TIDY_SECONDS:
                    tidied = time.monotonic()
                    tidy()
            except Exception:
                logger.exception("A look at the rows failed; trying again.")
                connection.close()
            running = {future for future in running if not future.done()}
            stop.wait(seconds_between_looks)
        _stopping.set(True)
    _stopping.set(False)


def _run(task: Task[Params, None], *args: Params.args, **kwargs: Params.kwargs) -> None:
    close_old_connections()
    try:
        task(*args, **kwargs)
    except Exception:
        logger.exception("%s %s failed; what it was to do is looked at again.", task.name, args)
    finally:
        close_old_connections()
