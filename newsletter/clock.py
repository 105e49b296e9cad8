"""The clock that whatever is held against a lease is measured on.

A lease ends by the database's clock, which goes on while a worker's machine sleeps. CLOCK_MONOTONIC stands still
meanwhile on Linux, so a worker woken after its lease would take itself for its owner. Elsewhere CLOCK_MONOTONIC is the
best there is; on macOS it goes on. A virtual machine that is paused without being told may see no time go by on any
clock: it sends what it had claimed, which is in doubt by then and which nobody else sends unasked.
"""

from __future__ import annotations

import time

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since some moment of the past, those in which the machine slept among them."""
    return time.clock_gettime(_CLOCK)
