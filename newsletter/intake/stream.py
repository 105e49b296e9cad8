"""Entries in Redis: a stream for each channel, read by one group of consumers.

What a consumer was given stays pending until it is acknowledged, which is after the database has it; what nobody
acknowledged for IDLE_MS is given to the next who asks. Nothing is trimmed: an entry leaves when it is written down.
What was set aside is a hash from each line to when and why, so that one that is refused again is not there twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any, cast

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from newsletter.intake.batch import Backlog, Batch, Channel
from newsletter.intake.together import Together, Unsaid

PREFIX = "masthead-intake"
# One name for all who take: what matters is how long an entry has been in somebody's hands, not whose they are.
GROUP, CONSUMER = "writers", "writer"
ENTRY = b"entry"
# Longer than a batch takes to be written. One that takes longer is written twice, which its keys make harmless.
IDLE_MS = 10_000
# An answer waits so long for Redis, and after a failure nobody asks again for REST seconds.
CONNECT_SECONDS, ANSWER_SECONDS, REST = 0.25, 0.5, 1.0
# Whoever drains has more patience: a thousand entries are some hundred kB.
DRAIN_SECONDS = 10.0
PLACE = "Redis"  # as the operator calls it

Given = tuple[bytes, dict[bytes, bytes]]  # an entry as Redis gives it: its number, and its fields

_lock = threading.Lock()
_rests_until = 0.0


class Away(Exception):
    """There is no Redis, or it does not answer, or it is left in peace since it did not a moment ago."""


def named() -> bool:
    """Whether there is a Redis at all."""
    return bool(settings.REDIS_URL)


def put(channel: Channel, lines: Sequence[bytes], *, patiently: bool = False) -> None:
    """Append `lines` in one round trip; `patiently` where nobody waits. Raises Away where it is not known that they are
    all kept."""
    if patiently:
        _append(_patient_client(), channel, lines)
        return
    _refuse_while_it_rests()
    try:
        _appending(channel)(lines)
    except Unsaid as error:
        raise Away(str(error)) from error


def take(channel: Channel, limit: int) -> Batch | None:
    """At most `limit` entries: first what somebody died with, else new ones. Raises Away."""
    client = _patient_client()
    try:
        _make_group(client, channel)
        entries = _left_behind(client, channel, limit) or _new(client, channel, limit)
    except (redis.RedisError, OSError) as error:
        raise Away(str(error)) from error
    return _batch(client, channel, entries) if entries else None


def waits(channel: Channel) -> int:
    """How many entries are not yet written down, those in somebody's hands included. Raises Away."""
    try:
        return int(_patient_client().xlen(_key(channel)))
    except (redis.RedisError, OSError) as error:
        raise Away(str(error)) from error


def look(channel: Channel) -> Backlog:
    """What waits. Raises Away."""
    client, key = _quick_client(), _key(channel)
    with _resting_on_failure(client), client.pipeline(transaction=False) as pipeline:
        pipeline.xlen(key)
        pipeline.xrange(key, count=1)
        pipeline.hlen(_aside(channel))
        waiting, first, aside = pipeline.execute()
    oldest = time.time() - int(first[0][0].partition(b"-")[0]) / 1000 if first else 0.0
    return Backlog(channel, PLACE, int(waiting), max(0.0, oldest), int(aside))


def again(channel: Channel, limit: int = 1000) -> int:
    """Let what was set aside be taken once more; how many. Raises Away."""
    client, moved = _patient_client(), 0
    try:
        while lines := _some_aside(client, channel, limit):
            with client.pipeline(transaction=True) as pipeline:
                for line in lines:
                    pipeline.xadd(_key(channel), {ENTRY: line})
                pipeline.hdel(_aside(channel), *lines)
                pipeline.execute()
            moved += len(lines)
    except (redis.RedisError, OSError) as error:
        raise Away(str(error)) from error
    return moved


def forget(channel: Channel, before: float) -> int:
    """Delete what was set aside before that time (seconds since 1970); how many. Raises Away."""
    client = _patient_client()
    try:
        found = client.hscan_iter(_aside(channel), count=1000)
        old = [line for line, said in found if float(said.partition(b" ")[0]) < before]
        return int(client.hdel(_aside(channel), *old)) if old else 0
    except (redis.RedisError, OSError) as error:
        raise Away(str(error)) from error


