"""Entries in files, where there is no Redis or it is away: a folder for each channel, a line for each entry.

A process appends to a file of its own and puts it away as *full* after FULL bytes, so that one file is about one batch.
Whoever drains takes a file under a lock that the system lifts when its holder dies, and deletes it once its entries are
written down: a drain that dies leaves the whole file to the next, and an entry that comes twice has the same key.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from newsletter.intake.batch import Backlog, Batch, Channel

FULL = 256 * 1024  # bytes
OPEN, PUT_AWAY, ASIDE = ".open", ".full", "aside.jsonl"
# A hit that a power cut takes costs a count. A bounce or a complaint would cost somebody a mail: it is on the disk
# before the answer.
SYNCED = {Channel.NOTICE}

_writing = threading.Lock()


def put(channel: Channel, lines: Sequence[bytes]) -> None:
    """Append `lines`, all or none of them. Raises OSError where the disk does not take them."""
    folder = _folder(channel)
    path = folder / f"{socket.gethostname()}-{os.getpid()}{OPEN}"
    with _writing, _locked(path) as file:
        size = _append(file, b"".join(line + b"\n" for line in lines))
        if channel in SYNCED:
            os.fdatasync(file)
        if size >= FULL:
            path.rename(_put_away(folder))


def take(channel: Channel) -> Batch | None:
    """The oldest file that nobody else holds, as a batch; None where nothing waits."""
    folder = _folder(channel)
    for path in (*_files(folder, PUT_AWAY), *_files(folder, OPEN)):
        file = _claim(path)
        if file is None:
            continue
        if path.suffix == OPEN:
            # Writers see that the file they opened has gone, and open another.
            path = path.rename(_put_away(folder))
        return _batch(channel, path, file)
    return None


def waits(channel: Channel) -> int:
    """How many files wait, those in somebody's hands included."""
    return sum(name.endswith((OPEN, PUT_AWAY)) for name in os.listdir(_folder(channel)))


def look(channel: Channel) -> Backlog:
    """What waits, in bytes."""
    folder = _folder(channel)
    found = [path.stat() for path in (*_files(folder, PUT_AWAY), *_files(folder, OPEN))]
    aside = folder / ASIDE
    return Backlog(
        channel=channel,
        place=str(folder),
        waiting=sum(stat.st_size for stat in found),
        oldest=max((time.time() - stat.st_mtime for stat in found if stat.st_size), default=0.0),
        aside=aside.read_bytes().count(b"\n") if aside.exists() else 0,
    )


def again(channel: Channel) -> int:
    """Let what was set aside be taken once more; how many."""
    folder = _folder(channel)
    path = folder / ASIDE
    if not path.exists():
        return 0
    with _locked(path) as file:
        count = len(list(_read(file)))
        path.rename(_put_away(folder))
    return count


def _folder(channel: Channel) -> Path:
    folder = Path(settings.INTAKE_DIR) / channel
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _put_away(folder: Path) -> Path:
    """A new name, later in the alphabet than those before."""
    return folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{PUT_AWAY}"


def _files(folder: Path, suffix: str) -> list[Path]:
    return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(suffix)]


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file at `path`, made where it is not there, open for appending and ours alone."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _stands_at(file, path):
                yield file
                return
        finally:
            os.close(file)


def _stands_at(file: int, path: Path) -> bool:
    """Whether `file` is still what `path` names: while we waited for the lock it may have been taken."""
    try:
        return os.fstat(file).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _append(file: int, data: bytes) -> int:
    """Write all of `data` behind complete lines, or nothing; the new size."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.ftruncate(file, size := _complete(file, size))
    try:
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, "the disk took only a part")
    except OSError:
        os.ftruncate(file, size)
        raise
    return size + len(data)


def _complete(file: int, size: int) -> int:
    """How much of a file of `size` is complete lines: of a torn one the write never returned, and nobody was told."""
    return os.pread(file, size, 0).rfind(b"\n") + 1


def _claim(path: Path) -> int | None:
    """The file at `path`, ours until it is closed; None where another has it, or it has gone."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    if not _stands_at(file, path):
        os.close(file)
        return None
    return file


def _batch(channel: Channel, path: Path, file: int) -> Batch:
    lines = list(_read(file))

    def done() -> None:
        path.unlink()
        os.close(file)

    def set_aside(refused: Iterable[tuple[bytes, str]]) -> None:
        with _locked(path.parent / ASIDE) as aside:
            there = set(_read(aside))
            _append(aside, b"".join(line + b"\n" for line, _ in refused if line not in there))
            os.fdatasync(aside)

    return Batch(lines, done, lambda: os.close(file), set_aside)


def _read(file: int) -> Iterator[bytes]:
    size = os.fstat(file).st_size
    yield from filter(None, os.pread(file, _complete(file, size), 0).split(b"\n"))
