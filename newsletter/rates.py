"""How fast mail may go: over the transport, and to the readers of one domain; the same for all workers.

The limits are counted in Redis where REDIS_URL is set, else in this process: fixed windows of a second (longer for
rates that are no whole number), so that no window lets more through than its rate. While Redis is away nothing goes.
Where no rate is set nothing is asked and nothing costs.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from newsletter.settings import ENV

logger = logging.getLogger(__name__)

WAIT = 0.2  # seconds between two looks of a worker that may not send
# Farther ahead nobody is given a place: what holds the places may be paused or cancelled by then.
HORIZON = 300.0
LONGEST_WINDOW = 10  # seconds, for rates that are no whole number
AWAY = 1.0  # seconds to wait for Redis

_full_until: dict[str, int] = {}  # by domain, the first window ahead that is not known to be full
_away = False


def room(transport: str, wanted: int) -> int:
    """How many messages, at most `wanted`, may begin to go over `transport` now; takes none of them."""
    if not ENV.rate_per_second:
        return wanted
    try:
        left = _limiter().get_window_stats(_limit(ENV.rate_per_second), transport).remaining
    except StorageError as error:
        _note_away(error)
        return 0
    _note_back()
    return min(wanted, left)


def waits(transport: str, domains: Sequence[str]) -> list[float]:
    """For a message to each of `domains` (of readers, lower case): 0 where it may go over `transport` now, which takes
    its place, else the seconds after which there should be room for it."""
    found = [0.0] * len(domains)
    if not (ENV.rate_per_second or ENV.domain_rates):
        return found
    try:
        by_domain: dict[str, list[int]] = {}
        for index, domain in enumerate(domains):
            if domain in ENV.domain_rates:
                by_domain.setdefault(domain, []).append(index)
        for domain, indexes in by_domain.items():
            limit = _limit(ENV.domain_rates[domain])
            late = indexes[_taken(limit, domain, len(indexes)) :]
            for index, wait in zip(late, _places(limit, domain, len(late)), strict=True):
                found[index] = wait
        if ENV.rate_per_second:
            going = [index for index, wait in enumerate(found) if not wait]
            limit = _limit(ENV.rate_per_second)
            for index in going[_taken(limit, transport, len(going)) :]:
                found[index] = float(limit.get_expiry())
    except StorageError as error:
        _note_away(error)
        return [AWAY] * len(domains)
    _note_back()
    return found


def _taken(limit: RateLimitItemPerSecond, name: str, wanted: int) -> int:
    """Take room for `wanted` messages from the window that is open, or for as many as it has."""
    left = min(wanted, _limiter().get_window_stats(limit, name).remaining)
    # Another worker may have been quicker: then none of these goes, and no more than the rate does.
    return left if left and _limiter().hit(limit, name, cost=left) else 0


def _places(limit: RateLimitItemPerSecond, domain: str, wanted: int) -> list[float]:
    """Seconds until there should be room for `wanted` messages more: each is given a place in a window to come, so that
    those who wait come back about when they can go, and not all at once. It is no promise: they ask again then."""
    period, now = limit.get_expiry(), time.time()
    window = max(int(now // period) + 1, _full_until.get(domain, 0))
    found: list[float] = []
    while len(found) < wanted:
        wait = window * period - now
        if wait > HORIZON:
            # Together, so that they are claimed together; others ask at other times.
            found += [random.uniform(HORIZON / 2, HORIZON)] * (wanted - len(found))  # noqa: S311
            break
        asked = wanted - len(found)
        places = _storage().incr(f"{domain}/{limit.amount}/{window}", ceil(wait) + 2 * period, amount=asked)
        found += [wait] * max(0, min(asked, limit.amount - (places - asked)))
        if places >= limit.amount:
            window += 1
            _full_until[domain] = window
    return found


@lru_cache(maxsize=256)
def _limit(rate: float) -> RateLimitItemPerSecond:
    """At most `rate` messages a second, as a whole number in a window of whole seconds; never more than `rate`."""
    if rate < 1:
        return RateLimitItemPerSecond(1, ceil(1 / Fraction(str(rate))))
    exact = Fraction(str(rate))
    best = max(Fraction(floor(exact * seconds), seconds) for seconds in range(1, LONGEST_WINDOW + 1))
    return RateLimitItemPerSecond(best.numerator, best.denominator)


@lru_cache(maxsize=1)
def _storage() -> MemoryStorage | RedisStorage:
    if not ENV.redis_url:
        return MemoryStorage()
    storage = storage_from_string(
        ENV.redis_url,
        wrap_exceptions=True,
        key_prefix="masthead-rates",
        socket_timeout=5,
        socket_connect_timeout=5,
    )
    assert isinstance(storage, RedisStorage)  # noqa: S101 - by the scheme of its address
    return storage


@lru_cache(maxsize=1)
def _limiter() -> FixedWindowRateLimiter:
    return FixedWindowRateLimiter(_storage())


def _note_away(error: StorageError) -> None:
    global _away
    if not _away:
        logger.error("Redis counts the rates and cannot be reached, so nothing is sent: %s", error.storage_error)
    _away = True


def _note_back() -> None:
    global _away
    if _away:
        logger.warning("Redis counts the rates again; sending goes on.")
    _away = False
