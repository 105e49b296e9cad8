"""Where the relay's name leads: its addresses, in the order in which they are worth trying.

The resolver is asked in a thread: nothing gives a call to it an end, and a worker that waits for it would sit through
its lease.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Any

from newsletter import clock

# As `socket.getaddrinfo` gives it: family, kind, protocol, a name, and what to connect to.
Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class Lookup:
    """One question to the resolver. `found` is its answer, once `answered`; `trouble` why there is none, or ""."""

    def __init__(self, host: str, port: int) -> None:
        self.found: list[Place] = []
        self.trouble = ""
        self.answered = False
        self._here, there = socket.socketpair()
        if is_literal(host):
            self._ask(host, port, there)
        else:
            threading.Thread(target=self._ask, args=(host, port, there), daemon=True, name="lookup").start()

    def fileno(self) -> int:
        """What can be read from once there is an answer."""
        return self._here.fileno()

    def close(self) -> None:
        """Wait no longer; the thread ends with its call."""
        self._here.close()

    def _ask(self, host: str, port: int, there: socket.socket) -> None:
        with there:
            try:
                self.found = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                self.trouble = str(error)
            self.answered = True


class Places:
    """The addresses of `host`, and what became of connections to each."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._ranks: dict[Any, float] = {}  # below 0 since when it serves, above since when it does not
        self._open: list[Lookup] = []

    def ask(self) -> Lookup:
        """A question for one connection. Where an earlier one gave up waiting, its question serves this one: so a
        resolver that hangs holds no more threads than there are connections."""
        while self._open:
            lookup = self._open.pop()
            if not lookup.answered:
                return lookup
            lookup.close()
        return Lookup(self._host, self._port)

    def give_back(self, lookup: Lookup) -> None:
        """No longer waited for by the connection that asked."""
        self._open.append(lookup)

    def in_order(self, found: list[Place]) -> list[Place]:
        """`found`, first those that serve, the latest in front; last those that do not, the latest at the end."""
        self._ranks = {place[4]: self._ranks.get(place[4], 0.0) for place in found}
        return sorted(found, key=lambda place: self._ranks[place[4]])

    def note(self, place: Place, *, serves: bool) -> None:
        """Whether a connection to `place` came as far as taking mail."""
        self._ranks[place[4]] = -clock.now() if serves else clock.now()

    def close(self) -> None:
        """Let go of questions that nobody waits for."""
        while self._open:
            self._open.pop().close()


def is_literal(host: str) -> bool:
    """Whether `host` is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
