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
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial

from django.db import InterfaceError, InternalError, OperationalError, connection, transaction
from django.db.models import Min, Q
from django.db.models.functions import Now

from newsletter import clock, deliveries, message, rates, rendering, tracking, transports, utm, variants, warming
from newsletter.content import IssueContent, TrackingMode
from newsletter.deliveries import Claimed
from newsletter.models import Attempt, Batch, Delivery, Dispatch, DispatchProfile, SendingDay, Variant
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result, Transport

logger = logging.getLogger(__name__)

TASK_SECONDS = 30.0  # then the batch is given back and rung again, so that a worker can stop between tasks
_AWAY = (OperationalError, InterfaceError, InternalError)  # of a database that may take the same again later
KEPT_FOR = 30  # a lease is renewed once this part of it is over: more often would cost each chunk of a far relay
COMPILED_KEPT = 64  # variants a worker holds compiled; keeps memory flat however many there are


@dataclass(frozen=True)
class Sent:
    """What `send_batch` did: `stop` is why nothing more of the dispatch would go, in plain words, or ""."""

    claimed: int = 0
    stop: str = ""


def send_batch(
    batch: Batch, *, stopping: Callable[[], bool] = lambda: False, between: Callable[[], object] = lambda: None
) -> Sent:
    """Send what is due of `batch`, unless another worker holds it.

    Ends when nothing is due, the dispatch is no longer SENDING, TASK_SECONDS have passed or `stopping()`; the
    chunk in hand is always finished. Where a rate leaves no room it waits, holding its lease; where the other side
    rests, or only readers of domains are left that have no room, the batch is given back until then, and nothing is
    claimed for nothing. `between` is called before each chunk:
    what cannot wait goes first. Safe to call twice, at once or later.
    """
    lease = _take_lease(batch)
    if not lease:
        return Sent()
    began = clock.now()
    sent, failed = Sent(), True
    try:
        pinned = cache(partial(_Pinned.of, batch.dispatch_id))
        for attempt in deliveries.to_repeat(batch):
            _ask_again(lease, pinned, attempt, stopping=stopping)
        while not sent.stop and clock.now() - began < TASK_SECONDS and not stopping():
            between()
            if rest := _transport().rests():
                Batch.objects.filter(pk=batch.pk).update(due_at=Now() + timedelta(seconds=rest))
                break
            room = rates.room(_transport().name, ENV.chunk_size)
            if not lease.keep():
                break
            if not room:
                time.sleep(rates.WAIT)
                continue
            chunk = _send_chunk(lease, pinned, room)
            if not chunk.claimed:
                break
            sent = Sent(sent.claimed + chunk.claimed, chunk.stop)
        failed = False
    finally:
        lease.give_back(ring_again_at_once=not failed)
    return sent


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
                mine.update(lease_token=None, leased_until=None)
                if ring_again_at_once:
                    Batch.objects.filter(pk=self.batch.pk).update(rung_at=None)


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


