"""Round trips shared by threads: whoever finds none under way makes one for all that wait by then.

So a server that is asked for a hundred things at once asks Redis a few times, and each has its answer as soon as Redis
has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence


class Unsaid(Exception):
    """The round trip that took this along, and that another thread made, failed."""


class _Waiting:
    """One call: its lines, and what it is woken with."""

    __slots__ = ("error", "leads", "lines", "woken")

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines
        self.error: BaseException | None = None
        self.leads = False
        self.woken = threading.Lock()
        self.woken.acquire()


class Together:
    """Gives lines to `act`, those of several threads at once, and to each thread what came of it."""

    def __init__(self, act: Callable[[list[bytes]], None]) -> None:
        self._act = act
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._under_way = False

    def __call__(self, lines: Sequence[bytes]) -> None:
        """Return once `act` took `lines`. Raises what `act` raises over them; Unsaid where another thread met that."""
        own = _Waiting(lines)
        with self._lock:
            self._waiting.append(own)
            own.leads, self._under_way = not self._under_way, True
        if not own.leads:
            own.woken.acquire()
        if own.leads:
            self._lead(own)
        elif own.error:
            raise Unsaid(str(own.error)) from own.error

    def _lead(self, own: _Waiting) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, []
        error: BaseException | None = None
        try:
            self._act([line for each in taken for line in each.lines])
        except BaseException as raised:
            error = raised
            raise
        finally:
            for each in taken:
                if each is not own:
                    each.error = error
                    each.woken.release()
            with self._lock:
                self._under_way = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].leads = True
                    self._waiting[0].woken.release()
