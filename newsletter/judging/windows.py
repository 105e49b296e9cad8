"""What lies close together in time, found in one pass however many there are."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Hashable, Sequence


def crowded(
    times: Sequence[dt.datetime], keys: Sequence[Hashable], seconds: float, enough: Callable[[int, int], bool]
) -> list[int]:
    """The places of all that lie in any span of `seconds` in which `enough(different keys, place of the last)` holds.
    `times` are in order, each with its key."""
    found: list[int] = []
    inside: Counter[Hashable] = Counter()
    start = taken = 0
    for end, key in enumerate(keys):
        inside[key] += 1
        while (times[end] - times[start]).total_seconds() > seconds:
            inside[keys[start]] -= 1
            if not inside[keys[start]]:
                del inside[keys[start]]
            start += 1
        if enough(len(inside), end):
            found.extend(range(max(start, taken), end + 1))
            taken = end + 1
    return found
