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
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial

from django.db import InterfaceError, InternalError, OperationalError, connection, transaction
from django.db.models import Min, Q
from django.db.models.functions import Now

from newsletter import clock, deliveries, rates, transports, warming
from newsletter.deliveries import Claimed
from newsletter.models import Attempt, Batch, Delivery, Dispatch, SendingDay
from newsletter.pinned import Pinned
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result, Transport

logger = logging.getLogger(__name__)

TASK_SECONDS = 30.0  # then the batch is given back and rung again, so that a worker can stop between tasks
_AWAY = (OperationalError, InterfaceError, InternalError)  # of a database that may take the same again later
KEPT_FOR = 30  # a lease is renewed once this part of it is over: more often would cost each chunk of a far relay
Between = Callable[[Callable[[], None]], object]  # see `send_batch`


@dataclass(frozen=True)
class Sent:
    """What `send_batch` did: `stop` is why nothing more of the dispatch would go, in plain words, or ""."""

    claimed: int = 0
    stop: str = ""


def send_batch(
    batch: Batch, *, stopping: Callable[[], bool] = lambda: False, between: Between = lambda _: None
) -> Sent:
    """Send what is due of `batch`, unless another worker holds it.

    Ends when nothing is due, the dispatch is no longer SENDING, TASK_SECONDS have passed or `stopping()`; the
    chunk in hand is always finished. Where a rate leaves no room it waits, holding its lease; where the other side
    rests, or only readers of domains are left that have no room, the batch is given back until then, and nothing is
    claimed for nothing. `between` is called before each chunk, for what cannot wait; before it sends it calls what it
    is given, which waits for the answers that are out. Safe to call twice, at once or later.
    """
    lease = _take_lease(batch)
    if not lease:
        return Sent()
    ended = False
    try:
        turn = _Turn(lease)
        try:
            _take_turn(turn, stopping, between)
        finally:
            turn.end()
        ended = True
    finally:
        lease.give_back(ring_again_at_once=ended)
    return Sent(turn.claimed, turn.stop)


def _take_turn(turn: _Turn, stopping: Callable[[], bool], between: Between) -> None:
    began = clock.now()
    for attempt in deliveries.to_repeat(turn.batch):
        turn.ask_again(attempt, stopping=stopping)
    while not turn.stop and clock.now() - began < TASK_SECONDS and not stopping():
        between(turn.await_answers)
        if rest := turn.transport.rests():
            Batch.objects.filter(pk=turn.batch.pk).update(due_at=Now() + timedelta(seconds=rest))
            return
        room = rates.room(turn.transport.name, turn.room())
        if not turn.lease.keep():
            return
        if not room:
            turn.await_answers()
            time.sleep(rates.WAIT)
        elif not turn.send_chunk(room):
            return


class _Lease:
    """Being the only worker of a batch until `ends`, by `clock.now`, which is earlier than by the database."""

    def __init__(self, batch: Batch, ends: float) -> None:
        self.batch = batch
        self.ends = ends

    def keep(self) -> bool:
        """Renew it where that was not done a moment ago; False once it is lost."""
        ends = _lease_ends()
        if ends - self.ends < ENV.lease_seconds / KEPT_FOR:
            return True
        mine = Batch.objects.filter(pk=self.batch.pk, lease_token=self.batch.lease_token, leased_until__gt=Now())
        if not mine.update(leased_until=_lease_end()):
            return False
        self.ends = ends
        return True

    def give_back(self, *, ring_again_at_once: bool) -> None:
        """Let others have the batch. What is due later is rung when it is due, but after a failure only a lease time
        after the last ring: the next worker would most likely fail the same way."""
        _keep_trying(partial(self._give_back, ring_again_at_once))

    def _give_back(self, ring_again_at_once: bool) -> None:
        with transaction.atomic():
            mine = Batch.objects.select_for_update().filter(pk=self.batch.pk, lease_token=self.batch.lease_token)
            if mine.exists():
                deliveries.doubt(self.batch)
                ring = {"rung_at": None} if ring_again_at_once else {}
                mine.update(lease_token=None, leased_until=None, **ring)


def _take_lease(batch: Batch) -> _Lease | None:
    """Become the only worker of `batch`. A lease that ran out is `watch`'s to clear: its rows are in doubt first."""
    ends = _lease_ends()
    batch.lease_token = uuid.uuid4()
    free = Batch.objects.filter(pk=batch.pk, lease_token=None, dispatch__status__in=deliveries.REPEATING)
    taken = free.update(lease_token=batch.lease_token, leased_until=_lease_end())
    return _Lease(batch, ends) if taken else None


def _lease_ends() -> float:
    """When a lease ends that is taken after this."""
    return clock.now() + ENV.lease_seconds


def _lease_end() -> Now:
    """The same by the database's clock."""
    return Now() + timedelta(seconds=ENV.lease_seconds)  # type: ignore[return-value]


