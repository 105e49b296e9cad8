"""Sending happens here: claim -> message -> transport -> note the outcome.

A batch is leased by one worker at a time. Its deliveries go out in chunks: a chunk is marked SENDING under a new
Attempt before the first byte leaves, handed over outside any transaction, and its outcomes are noted. Whatever dies in
between leaves rows that say so: SENDING rows of an expired lease become UNCONFIRMED, never a silent second mail. Where
a provider keeps keys against doing the same twice, it is asked again about those, by the same calls under their keys.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.db import InterfaceError, InternalError, OperationalError, connection, transaction
from django.db.models.functions import Now

from newsletter import deliveries, message, rates, rendering, tracking, transports, variants, warming
from newsletter.content import IssueContent, TrackingMode
from newsletter.models import Attempt, Batch, Delivery, Dispatch, DispatchProfile, Variant
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result, Transport

logger = logging.getLogger(__name__)

TASK_SECONDS = 30.0  # then the batch is given back and rung again, so that a worker can stop between tasks
COMPILED_KEPT = 64  # variants a worker holds compiled; keeps memory flat however many there are


@dataclass(frozen=True)
class Sent:
    """What `send_batch` did: `stop` is why the whole dispatch should pause, in plain words, or ""."""

    claimed: int = 0
    stop: str = ""


def send_batch(
    batch: Batch, *, stopping: Callable[[], bool] = lambda: False, between: Callable[[], object] = lambda: None
) -> Sent:
    """Send what is due of `batch`, unless another worker holds it.

    Ends when nothing is due, the dispatch is no longer SENDING, TASK_SECONDS have passed or `stopping()`; the
    chunk in hand is always finished. Where a rate leaves no room it waits, holding its lease; where the other side
    rests the batch is given back until then, and nothing is claimed for nothing. `between` is called before each chunk:
    what cannot wait goes first. Safe to call twice, at once or later.
    """
    if not _take_lease(batch):
        return Sent()
    began = time.monotonic()
    sent, failed = Sent(), True
    try:
        for attempt in deliveries.to_repeat(batch):
            _ask_again(batch, attempt, stopping=stopping)
        while not sent.stop and time.monotonic() - began < TASK_SECONDS and not stopping():
            between()
            if rest := _transport().rests():
                Batch.objects.filter(pk=batch.pk).update(due_at=Now() + timedelta(seconds=rest))
                break
            room = rates.room(_transport().name, ENV.chunk_size)
            if not room:
                if not _renew_lease(batch):
                    break
                time.sleep(rates.WAIT)
                continue
            chunk = _send_chunk(batch, room)
            if not chunk.claimed:
                break
            sent = Sent(sent.claimed + chunk.claimed, chunk.stop)
        failed = False
    finally:
        _give_back_lease(batch, ring_again_at_once=not failed)
    return sent


def _take_lease(batch: Batch) -> bool:
    """Become the only worker of `batch`. A lease that ran out is `watch`'s to clear: its rows are in doubt first."""
    batch.lease_token = uuid.uuid4()
    free = Batch.objects.filter(pk=batch.pk, lease_token=None, dispatch__status__in=deliveries.REPEATING)
    return bool(free.update(lease_token=batch.lease_token, leased_until=_lease_end()))


def _renew_lease(batch: Batch) -> bool:
    mine = Batch.objects.filter(pk=batch.pk, lease_token=batch.lease_token, leased_until__gt=Now())
    return bool(mine.update(leased_until=_lease_end()))


def _lease_end() -> Now:
    return Now() + timedelta(seconds=ENV.lease_seconds)  # type: ignore[return-value]


def _give_back_lease(batch: Batch, *, ring_again_at_once: bool) -> None:
    """Let others have the batch. What is due later is rung when it is due, but after a failure only a lease time after
    the last ring: the next worker would most likely fail the same way."""

    def give_back() -> None:
        with transaction.atomic():
            mine = Batch.objects.select_for_update().filter(pk=batch.pk, lease_token=batch.lease_token)
            if mine.exists():
                deliveries.doubt(batch)
                mine.update(lease_token=None, leased_until=None)
                if ring_again_at_once:
                    Batch.objects.filter(pk=batch.pk).update(rung_at=None)

    _keep_trying(give_back)


