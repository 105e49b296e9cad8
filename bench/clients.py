"""A load generator that leaves the machine to what is measured: one thread, kept connections, no HTTP library.

Each connection has one request under way. An answer is taken for whole when it ends as all answers of a bench end.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answers:
    """What came of it: seconds each answer took, in their order, and how long all of it took."""

    seconds: Sequence[float]
    took: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.took

    def percentile(self, share: float) -> float:
        """The seconds within which this share of the answers came."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def ask(
    port: int,
    requests: Iterator[bytes],
    *,
    begins: bytes,
    ends: bytes,
    connections: int,
    seconds: float,
    per_second: float = 0,
) -> Answers:
    """Send `requests` for so many `seconds`, `per_second` of them or as many as are answered, over so many connections.

    With a pace a request counts from when it was due, be a connection free for it or not. Raises RuntimeError where an
    answer does not begin with `begins`, or a connection is closed.
    """
    selector = selectors.DefaultSelector()
    free: deque[socket.socket] = deque()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        free.append(connection)
    since: dict[socket.socket, float] = {}
    received: dict[socket.socket, bytes] = dict.fromkeys(free, b"")
    took: list[float] = []
    start = time.perf_counter()
    sent, last = 0, start + seconds
    try:
        while True:
            now = time.perf_counter()
            while free and now < last and (not per_second or start + sent / per_second <= now):
                connection = free.popleft()
                since[connection] = start + sent / per_second if per_second else now
                connection.send(next(requests))
                sent += 1
            if now >= last and not since:
                return Answers(took, now - start)
            wait = max(0.0, start + sent / per_second - now) if per_second and free and now < last else 0.5
            for key, _ in selector.select(wait):
                connection = key.fileobj  # type: ignore[assignment]
                data = connection.recv(65536)
                answer = received[connection] + data
                if not data or not answer.startswith(begins):
                    raise RuntimeError(f"The server answered {answer[:200]!r}.")
                if answer.endswith(ends):
                    took.append(time.perf_counter() - since.pop(connection))
                    received[connection] = b""
                    free.append(connection)
                else:
                    received[connection] = answer
    finally:
        for connection in received:
            connection.close()
        selector.close()
