"""A relay for measuring: takes mail as fast as Python can and says at its end what it took.

With `--checking` it does what a relay has to before it may say 250: looks whether the message is whole (RFC 5321: no
bare CR or LF, section 2.3.8, no line of over 998 octets, section 4.5.3.1.6; RFC 5322 section 3.6 and RFC 8058: its
headers), refuses one that is not, and writes it to a file. Without, it only counts.

    python -m bench.sink [--checking] [--delay SECONDS] [--no-chunking] [--no-pipelining]

It prints `listening on smtp://127.0.0.1:PORT`, ends with SIGTERM, and then prints one JSON object: `messages` taken,
`readers` they were to (fewer where one got two), the `seconds` from the first to the last, and the `cpu_seconds` it
took. With `--delay` every batch of replies comes that much later, as from a relay that far away; each connection has a
delay of its own, none waits for another. One thread, one core.
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
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_ROOM = 1 << 20
_END = b"\r\n.\r\n"
_LONGEST_LINE = 998
_KEPT = 256 << 20  # octets of the file, before it is written over from its beginning
_HEADERS = frozenset(
    b"from to date message-id subject mime-version list-id list-unsubscribe list-unsubscribe-post".split()
)


class _Connection:
    """What is said on one connection: `carry` is what waits for its rest, `skip` what is left of a BDAT, `pieces` what
    has come of the message."""

    __slots__ = ("carry", "in_data", "pieces", "reader", "skip", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.carry = b""
        self.skip = 0
        self.in_data = False
        self.pieces: list[bytes] = []
        self.reader = b""


class Sink:
    """The relay; `run` serves until `stopping` is set."""

    def __init__(self, *, checking: bool, delay: float, chunking: bool, pipelining: bool) -> None:
        offered = ["8BITMIME", "SIZE 52428800"] + ["PIPELINING"] * pipelining + ["CHUNKING"] * chunking
        lines = ["sink", *offered]
        self._greeting = "".join(f"250{'-' if line != lines[-1] else ' '}{line}\r\n" for line in lines).encode()
        self._checking = checking
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
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process
        self.messages = 0
        self.readers: set[bytes] = set()
        self.first = self.last = self._now = 0.0
        self.stopping = False

    def run(self) -> None:
        """Serve."""
        while not self.stopping:
            wait = max(self._late[0][0] - time.monotonic(), 0) if self._late else 0.2
            events = self._selector.select(wait)
            self._now = time.monotonic()
            for key, _ in events:
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
            self._late.append((self._now + self._delay, connected, reply))
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
                if self._checking:
                    connection.pieces.append(bytes(self._view[at : at + taken]))
                connection.skip -= taken
                at += taken
                if not connection.skip:
                    replies.append(self._take(connection))
            elif connection.in_data:
                found = room.find(_END, at, end)
                if found < 0:
                    # The last octets may be the beginning of the end.
                    whole = max(at, end - len(_END) + 1)
                    if self._checking:
                        connection.pieces.append(bytes(self._view[at:whole]))
                    at = whole
                    break
                if self._checking:
                    connection.pieces.append(bytes(self._view[at : found + 2]))
                connection.in_data = False
                at = found + len(_END)
                replies.append(self._take(connection, stuffed=True))
            else:
                found = room.find(b"\r\n", at, end)
                if found < 0:
                    break
                replies.append(self._answer(connection, bytes(self._view[at:found])))
                at = found + 2
        connection.carry = bytes(self._view[at:end])
        return replies

    def _take(self, connection: _Connection, *, stuffed: bool = False) -> bytes:
        if self._checking:
            octets = b"".join(connection.pieces)
            connection.pieces.clear()
            if stuffed:
                octets = octets.replace(b"\r\n..", b"\r\n.")
            if fault := _fault(octets):
                return b"554 5.6.0 %b\r\n" % fault
            if self._file.tell() > _KEPT:
                self._file.seek(0)
            self._file.write(octets)
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


def _fault(octets: bytes) -> bytes:
    """What is wrong with a message, or nothing."""
    lines = octets.split(b"\r\n")
    if not len(lines) - 1 == octets.count(b"\n") == octets.count(b"\r"):
        return b"a bare CR or LF"
    if lines[-1] or max(map(len, lines)) > _LONGEST_LINE:
        return b"a line is too long or has no end"
    names = {line.partition(b":")[0].lower() for line in lines[: lines.index(b"")] if line[:1] not in b" \t"}
    if missing := _HEADERS - names:
        return b"without " + b", ".join(sorted(missing))
    return b""


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
    parser.add_argument("--checking", action="store_true", help="look at each message, and keep it in a file")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each batch of replies takes")
    parser.add_argument("--no-chunking", action="store_true")
    parser.add_argument("--no-pipelining", action="store_true")
    chosen = parser.parse_args()
    sink = Sink(
        checking=chosen.checking,
        delay=chosen.delay,
        chunking=not chosen.no_chunking,
        pipelining=not chosen.no_pipelining,
    )

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
