"""What a clock on the wall means, and how a moment is said."""

from __future__ import annotations

import datetime as dt
import zoneinfo

from newsletter.models import Dispatch


def resolve(wall_time: dt.datetime, time_zone: str) -> dt.datetime:
    """The instant that the naive `wall_time` on a clock in `time_zone` means by the rules known now, in UTC.

    A time that the clocks skip is moved on by the gap; of a time that comes twice the first is meant, or the second
    where `wall_time.fold` is 1 (PEP 495).
    """
    return wall_time.replace(tzinfo=zoneinfo.ZoneInfo(time_zone)).astimezone(dt.UTC)


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
