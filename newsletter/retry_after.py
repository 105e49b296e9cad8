"""How long the other side of an HTTP call asks to wait."""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime

LONGEST = 86_400.0  # seconds; who asks for more than a day counts in another unit, or from another year


def seconds(header: str) -> float | None:
    """Seconds from a Retry-After header (RFC 9110 section 10.2.3), a number or a date: at most LONGEST. None where it
    is neither."""
    written = header.strip()
    if written.isascii() and written.isdigit():
        return within_reason(float(written))
    try:
        asked = parsedate_to_datetime(written)
        return within_reason((asked.replace(tzinfo=asked.tzinfo or dt.UTC) - dt.datetime.now(dt.UTC)).total_seconds())
    except (ValueError, OverflowError):  # the latter from a number that no date holds
        return None


def within_reason(asked: float) -> float:
    """`asked` seconds, whatever number that is, as a wait from 0 to LONGEST."""
    return min(max(0.0, asked), LONGEST)
