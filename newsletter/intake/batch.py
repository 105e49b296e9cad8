"""What the two places that keep entries, the stream and the spool, hand to whoever writes them down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Channel(StrEnum):
    """Which kind of entries: hits (pixel and link), or notices (what a provider or a mail server says)."""

    HIT = "hit"
    NOTICE = "notice"


@dataclass(frozen=True)
class Batch:
    """Lines that are one taker's until it says `done`, or dies and somebody else takes them.

    `set_aside` keeps some lines, each with the reason, where `again` finds them, once however often it is told; it does
    not end the batch. `leave` gives back what is not done.
    """

    lines: Sequence[bytes]
    done: Callable[[], None]
    leave: Callable[[], None]
    set_aside: Callable[[Sequence[tuple[bytes, str]]], None]


@dataclass(frozen=True)
class Backlog:
    """What waits in one place: how many entries (of files: bytes), seconds since the oldest came, how many were set
    aside."""

    channel: Channel
    place: str
    waiting: int
    oldest: float
    aside: int
