"""Between an answer and the database: what comes back is kept at once, and written down in bulk.

    intake.put(Channel.HIT, entries)      in the request: returns once they are kept; asks no database
    intake.drain(Channel.HIT, write)      in a worker: takes them, has them written, then forgets them

Entries are dicts that JSON can hold. Each has a `key` (a UUID as text; made here where there is none), and whatever is
taken may be taken again, after a crash or a lost answer: `write` has to make two of one key one.

They are kept in a Redis stream, else in files of DATA_DIR (the spool). Nothing is dropped: what cannot be written even
alone is set aside, where `look` counts it, `again` brings it back and `forget` deletes it by age.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from django.db import InterfaceError, InternalError, NotSupportedError, OperationalError, ProgrammingError
from redis import RedisError

from newsletter.intake import spool, stream
from newsletter.intake.batch import Backlog, Batch, Channel
from newsletter.intake.stream import Away

__all__ = [
    "Away",
    "Backlog",
    "Channel",
    "NotKept",
    "again",
    "complaints",
    "drain",
    "forget",
    "forward",
    "look",
    "new_key",
    "put",
    "silent",
    "waiting",
]

logger = logging.getLogger(__name__)

Entry = dict[str, Any]

LIMIT = 1000  # entries that are taken and written at once
TRIES, TRY_AGAIN = 3, 0.1  # of one entry alone, and seconds between them
# The database, or our own schema, is not as it should be: that is no entry's fault, and all of them wait.
NOT_THE_ENTRY = (InterfaceError, OperationalError, ProgrammingError, InternalError, NotSupportedError)

OLD = 300.0  # seconds after which what waits is worth a word: a worker writes it down within seconds

_as_json = json.JSONEncoder(separators=(",", ":")).encode
# Whether files may wait that Redis can have now; so it is at first, after a restart.
_spooled = threading.Event()
_spooled.set()


class NotKept(Exception):
    """Neither Redis nor the disk took it."""


def new_key() -> str:
    """A new UUID of version 7 (RFC 9562): those of one time stand together in the index that keeps them unique."""
    random = int.from_bytes(os.urandom(10), "big")
    number = time.time_ns() // 1_000_000 << 80 | random & ~(0xF << 76 | 0x3 << 62)
    return str(uuid.UUID(int=number | 0x7 << 76 | 0x2 << 62))


def put(channel: Channel, entries: Sequence[Entry]) -> None:
    """Keep `entries` until they are written down. Raises NotKept where that cannot be promised, and TypeError where
    JSON cannot hold them."""
    lines = [_line(entry) for entry in entries]
    if not lines:
        return
    if stream.named():
        try:
            stream.put(channel, lines)
        except Away as error:
            if not _spooled.is_set():
                logger.warning("Redis does not take what comes back, so it goes to files: %s", error)
            _spooled.set()
        else:
            if _spooled.is_set():
                _spooled.clear()
                threading.Thread(target=_forward_once, name="forward", daemon=True).start()
            return
    try:
        spool.put(channel, lines)
    except OSError as error:
        raise NotKept(f"What came back could not be kept: {error}") from error


def waiting() -> dict[Channel, int]:
    """The channels in which something waits that can be reached from here, and about how many entries. Cheap."""
    counts = {channel: spool.waits(channel) * LIMIT + _in_stream(channel) for channel in Channel}
    return {channel: count for channel, count in counts.items() if count}


def drain(
    channel: Channel,
    write: Callable[[list[Entry]], object],
    *,
    seconds: float = float("inf"),
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Have `write` write down what waits in `channel`, batch by batch, for about `seconds`; how many entries it wrote.

    `write` takes entries in one transaction and writes each key once. An entry that it refuses even alone is set aside.
    Raises what `write` raises where that is no entry's fault: then all of the batch waits.
    """
    until, written = time.monotonic() + seconds, 0
    while not stopping() and (batch := _take(channel)):
        try:
            entries, refused = _read(batch)
            for start in range(0, len(entries), LIMIT):
                refused += _write(write, entries[start : start + LIMIT])
            if refused:
                batch.set_aside(refused)
        except BaseException:
            batch.leave()
            raise
        try:
            batch.done()
        except (RedisError, OSError) as error:
            logger.warning("What is written down could not be ticked off, so it is looked at again: %s", error)
        written += len(batch.lines) - len(refused)
        if time.monotonic() >= until:
            break
    return written