def _send_chunk(lease: _Lease, pinned: Callable[[], _Pinned], limit: int) -> Sent:
    """One chunk of at most `limit`. Whatever ends it early: rows not begun go back to the queue, answers that came are
    noted, and only what was in the transport's hands stays SENDING, which the end of the lease takes as a doubt."""
    batch, dispatch = lease.batch, lease.batch.dispatch
    # As much before the lease ends as one message may wait for its answers.
    deadline = lease.ends - transports.longest_wait()
    transport = _transport()
    key, day = uuid.uuid4(), None
    try:
        with transaction.atomic():
            day = warming.lock_today(dispatch) if ENV.warm_up else None
            if day:
                limit = min(limit, warming.left(day, dispatch))
            if not limit:
                Batch.objects.filter(pk=batch.pk).update(due_at=warming.look_again(batch))
                return Sent()
            attempt = deliveries.begin(batch, worker=worker_name(), transport=transport.name, key=key)
            chunk = deliveries.claim(batch, attempt=attempt, limit=limit)
            if not chunk:
                attempt.delete()
                return Sent()
            if day:
                warming.take(day, len(chunk))
    except _AWAY:
        # It may have been committed all the same, and only the answer be lost: of these rows nothing was begun.
        _keep_trying(partial(_unclaim, batch, key, day))
        raise
    outcomes: list[Outcome] = []
    tries = {row.pk: row.tries for row in chunk}
    begun: set[int] = set()
    going: list[Claimed] = []
    late: dict[int, float] = {}
    stop = ""
    try:
        late = _without_room(dispatch, transport.name, chunk)
        if late:
            deliveries.postpone(attempt, late)
        going = [row for row in chunk if row.pk not in late]
        mail, sender = _mail(pinned(), attempt, going), pinned().sender
        if mail and (keyed := transports.keyed(transport)):
            attempt.calls = [call for compiled, readers in mail for call in keyed.together(compiled, sender, readers)]
            attempt.save(update_fields=["calls"])
        begun = {row.pk for row in going}
        transport.hand_over(mail, sender, outcomes, deadline=deadline, idempotency_key=attempt.idempotency_key)
    except ValueError as error:
        if begun:
            raise
        stop = transports.one_line(f"Its mail cannot be made: {error}")
        begun = {row.pk for row in going}
        outcomes += [Outcome(pk, Result.SENDER_REFUSED, stop, tried=False) for pk in begun]
    finally:
        _keep_trying(partial(_note, attempt, day, outcomes, begun, tries))
    if len(late) == len(chunk):
        attempt.delete()
        return Sent(0 if _wait_for_room(batch, chunk) else len(chunk))
    refused = next((outcome for outcome in outcomes if outcome.result == Result.SENDER_REFUSED), None)
    if refused and not stop:
        stop = f"The mail server refuses this sender: {refused.reply}"
    return Sent(len(chunk), stop)


def _ask_again(lease: _Lease, pinned: Callable[[], _Pinned], attempt: Attempt, *, stopping: Callable[[], bool]) -> None:
    """Make the calls of `attempt` that left a doubt again, as they were: a provider that keeps their keys repeats its
    answer, and a call that never reached it is made now. Within TASK_SECONDS, and until it is stopped; the rest later.
    """
    began = clock.now()
    transport = _transport()
    keyed = transports.keyed(transport)
    if keyed is None or transport.name != attempt.transport:
        deliveries.forget_doubts(attempt)
        return
    if not (lease.keep() and deliveries.may_repeat(attempt, lease.batch)):
        return
    deadline = lease.ends - transports.longest_wait()
    calls = deliveries.calls_in_doubt(attempt)
    random.shuffle(calls)  # one that never gets an answer does not stand in front of the others for ever
    outcomes: list[Outcome] = []
    try:
        while calls and not stopping() and clock.now() - began < TASK_SECONDS and deliveries.may_go_on(lease.batch):
            mail, sender = _mail(pinned(), attempt, calls.pop()), pinned().sender
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
            lambda: deliveries.note_repeated(attempt, outcomes, all_asked=not calls, retry_seconds=ENV.retry_seconds)
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


def _note(
    attempt: Attempt, day: SendingDay | None, outcomes: list[Outcome], begun: set[int], tries: dict[int, int]
) -> None:
    """Safe to repeat, as it is where the answer to its commit was lost."""

    def before() -> None:
        if day:
            warming.hold(day)
        if len(begun) < len(tries):
            deliveries.put_back(attempt, tries.keys() - begun)

    def after(closed: bool) -> None:
        if day and closed:
            warming.note(day, outcomes, not_begun=len(tries) - len(begun))
        if doubts := [outcome for outcome in outcomes if outcome.result == Result.UNKNOWN]:
            asked = max(outcome.wait for outcome in doubts)
            deliveries.repeat_later(attempt, seconds=max(ENV.retry_seconds, asked))

    deliveries.note(attempt, outcomes, tries=tries, retry_seconds=ENV.retry_seconds, before=before, after=after)


def _mail(pinned: _Pinned, attempt: Attempt, chunk: list[Claimed]) -> message.Mail:
    """The chunk as compiled variants with their readers. Raises ValueError where the issue or its sender forbid it."""
    readers: dict[str, list[message.Reader]] = {}
    profiles = pinned.profiles(chunk)
    for row in chunk:
        profile = _profile_now(profiles[row.profile_id], row)
        digest = variants.ensure(profile, pinned.content).digest
        readers.setdefault(digest, []).append(reader_of(row, profile.tracking, attempt, pinned))
    return [(_compiled(pinned, digest), group) for digest, group in readers.items()]