@dataclass(eq=False)
class _Chunk:
    """What one claim took: `rows`, of which those in `begun` (ids) were given to the transport.

    What becomes of these is put into `outcomes`, and the first `noted` of them are written down. `day` is the one of a
    warm-up that they count for.
    """

    attempt: Attempt
    day: SendingDay | None
    rows: list[Claimed]
    begun: set[int] = field(default_factory=set)
    outcomes: list[Outcome] = field(default_factory=list)
    noted: int = 0

    @property
    def open(self) -> int:
        """How many are in doubt should this worker die now."""
        return len(self.begun) - self.noted

    def note(self, *, last: bool = False) -> list[Outcome]:
        """Write down what came to be known since, and return it. Closes the attempt once all is known, or where this is
        the `last` that is waited for."""
        new = self.outcomes[self.noted :]  # others may come while these are written down
        known = self.noted + len(new)
        closes = last or known == len(self.begun)
        if new or closes:
            _keep_trying(partial(self._write, new, closes=closes))
        self.noted = known
        return new

    def _write(self, new: list[Outcome], *, closes: bool) -> None:
        """Safe to repeat, as it is where the answer to its commit was lost."""
        tries = {row.pk: row.tries for row in self.rows}
        not_begun = tries.keys() - self.begun
        earlier = self.outcomes[: self.noted]

        def before() -> None:
            if self.day:
                warming.hold(self.day)
            if closes and not_begun:
                deliveries.put_back(self.attempt, not_begun)

        def after(closed: bool) -> None:
            if self.day and closed:
                warming.note(self.day, [*earlier, *new], not_begun=len(not_begun))
            if doubts := [outcome for outcome in new if outcome.result == Result.UNKNOWN]:
                asked = max(outcome.wait for outcome in doubts)
                deliveries.repeat_later(self.attempt, seconds=max(ENV.retry_seconds, asked))

        deliveries.note(
            self.attempt,
            new,
            earlier=earlier,
            last=closes,
            tries=tries,
            retry_seconds=ENV.retry_seconds,
            before=before,
            after=after,
        )


