"""A worker on a machine that falls asleep, for tests: sends one batch as a worker does, without the loop around it.

    python tests/asleep.py BATCH FOLDER WORD

Begin it by `on_a_machine_that_may_sleep`. It writes its process id to FOLDER/pid; SIGUSR1 lets its machine sleep for
SLEPT seconds: CLOCK_BOOTTIME goes on by so many and CLOCK_MONOTONIC does not, as when a laptop's lid was shut. That is
done by Linux's time namespaces; FOLDER/slept then says that time has gone on, and the worker goes on once an answer
with WORD has come: what the relay said while the machine slept is there when it wakes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from newsletter.transports.smtp.connection import Connection

SLEPT = 86_400
# Where the machine had slept before, too, or the two clocks show nearly the same.
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--time", "--fork", "--kill-child", "--boottime")
on_a_machine_that_may_sleep = (*_NAMESPACE, str(SLEPT), sys.executable, "tests/asleep.py")
_CLONE_NEWTIME = 0x80


def can_sleep() -> bool:
    """Whether this system lets us have clocks of our own: Linux does, unless a container forbids it."""
    try:
        return subprocess.run([*_NAMESPACE, "1", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def heard(connection: Connection) -> bytes:
    """What has come on `connection` and was not read yet."""
    try:
        return connection._socket.recv(65536, socket.MSG_PEEK) if connection._socket else b""
    except BlockingIOError:
        return b""


def main() -> None:
    """Send the batch."""
    batch, folder, word = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].encode()
    namespace = ("unshare", "--time", "--fork", "--kill-child", "--boottime", str(2 * SLEPT), "cat")
    longer = subprocess.Popen(namespace, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert longer.stdin
    assert longer.stdout
    longer.stdin.write(b"there\n")
    longer.stdin.flush()
    longer.stdout.readline()  # it is in its namespace now
    later = os.open(f"/proc/{longer.pid}/ns/time_for_children", os.O_RDONLY)

    def sleep(*_: object) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(later, _CLONE_NEWTIME):
            raise OSError(ctypes.get_errno(), "setns")
        (folder / "slept").touch()
        until(
            lambda: any(word in heard(pipeline.connection) for pipeline in sending._local.transport._watched), "it came"
        )

    signal.signal(signal.SIGUSR1, sleep)
    os.environ["DJANGO_SETTINGS_MODULE"] = "newsletter.settings"
    sys.path.insert(0, os.getcwd())
    import django

    django.setup()
    from newsletter import sending
    from newsletter.models import Batch
    from tests.waiting import until

    (folder / "pid").write_text(str(os.getpid()))
    print(sending.send_batch(Batch.objects.get(pk=batch)))
    longer.communicate()


if __name__ == "__main__":
    main()