def _profile_now(frozen: DispatchProfile, row: Claimed) -> DispatchProfile:
    """The profile of a reader who had `frozen` at the snapshot; where their tier changed since, with the one they hold
    now, all else as it was then."""
    if frozen.tier_level == row.tier_level:
        return frozen
    profile, _ = DispatchProfile.objects.select_related("variant").get_or_create(
        dispatch_id=frozen.dispatch_id,
        tier_level=row.tier_level,
        muted=frozen.muted,
        text_only=frozen.text_only,
        tracking=frozen.tracking,
    )
    return profile


@dataclass(frozen=True)
class _Pinned:
    """What the mails of a dispatch are made of, as it was pinned when it was scheduled."""

    dispatch: Dispatch
    content: IssueContent
    sender: message.Sender
    links: tracking.Links
    _profiles: dict[int, DispatchProfile] = field(default_factory=dict)

    @classmethod
    def of(cls, dispatch_id: int) -> _Pinned:
        dispatch = Dispatch.objects.select_related("revision", "newsletter").get(pk=dispatch_id)
        content = dispatch.revision.content
        links = tracking.Links(dispatch.newsletter.public_id, content.upgrade_url)
        return cls(dispatch, content, sender_of(dispatch, content), links)

    def profiles(self, chunk: list[Claimed]) -> dict[int, DispatchProfile]:
        """At least the profiles of `chunk`, by id. None of them changes but for its variant, so each is read once."""
        if missing := {row.profile_id for row in chunk} - self._profiles.keys():
            rows = DispatchProfile.objects.select_related("variant").defer("variant__data")
            self._profiles.update(rows.in_bulk(missing))
        return self._profiles


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


def reader_of(row: Claimed, mode: str, attempt: Attempt, pinned: _Pinned) -> message.Reader:
    """What differs in one reader's mail, whose links are tracked by `mode`. Message-ID derives from the delivery and
    Date from the attempt, so a replay of an attempt is the same bytes.

    A single message names nobody: whoever typed an address into a form may have typed anything for the name.
    """
    name = "" if pinned.content.single else row.name
    token = pinned.links.delivery_token(row.pk)
    values = pinned.links.urls(row.public_id, row.pk)
    values |= {"name": name, "first_name": name.partition(" ")[0], "delivery_token": token}
    if pinned.content.upgrade_url:
        values["upgrade_url"] = _upgrade_url(mode, token, pinned)
    return message.Reader(
        delivery_id=row.pk,
        address=row.address,
        name=name,
        message_id=pinned.links.message_id(row.pk),
        date=attempt.started_at,
        values=values,
        return_address=pinned.links.return_address(row.pk),
        unsubscribe_address="" if pinned.content.single else pinned.links.unsubscribe_address(row.public_id, row.pk),
    )


def _upgrade_url(mode: str, token: str, pinned: _Pinned) -> str:
    """The link that readers pay by, counted like every other."""
    url = utm.tagger(pinned.content)(pinned.content.upgrade_url)
    if mode == TrackingMode.OFF or not tracking.trackable(url):
        return url
    url = tracking.click_url(pinned.dispatch.pk, url)
    return f"{url}/{token}" if mode == TrackingMode.INDIVIDUAL else url


_local = threading.local()
# Keyed by what the bytes were made of, not by a row's id: after a restored backup an id may mean another row.
_compiled_variants: OrderedDict[tuple[int, str, message.Sender], message.Compiled] = OrderedDict()
_compiled_lock = threading.Lock()


def _compiled(pinned: _Pinned, digest: str) -> message.Compiled:
    key = (pinned.dispatch.pk, digest, pinned.sender)
    with _compiled_lock:
        found = _compiled_variants.pop(key, None)
        if found is None:
            variant = Variant.objects.get(dispatch=pinned.dispatch, digest=digest)
            found = message.compile(rendering.Rendered.from_json(variant.data), pinned.sender)
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
        except _AWAY as error:
            logger.warning("The database did not take an outcome; trying again in %.1f s: %s", wait, error)
            connection.close()
            time.sleep(wait)
            wait = min(wait * 2, longest)
