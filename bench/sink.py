"""A relay for measuring: takes mail as fast as Python can, keeps none of it and says at its end what it took.

    python -m bench.sink [--delay SECONDS] [--no-chunking] [--no-pipelining]

It prints `listening on smtp://127.0.0.1:PORT`, ends with SIGTERM, and then prints one JSON object: `messages` taken,
`readers` they were to (fewer where one got two), the `seconds` from the first to the last, and the `cpu_seconds` it
took. With `--delay` every batch of replies
comes that much later, as from a relay that far away; each connection has a delay of its own, none waits for another.
One thread, one core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_ROOM = 1 << 20
_END = b"\r\n.\r\n"


class _Connection:
    """What is said on one connection: `carry` is what waits for its rest, `skip` what is left of a BDAT."""

    __slots__ = ("carry", "in_data", "reader", "skip", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.carry = b""
        self.skip = 0
        self.in_data = False
        self.reader = b""


class Sink:
    """The relay; `run` serves until `stopping` is set."""

    def __init__(self, *, delay: float, chunking: bool, pipelining: bool) -> None:
        offered = ["8BITMIME", "SIZE 52428800"] + ["PIPELINING"] * pipelining + ["CHUNKING"] * chunking
        lines = ["sink", *offered]
        self._greeting = "".join(f"250{'-' if line != lines[-1] else ' '}{line}\r\n" for line in lines).encode()
        self._delay = delay
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()
        self._room = bytearray(_ROOM)
        self._view = memoryview(self._room)
        # Of those there are only select() waits for less than a millisecond.
        self._selector = selectors.SelectSelector() if delay else selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.port = int(self._listener.getsockname()[1])
        self.messages = 0
        self.readers: set[bytes] = set()
        self.first = self.last = 0.0
        self.stopping = False

    def run(self) -> None:
        """Serve."""
        while not self.stopping:
            wait = max(self._late[0][0] - time.monotonic(), 0) if self._late else 0.2
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            while self._late and self._late[0][0] <= time.monotonic():
                _, connected, reply = self._late.popleft()
                with contextlib.suppress(OSError):
                    connected.send(reply)

    def _accept(self) -> None:
        connected, _ = self._listener.accept()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connected, selectors.EVENT_READ, _Connection(connected))
        self._say(connected, b"220 sink\r\n")

    def _say(self, connected: socket.socket, reply: bytes) -> None:
        if self._delay:
            self._late.append((time.monotonic() + self._delay, connected, reply))
        else:
            with contextlib.suppress(OSError):  # it may be gone
                connected.send(reply)

    def _read(self, connection: _Connection) -> None:
        kept = len(connection.carry)
        self._room[:kept] = connection.carry
        try:
            end = kept + connection.socket.recv_into(self._view[kept:])
        except OSError:
            end = kept
        if end == kept:
            self._selector.unregister(connection.socket)
            connection.socket.close()
            return
        before = self.messages
        replies = self._replies(connection, end)
        if self.messages > before:
            self.last = time.monotonic()
            self.first = self.first or self.last
        if replies:
            self._say(connection.socket, b"".join(replies))

    def _replies(self, connection: _Connection, end: int) -> list[bytes]:
        """The answers to the first `end` octets of the room."""
        room, at, replies = self._room, 0, []
        while at < end:
            if connection.skip:
                taken = min(connection.skip, end - at)
                connection.skip -= taken
                at += taken
                if not connection.skip:
                    replies.append(self._take(connection))
            elif connection.in_data:
                # A sender that waits for 354 has its next commands at most behind the end: look there first.
                found = room.rfind(_END, max(at, end - 400), end)
                if found < 0:
                    found = room.find(_END, at, end)
                if found < 0:
                    break
                connection.in_data = False
                at = found + len(_END)
                replies.append(self._take(connection))
            else:
                found = room.find(b"\r\n", at, end)
                if found < 0:
                    break
                replies.append(self._answer(connection, bytes(self._view[at:found])))
                at = found + 2
        keep = min(end - at, 4) if connection.in_data else end - at
        connection.carry = bytes(self._view[end - keep : end])
        return replies

    def _take(self, connection: _Connection) -> bytes:
        self.messages += 1
        self.readers.add(connection.reader)
        return b"250 2.0.0 taken\r\n"

    def _answer(self, connection: _Connection, line: bytes) -> bytes:
        verb = line[:4]
        if verb == b"RCPT":
            connection.reader = line
        elif verb == b"DATA":
            connection.in_data = True
            return b"354 go on\r\n"
        elif verb == b"BDAT":
            connection.skip = int(line.split()[1])
            return b""
        elif verb == b"EHLO":
            return self._greeting
        return b"250 2.0.0 fine\r\n"


@contextmanager
def relay(*options: str) -> Iterator[tuple[str, dict[str, float]]]:
    """A sink's URL, and what it said at its end."""
    program = [sys.executable, "-m", "bench.sink", *options]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout
        said: dict[str, float] = {}
        try:
            yield sink.stdout.readline().split()[-1], said
        finally:
            sink.terminate()
            said.update(json.loads(sink.stdout.readline()))


def main() -> None:
    """Run one sink until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each batch of replies takes")
    parser.add_argument("--no-chunking", action="store_true")
    parser.add_argument("--no-pipelining", action="store_true")
    chosen = parser.parse_args()
    sink = Sink(delay=chosen.delay, chunking=not chosen.no_chunking, pipelining=not chosen.no_pipelining)

    def stop(*_: object) -> None:
        sink.stopping = True

    signal.signal(signal.SIGTERM, stop)
    print(f"listening on smtp://127.0.0.1:{sink.port}", flush=True)
    sink.run()
    used = resource.getrusage(resource.RUSAGE_SELF)
    said = {
        "messages": sink.messages,
        "readers": len(sink.readers),
        "seconds": sink.last - sink.first,
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