def _send_chunk(batch: Batch, limit: int) -> Sent:
    """One chunk of at most `limit`. Whatever ends it early: rows not begun go back to the queue, answers that came are
    noted, and only what was in the transport's hands stays SENDING, which `_give_back_lease` takes as a doubt."""
    # Taken before the lease is renewed, so that it ends earlier than the lease does by the database's clock; and by as
    # much as one message may wait for its answers.
    deadline = time.monotonic() + ENV.lease_seconds - transports.longest_wait()
    transport = _transport()
    with transaction.atomic():
        if not _renew_lease(batch):
            return Sent()
        day = warming.lock_today(batch.dispatch) if ENV.warm_up else None
        if day:
            limit = min(limit, warming.left(day, batch.dispatch))
        if not limit:
            Batch.objects.filter(pk=batch.pk).update(due_at=warming.tomorrow())
            return Sent()
        attempt = Attempt.objects.create(
            batch=batch, worker=worker_name(), transport=transport.name, idempotency_key=uuid.uuid4()
        )
        taken = deliveries.claim(batch, attempt=attempt, limit=limit)
        if not taken:
            attempt.delete()
            return Sent()
        if day:
            warming.take(day, taken)
    outcomes: list[Outcome] = []
    begun: dict[int, int] = {}  # tries by delivery
    claimed, stop = 0, ""
    try:
        chunk = deliveries.claimed(attempt)
        claimed = len(chunk)
        late = _without_room(batch.dispatch, transport.name, chunk)
        if late:
            deliveries.postpone(attempt, late)
            chunk = [delivery for delivery in chunk if delivery.pk not in late]
        tries = {delivery.pk: delivery.tries for delivery in chunk}
        for compiled, sender, readers in _messages(batch, attempt, chunk):
            begun |= {reader.delivery_id: tries[reader.delivery_id] for reader in readers}
            if keyed := transports.keyed(transport):
                attempt.calls += keyed.together(compiled, sender, readers)
                attempt.save(update_fields=["calls"])
            outcomes += transport.hand_over(
                compiled, sender, readers, deadline=deadline, idempotency_key=attempt.idempotency_key
            )
    except ValueError as error:
        if begun:
            raise
        stop = f"Its mail cannot be made: {error}"
    finally:
        _keep_trying(lambda: _note(attempt, outcomes, begun))
        if day:
            _keep_trying(partial(warming.note, day, outcomes, not_begun=taken - len(begun)))
    refused = next((outcome for outcome in outcomes if outcome.result == Result.SENDER_REFUSED), None)
    return Sent(max(claimed, 1), f"The mail server refuses this sender: {refused.reply}" if refused else stop)


def _ask_again(batch: Batch, attempt: Attempt, *, stopping: Callable[[], bool]) -> None:
    """Make the calls of `attempt` that left a doubt again, as they were: a provider that keeps their keys repeats its
    answer, and a call that never reached it is made now. Within TASK_SECONDS, the rest later."""
    began = time.monotonic()
    deadline = began + ENV.lease_seconds - transports.longest_wait()
    transport = _transport()
    keyed = transports.keyed(transport)
    if keyed is None or transport.name != attempt.transport:
        deliveries.forget_doubts(attempt)
        return
    if not (_renew_lease(batch) and deliveries.may_repeat(attempt, batch)):
        return
    calls = deliveries.calls_in_doubt(attempt)
    random.shuffle(calls)  # one that never gets an answer does not stand in front of the others for ever
    outcomes: list[Outcome] = []
    try:
        while calls and not stopping() and time.monotonic() - began < TASK_SECONDS:
            messages = _messages(batch, attempt, calls.pop())
            if len(messages) > 1:
                continue  # their tiers are no longer the same, nor would the call be
            (compiled, sender, readers) = messages[0]
            answers = keyed.repeat(
                compiled, sender, readers, deadline=deadline, idempotency_key=attempt.idempotency_key
            )
            outcomes += answers
            if any(answer.result == Result.LATER for answer in answers):
                break
    finally:
        _keep_trying(
            lambda: deliveries.note_repeated(attempt, outcomes, all_asked=not calls, retry_seconds=ENV.retry_seconds)
        )


def _without_room(dispatch: Dispatch, transport: str, chunk: list[Delivery]) -> dict[int, float]:
    """Those of `chunk` for whom the rates leave no room now, by delivery: the seconds until there should be.

    Who waits for a single message does not wait for the other readers of their domain.
    """
    if not (ENV.rate_per_second or ENV.domain_rates):
        return {}
    single = dispatch.kind == Dispatch.Kind.SINGLE
    keys = [delivery.subscriber.address_key for delivery in chunk if delivery.subscriber]
    waits = rates.waits(transport, ["" if single else key.rpartition("@")[2] for key in keys])
    return {delivery.pk: wait for delivery, wait in zip(chunk, waits, strict=True) if wait}


def _note(attempt: Attempt, outcomes: list[Outcome], begun: dict[int, int]) -> None:
    deliveries.put_back(attempt, begun=begun)
    deliveries.note(attempt, outcomes, tries=begun, retry_seconds=ENV.retry_seconds)
    if any(outcome.result == Result.UNKNOWN for outcome in outcomes):
        deliveries.repeat_later(attempt, seconds=ENV.retry_seconds)


def _messages(
    batch: Batch, attempt: Attempt, chunk: list[Delivery]
) -> list[tuple[message.Compiled, message.Sender, list[message.Reader]]]:
    """The chunk as compiled variants with their readers. Raises ValueError where the issue or its sender forbid it."""
    dispatch = Dispatch.objects.select_related("revision", "newsletter").get(pk=batch.dispatch_id)
    content = dispatch.revision.content
    sender = sender_of(dispatch, content)
    readers: dict[str, list[message.Reader]] = {}
    for delivery in chunk:
        digest = delivery.digest  # type: ignore[attr-defined]
        if delivery.profile.tier_level != delivery.tier_level:  # type: ignore[attr-defined]
            digest = variants.ensure(_profile_now(delivery), content).digest
        elif digest is None:
            digest = variants.ensure(delivery.profile, content).digest
        readers.setdefault(digest, []).append(reader_of(delivery, attempt, dispatch, content))
    return [(_compiled(dispatch, digest, sender), sender, group) for digest, group in readers.items()]