def _append(client: redis.Redis, channel: Channel, lines: Sequence[bytes]) -> None:
    with _resting_on_failure(client), client.pipeline(transaction=False) as pipeline:
        for line in lines:
            pipeline.xadd(_key(channel), {ENTRY: line})
        pipeline.execute()


@cache
def _appending(channel: Channel) -> Together:
    """Answers that are due at the same time share a round trip."""
    return Together(lambda lines: _append(_quick_client(), channel, lines))


def _key(channel: Channel) -> str:
    return f"{PREFIX}:{channel}"


def _aside(channel: Channel) -> str:
    return f"{PREFIX}:{channel}:aside"


def _quick_client() -> redis.Redis:
    """For those who are waited for: one of them asks a Redis that failed, the others go on without it."""
    global _rests_until
    if not named():
        raise Away("REDIS_URL names none.")
    with _lock:
        _refuse_while_it_rests()
        if _rests_until:
            _rests_until = time.monotonic() + REST
    return _client(settings.REDIS_URL, CONNECT_SECONDS, ANSWER_SECONDS)


def _refuse_while_it_rests() -> None:
    """Raises Away while Redis is left in peace, or somebody asks whether it answers again: nobody waits for that one,
    not even to share a round trip."""
    if time.monotonic() < _rests_until:
        raise Away("Redis did not answer a moment ago.")


def _patient_client() -> redis.Redis:
    if not named():
        raise Away("REDIS_URL names none.")
    return _client(settings.REDIS_URL, DRAIN_SECONDS, DRAIN_SECONDS)


@contextmanager
def _resting_on_failure(client: redis.Redis) -> Iterator[None]:
    """Leave a Redis that fails in peace for a moment, and one that answers no longer. Raises Away."""
    global _rests_until
    try:
        yield
    except (redis.RedisError, OSError) as error:
        with _lock:
            _rests_until = time.monotonic() + REST
        # After a restart every kept connection is dead. Those in other threads' hands fail by themselves.
        client.connection_pool.disconnect(inuse_connections=False)
        raise Away(str(error)) from error
    if _rests_until:
        with _lock:
            _rests_until = 0.0


@lru_cache(maxsize=8)
def _client(url: str, connect_seconds: float, answer_seconds: float) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=connect_seconds,
        socket_timeout=answer_seconds,
        # Trying again is for the caller: a request has the spool.
        retry=Retry(NoBackoff(), 0),
    )


def _make_group(client: redis.Redis, channel: Channel) -> None:
    try:
        client.xgroup_create(_key(channel), GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


def _some_aside(client: redis.Redis, channel: Channel, limit: int) -> list[bytes]:
    """About `limit` lines of those set aside; none only where there are none."""
    cursor: Any = 0
    while True:
        cursor, found = cast("tuple[int, dict[bytes, bytes]]", client.hscan(_aside(channel), cursor, count=limit))
        if found or not cursor:
            return list(found)


def _left_behind(client: redis.Redis, channel: Channel, limit: int) -> list[Given]:
    answer: Any = client.xautoclaim(_key(channel), GROUP, CONSUMER, IDLE_MS, count=limit)
    # Before Redis 7 an entry that was deleted is given without its number and fields.
    return [(number, fields) for number, fields in answer[1] if fields is not None]


def _new(client: redis.Redis, channel: Channel, limit: int) -> list[Given]:
    answer: Any = client.xreadgroup(GROUP, CONSUMER, {_key(channel): ">"}, count=limit)
    return list(answer[0][1]) if answer else []


def _batch(client: redis.Redis, channel: Channel, entries: list[Given]) -> Batch:
    numbers = [number for number, _ in entries]

    def done() -> None:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.xack(_key(channel), GROUP, *numbers)
            pipeline.xdel(_key(channel), *numbers)
            pipeline.execute()

    def set_aside(refused: Sequence[tuple[bytes, str]]) -> None:
        now = int(time.time())
        client.hset(_aside(channel), mapping={line: f"{now} {why}" for line, why in refused})

    # What is left is pending, and given to the next who asks once it is old enough.
    return Batch([fields[ENTRY] for _, fields in entries], done, lambda: None, set_aside)