class _Turn:
    """The holder of a lease at work: chunk after chunk, each claimed while the last answers to the one before are still
    out, so that a relay far away is never without a message. Never more than ENV.chunk_size are in its hands.

    Whatever ends it early: rows not begun go back to the queue, answers that came are noted, and only what was in the
    transport's hands stays SENDING, which the end of the lease takes as a doubt. `stop` is as in Sent.
    """

    def __init__(self, lease: _Lease) -> None:
        self.lease = lease
        self.batch = lease.batch
        self.transport = _transport()
        self._open: list[_Chunk] = []
        self.claimed = 0
        self.stop = ""

    @cached_property
    def _pinned(self) -> Pinned:
        return Pinned.of(self.batch.dispatch_id)

    def room(self) -> int:
        """How many more it may have in its hands; where they are full, it waits for the answers."""
        if sum(chunk.open for chunk in self._open) >= ENV.chunk_size:
            self.await_answers()
        return ENV.chunk_size - sum(chunk.open for chunk in self._open)

    def send_chunk(self, limit: int) -> bool:
        """Claim at most `limit` and hand them over; False where there is nothing to go on with."""
        if ENV.warm_up:
            self.await_answers()  # what is not tried of these gives its places of the day back
        chunk = self._claim(limit)
        if chunk is None:
            return False
        self._open.append(chunk)
        late = self._hand_over(chunk)
        self._note_all()
        if late == len(chunk.rows):
            chunk.attempt.delete()
            self.await_answers()  # what is put off may be due before these
            if _wait_for_room(self.batch, chunk.rows):
                return False
        self.claimed += len(chunk.rows)
        return True

    def await_answers(self) -> None:
        """Wait for the answers that are out, and note them."""
        self.transport.finish()
        self._note_all()

    def end(self) -> None:
        """The same where nothing more is claimed: each is noted, whatever becomes of the others."""
        with ExitStack() as last_first:
            for chunk in self._open:
                last_first.callback(self._note, chunk, last=True)
            last_first.callback(self.transport.finish)

    def _claim(self, limit: int) -> _Chunk | None:
        batch, dispatch = self.batch, self.batch.dispatch
        key, day = uuid.uuid4(), None
        try:
            with transaction.atomic():
                day = warming.lock_today(dispatch) if ENV.warm_up else None
                if day:
                    limit = min(limit, warming.left(day, dispatch))
                if not limit:
                    Batch.objects.filter(pk=batch.pk).update(due_at=warming.look_again(batch))
                    return None
                attempt = deliveries.begin(batch, worker=worker_name(), transport=self.transport.name, key=key)
                rows = deliveries.claim(batch, attempt=attempt, limit=limit)
                if not rows:
                    attempt.delete()
                    return None
                if day:
                    warming.take(day, len(rows))
        except _AWAY:
            # It may have been committed all the same, and only the answer be lost: of these rows nothing was begun.
            _keep_trying(partial(_unclaim, batch, key, day))
            raise
        return _Chunk(attempt, day, rows)

    def _hand_over(self, chunk: _Chunk) -> int:
        """Give the transport those of `chunk` for whom there is room; the number of the others, who wait for it."""
        attempt = chunk.attempt
        late = _without_room(self.batch.dispatch, self.transport.name, chunk.rows)
        if late:
            deliveries.postpone(attempt, late)
        going = [row for row in chunk.rows if row.pk not in late]
        try:
            mail, sender = self._pinned.mail(attempt, going), self._pinned.sender
            if mail and (keyed := transports.keyed(self.transport)):
                together = [keyed.together(compiled, sender, readers) for compiled, readers in mail]
                attempt.calls = [call for calls in together for call in calls]
                attempt.save(update_fields=["calls"])
        except ValueError as error:
            self.stop = transports.one_line(f"Its mail cannot be made: {error}")
            mail = []
            chunk.outcomes += [Outcome(row.pk, Result.SENDER_REFUSED, self.stop, tried=False) for row in going]
        chunk.begun = {row.pk for row in going}
        if mail:
            self.transport.hand_over(
                mail, sender, chunk.outcomes, deadline=self._deadline(), idempotency_key=attempt.idempotency_key
            )
        return len(late)

    def _deadline(self) -> float:
        """As much before the lease ends as one message may wait for its answers."""
        return self.lease.ends - transports.longest_wait()

    def _note_all(self) -> None:
        for chunk in list(self._open):
            self._note(chunk)

    def _note(self, chunk: _Chunk, *, last: bool = False) -> None:
        for outcome in chunk.note(last=last):
            if outcome.result == Result.SENDER_REFUSED and not self.stop:
                self.stop = f"The mail server refuses this sender: {outcome.reply}"
        if last or not chunk.open:
            self._open.remove(chunk)

    def ask_again(self, attempt: Attempt, *, stopping: Callable[[], bool]) -> None:
        """Make the calls of `attempt` that left a doubt again, as they were: a provider that keeps their keys repeats
        its answer, and a call that never reached it is made now. Within TASK_SECONDS, and until it is stopped; the rest
        later."""
        began = clock.now()
        batch = self.batch
        keyed = transports.keyed(self.transport)
        if keyed is None or self.transport.name != attempt.transport:
            deliveries.forget_doubts(attempt)
            return
        if not (self.lease.keep() and deliveries.may_repeat(attempt, batch)):
            return
        deadline = self._deadline()
        calls = deliveries.calls_in_doubt(attempt)
        random.shuffle(calls)  # one that never gets an answer does not stand in front of the others for ever
        outcomes: list[Outcome] = []
        try:
            while calls and not stopping() and clock.now() - began < TASK_SECONDS and deliveries.may_go_on(batch):
                mail, sender = self._pinned.mail(attempt, calls.pop()), self._pinned.sender
                if len(mail) > 1:
                    continue  # their tiers are no longer the same, nor would the call be
                compiled, readers = mail[0]
                answers = keyed.repeat(
                    compiled, sender, readers, deadline=deadline, idempotency_key=attempt.idempotency_key
                )
                outcomes += answers
                if any(answer.result == Result.LATER for answer in answers):
                    break
        finally:
            _keep_trying(
                lambda: deliveries.note_repeated(
                    attempt, outcomes, all_asked=not calls, retry_seconds=ENV.retry_seconds
                )
            )


def _without_room(dispatch: Dispatch, transport: str, chunk: list[Claimed]) -> dict[int, float]:
    """Those of `chunk` for whom the rates leave no room now, by delivery: the seconds until there should be.

    Who waits for a single message does not wait for the other readers of their domain.
    """
    if not (ENV.rate_per_second or ENV.domain_rates):
        return {}
    single = dispatch.kind == Dispatch.Kind.SINGLE
    domains = ["" if single else row.address_key.rpartition("@")[2] for row in chunk]
    waits = rates.waits(transport, domains)
    return {row.pk: wait for row, wait in zip(chunk, waits, strict=True) if wait}


def _wait_for_room(batch: Batch, late: list[Claimed]) -> bool:
    """Give `batch` back until the first of it has room again, where all that is due goes to the domains of those who
    were `late`: claiming it would be work for nothing. False where others would wait with them."""
    rows = Delivery.objects.filter(batch=batch)
    same = Q()
    for domain in {row.address_key.rpartition("@")[2] for row in late}:
        same |= Q(subscriber__address_key__endswith=f"@{domain}")
    if rows.due().exclude(same).exists():
        return False
    waiting = rows.filter(status=Delivery.Status.QUEUED, due_at__gt=Now()).aggregate(first=Min("due_at"))
    Batch.objects.filter(pk=batch.pk).update(due_at=waiting["first"])
    return True


def _unclaim(batch: Batch, key: uuid.UUID, day: SendingDay | None) -> None:
    with transaction.atomic():
        if day:
            warming.hold(day)
        returned = deliveries.unclaim(batch, key)
        if day and returned:
            warming.note(day, [], not_begun=returned)


_local = threading.local()


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
        except _AWAY as error:
            logger.warning("The database did not take an outcome; trying again in %.1f s: %s", wait, error)
            connection.close()
            time.sleep(wait)
            wait = min(wait * 2, longest)