def _profile_now(delivery: Delivery) -> DispatchProfile:
    """The profile for a reader whose tier changed since the snapshot; all else stays as it was then."""
    frozen = delivery.profile
    profile, _ = DispatchProfile.objects.select_related("variant").get_or_create(
        dispatch_id=delivery.dispatch_id,
        tier_level=delivery.tier_level,  # type: ignore[attr-defined]
        muted=frozen.muted,
        text_only=frozen.text_only,
        tracking=frozen.tracking,
    )
    return profile


def sender_of(dispatch: Dispatch, content: IssueContent) -> message.Sender:
    """What is the same in the headers of every mail of a dispatch, as its frozen `content` has it."""
    return message.Sender(
        name=content.from_name,
        address=content.from_address,
        reply_to=content.reply_to,
        list_id=f"{content.newsletter_slug}.{tracking.site_host()}",
        list_name=content.newsletter_name,
        # Issue, newsletter, stream, sender: the last one stable and 5 to 15 characters (Gmail's Feedback-ID rules).
        feedback_id=f"i{dispatch.issue_id or 0}:n{dispatch.newsletter_id}:{dispatch.kind}:masthead",
        domain=tracking.site_host(),
        language=content.language,
        bulk=not content.single,
    )


def reader_of(delivery: Delivery, attempt: Attempt, dispatch: Dispatch, content: IssueContent) -> message.Reader:
    """What differs in one reader's mail. Message-ID derives from the delivery and Date from the attempt, so a replay
    of an attempt is the same bytes.

    A single message names nobody: whoever typed an address into a form may have typed anything for the name.
    """
    subscriber = delivery.subscriber
    assert subscriber is not None, "claimed leaves out deliveries without a subscriber"  # noqa: S101
    name = "" if content.single else subscriber.name
    return message.Reader(
        delivery_id=delivery.pk,
        address=subscriber.address,
        name=name,
        message_id=tracking.message_id(delivery.pk),
        date=attempt.started_at,
        values={
            "name": name,
            "first_name": name.split(" ", 1)[0],
            "delivery_token": tracking.delivery_token(delivery.pk),
            **tracking.reader_urls(
                subscriber.public_id,
                dispatch.newsletter.public_id,
                delivery.pk,
                upgrade_url=_upgrade_url(delivery, dispatch, content),
            ),
        },
    )


def _upgrade_url(delivery: Delivery, dispatch: Dispatch, content: IssueContent) -> str:
    """The link that readers pay by, counted like every other."""
    mode = delivery.profile.tracking
    if not content.upgrade_url or mode == TrackingMode.OFF or not tracking.trackable(content.upgrade_url):
        return content.upgrade_url
    url = tracking.click_url(dispatch.pk, content.upgrade_url)
    return f"{url}/{tracking.delivery_token(delivery.pk)}" if mode == TrackingMode.INDIVIDUAL else url


_local = threading.local()
# Keyed by what the bytes were made of, not by a row's id: after a restored backup an id may mean another row.
_compiled_variants: OrderedDict[tuple[int, str, message.Sender], message.Compiled] = OrderedDict()
_compiled_lock = threading.Lock()


def _compiled(dispatch: Dispatch, digest: str, sender: message.Sender) -> message.Compiled:
    key = (dispatch.pk, digest, sender)
    with _compiled_lock:
        found = _compiled_variants.pop(key, None)
        if found is None:
            variant = Variant.objects.get(dispatch=dispatch, digest=digest)
            found = message.compile(rendering.Rendered.from_json(variant.data), sender)
        _compiled_variants[key] = found
        if len(_compiled_variants) > COMPILED_KEPT:
            _compiled_variants.popitem(last=False)
    return found


def _transport() -> Transport:
    """This thread's transport, its connection kept open from chunk to chunk."""
    if not hasattr(_local, "transport"):
        _local.transport = transports.open_transport()
    transport: Transport = _local.transport
    return transport


def worker_name() -> str:
    """Which worker an attempt was made by: host, process, thread."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"


def _keep_trying(write: Callable[[], object], *, longest: float = 5.0) -> None:
    """Call `write` until the database takes it: an outcome that is known must not be lost to a restart, a full disk or
    a standby. While it waits the lease may run out; the rows are then in doubt until this write settles them."""
    wait = 0.1
    while True:
        try:
            write()
            return
        except (OperationalError, InterfaceError, InternalError) as error:
            logger.warning("The database did not take an outcome; trying again in %.1f s: %s", wait, error)
            connection.close()
            time.sleep(wait)
            wait = min(wait * 2, longest)