def forward(*, seconds: float = float("inf")) -> int:
    """Move what waits in files of this machine into the stream, where a worker of any machine finds it, for about
    `seconds`; how many."""
    until, moved = time.monotonic() + seconds, 0
    for channel in Channel:
        while stream.named() and time.monotonic() < until and (batch := spool.take(channel)):
            try:
                if batch.lines:
                    stream.put(channel, batch.lines, patiently=True)
            except Away:
                batch.leave()
                return moved
            batch.done()
            moved += len(batch.lines)
    return moved


def look() -> list[Backlog]:
    """What waits and what was set aside, in each place that answers."""
    found = []
    for channel in Channel:
        found.append(spool.look(channel))
        if stream.named():
            try:
                found.append(stream.look(channel))
            except Away as error:
                logger.info("Redis does not say what waits: %s", error)
    return found


def silent(found: Sequence[Backlog]) -> list[str]:
    """The places that gave `look` no answer: nobody is to take them for empty."""
    return [stream.PLACE] if stream.named() and all(one.place != stream.PLACE for one in found) else []


def complaints(found: Sequence[Backlog]) -> list[str]:
    """What is not as it should be with what `look` found, in sentences for the operator."""
    return [
        f"What came back ({one.channel}) waits for {one.oldest / 60:.0f} minutes in {one.place} to be written down:"
        " does a worker run that takes from the queue intake?"
        for one in found
        if one.oldest > OLD
    ] + [
        f"{one.aside} of what came back ({one.channel}) could not be written down; the log says why. They are kept in"
        f" {one.place}: `manage.py backlog --again` tries them once more."
        for one in found
        if one.aside
    ]


def again(channel: Channel) -> int:
    """Let what was set aside in `channel` be taken once more; how many. Raises Away where a Redis does not answer."""
    moved = spool.again(channel)
    if stream.named():
        moved += stream.again(channel)
    return moved


def forget(channel: Channel, age: dt.timedelta) -> int:
    """Delete what was set aside longer ago than `age`; how many. Where a Redis does not answer, not there."""
    before = time.time() - age.total_seconds()
    number = spool.forget(channel, before)
    if stream.named():
        try:
            number += stream.forget(channel, before)
        except Away as error:
            logger.warning("What was set aside in Redis is too old and cannot be deleted now: %s", error)
    return number


def _line(entry: Entry) -> bytes:
    if "key" not in entry:
        entry = {"key": new_key(), **entry}
    return _as_json(entry).encode("ascii")


def _in_stream(channel: Channel) -> int:
    try:
        return stream.waits(channel) if stream.named() else 0
    except Away:
        return 0


def _take(channel: Channel) -> Batch | None:
    if stream.named():
        try:
            if batch := stream.take(channel, LIMIT):
                return batch
        except Away as error:
            logger.warning("Redis does not give what waits in it: %s", error)
    return spool.take(channel)


def _read(batch: Batch) -> tuple[list[Entry], list[tuple[bytes, str]]]:
    """The entries of a batch, and the lines that are none."""
    entries, refused = [], []
    for line in batch.lines:
        try:
            entry = json.loads(line)
            uuid.UUID(entry["key"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("Set aside, for it cannot be read (%s): %.200r", error, line)
            refused.append((line, f"It cannot be read: {error}"))
        else:
            entries.append(entry)
    return entries, refused


def _write(write: Callable[[list[Entry]], object], entries: list[Entry]) -> list[tuple[bytes, str]]:
    """Write `entries`, those that are refused in halves until the one at fault stands alone; the lines that were
    refused, with the reason."""
    for left in reversed(range(TRIES if len(entries) == 1 else 1)):
        try:
            write(entries)
        except NOT_THE_ENTRY:
            raise
        except Exception as error:
            if left:
                time.sleep(TRY_AGAIN)
            elif len(entries) == 1:
                logger.exception("Set aside, for it could not be written down even alone: %s", entries[0]["key"])
                return [(_line(entries[0]), f"{type(error).__name__}: {error}"[:500])]
        else:
            return []
    middle = len(entries) // 2
    return _write(write, entries[:middle]) + _write(write, entries[middle:])


def _forward_once() -> None:
    try:
        if count := forward():
            logger.info("Moved %s entries from files into Redis.", count)
    except OSError:
        logger.exception("What waits in files could not be moved into Redis; trying again.")
        _spooled.set()
