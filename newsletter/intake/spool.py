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
OPEN, PUT_AWAY, ASIDE, NEW = ".open", ".full", "aside", "aside.new"
# A hit that a power cut takes costs a count. A bounce or a complaint would cost somebody a mail: it is on the disk
# before the answer.
SYNCED = {Channel.NOTICE}

_writing = threading.Lock()


def put(channel: Channel, lines: Sequence[bytes]) -> None:
    """Append `lines`, all or none of them. Raises OSError where the disk does not take them."""
    folder = _folder(channel)
    own = f"{socket.gethostname()}-{os.getpid()}"
    path, data = folder / f"{own}{OPEN}", b"".join(line + b"\n" for line in lines)
    with _writing:
        while True:
            try:
                return _put(channel, path, data)
            except BlockingIOError:
                # Who took it since we opened it holds it until the database has it: an answer waits for neither.
                path = folder / f"{own}-{secrets.token_hex(4)}{OPEN}"


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
        lines = [line for _, line in _read_aside(file)]
        _write(_put_away(folder), b"".join(line + b"\n" for line in lines))
        path.unlink()
    return len(lines)


def forget(channel: Channel, before: float) -> int:
    """Delete what was set aside before that time (seconds since 1970); how many."""
    path = _folder(channel) / ASIDE
    if not path.exists():
        return 0
    with _locked(path) as file:
        lines = list(_read_aside(file))
        young = [(at, line) for at, line in lines if at >= before]
        if len(young) < len(lines):
            _write(path, b"".join(_aside(at, line) for at, line in young))
    return len(lines) - len(young)


def _write(path: Path, data: bytes) -> None:
    """Make `path` a file of `data`, whole or not at all, for a caller who holds what was set aside."""
    new = path.parent / NEW
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _aside(at: float, line: bytes) -> bytes:
    """A line of what was set aside, with the time when it was."""
    return b"%d %b\n" % (at, line)


def _read_aside(file: int) -> Iterator[tuple[float, bytes]]:
    for written in _read(file):
        at, _, line = written.partition(b" ")
        yield float(at), line


def _put(channel: Channel, path: Path, data: bytes) -> None:
    """Raises BlockingIOError where somebody holds the file."""
    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as file:
        size = _append(file, data)
        if channel in SYNCED:
            _sync(file, path, is_new=size == len(data))
        if size >= FULL:
            path.rename(_put_away(path.parent))


def _sync(file: int, path: Path, *, is_new: bool) -> None:
    """Have on the disk what was written to `file`, and the name of a file that is new."""
    os.fdatasync(file)
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _folder(channel: Channel) -> Path:
    folder = Path(settings.INTAKE_DIR) / channel
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for above in (folder.parent, folder.parent.parent):
            _sync_folder(above)
    return folder


def _put_away(folder: Path) -> Path:
    """A new name, later in the alphabet than those before."""
    return folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{PUT_AWAY}"


def _files(folder: Path, suffix: str) -> list[Path]:
    return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(suffix)]


@contextmanager
def _locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[int]:
    """The file at `path`, made where it is not there, open for appending and ours alone."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, how)
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
        now = time.time()
        with _locked(path.parent / ASIDE) as aside:
            there = {line for _, line in _read_aside(aside)}
            data = b"".join(_aside(now, line) for line, _ in refused if line not in there)
            size = _append(aside, data)
            _sync(aside, path.parent / ASIDE, is_new=size == len(data))

    return Batch(lines, done, lambda: os.close(file), set_aside)


def _read(file: int) -> Iterator[bytes]:
    size = os.fstat(file).st_size
    yield from filter(None, os.pread(file, _complete(file, size), 0).split(b"\n"))
