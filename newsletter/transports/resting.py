"""When the other side is left in peace: the rule of both transports."""

from __future__ import annotations

import random

from newsletter import clock

FIRST, LONGEST = 1.0, 300.0  # seconds


class Rest:
    """As long as the other side asks, else FIRST, and twice as long each time until it serves again, at most LONGEST.

    `reason` is what the last one began with.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._until = 0.0
        self._in_a_row = 0

    @property
    def left(self) -> float:
        """Seconds until it is over; 0 where there is none."""
        return max(0.0, self._until - clock.now())

    def begin(self, reason: str, asked: float | None = None) -> None:
        """Begin one now; `asked` is what the other side asks for, in seconds."""
        seconds = asked
        if not seconds:
            self._in_a_row += 1
            doubled = min(FIRST * 2.0 ** min(self._in_a_row - 1, 20), LONGEST)
            seconds = doubled * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load
        self._until = clock.now() + seconds
        self.reason = reason

    def served(self) -> None:
        """The other side does what it should: the next rest is a short one again."""
        self._in_a_row = 0
