"""A worker on a machine that falls asleep, for tests: sends one batch as a worker does, without the loop around it.

    python tests/asleep.py BATCH FOLDER WORD

It writes its process id to FOLDER/pid; SIGUSR1 lets its machine sleep for SLEPT seconds, as when a laptop's lid was
shut: the clock that counts such a sleep has gone on by so many when it is next read. FOLDER/slept then says that it
sleeps, and it wakes once an answer with WORD has come: what the relay said meanwhile is there when time goes on.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from newsletter.transports.smtp.connection import Connection

SLEPT = 86_400


def heard(connection: Connection) -> bytes:
    """What has come on `connection` and was not read yet."""
    try:
        return connection._socket.recv(65536, socket.MSG_PEEK) if connection._socket else b""
    except BlockingIOError:
        return b""


def main() -> None:
    """Send the batch."""
    batch, folder, word = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].encode()
    os.environ["DJANGO_SETTINGS_MODULE"] = "newsletter.settings"
    sys.path.insert(0, os.getcwd())
    import django

    django.setup()
    from newsletter import sending
    from newsletter.models import Batch
    from tests.waiting import until

    asleep, woken = threading.Event(), threading.Event()
    connections: list[Connection] = []
    counts_sleep = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    real = time.clock_gettime

    def read_clock(which: int) -> float:
        if asleep.is_set() and which == counts_sleep:
            if not woken.is_set():
                until(lambda: any(word in heard(each) for each in connections), "it came")
                woken.set()
            return real(which) + SLEPT
        return real(which)

    def sleep(*_: object) -> None:
        connections.extend(each.connection for each in list(sending._local.transport._driver._connections._watched))
        asleep.set()
        (folder / "slept").touch()

    time.clock_gettime = read_clock
    signal.signal(signal.SIGUSR1, sleep)
    (folder / "pid").write_text(str(os.getpid()))
    print(sending.send_batch(Batch.objects.get(pk=batch)))


if __name__ == "__main__":
    main()
