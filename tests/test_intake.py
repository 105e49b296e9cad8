"""What comes back is kept before the answer and written down once, whatever dies in between."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import time_machine
from django.conf import settings as django_settings
from django.db import OperationalError
from pytest_django import Settings

from newsletter import intake
from newsletter.demo import services
from newsletter.intake import Channel, spool, stream
from newsletter.intake.batch import Batch
from tests.conftest import ROOT
from tests.waiting import until

Entry = dict[str, object]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has just begun."""
    monkeypatch.setattr(stream, "_rests_until", 0.0)
    monkeypatch.setattr(intake, "_spooled", threading.Event())


@pytest.fixture
def with_redis(settings: Settings, redis_url: str) -> redis.Redis:
    settings.REDIS_URL = redis_url
    return redis.Redis.from_url(redis_url)


@pytest.fixture
def without_redis(settings: Settings) -> None:
    settings.REDIS_URL = ""


@pytest.fixture(params=["stream", "spool"])
def place(request: pytest.FixtureRequest) -> str:
    """Each of the places that keep entries."""
    request.getfixturevalue("with_redis" if request.param == "stream" else "without_redis")
    return str(request.param)


def away(settings: Settings) -> None:
    """From now on Redis is not there."""
    url = f"redis://127.0.0.1:{services.free_port()}/0"
    settings.REDIS_URL = url


def drained(channel: Channel = Channel.HIT, **options: float) -> list[Entry]:
    found: list[Entry] = []
    intake.drain(channel, found.extend, **options)  # type: ignore[arg-type]
    return found


def numbers(entries: list[Entry]) -> list[object]:
    return [entry["n"] for entry in entries]


def folder(channel: Channel = Channel.HIT) -> Path:
    return Path(django_settings.INTAKE_DIR) / channel


@pytest.mark.usefixtures("place")
def test_what_is_put_is_drained_once_in_order() -> None:
    intake.put(Channel.HIT, [{"n": 1}, {"n": 2}])
    intake.put(Channel.HIT, [{"n": "ü\n\u2028", "key": (own := str(uuid.uuid4()))}])
    found = drained()
    assert numbers(found) == [1, 2, "ü\n\u2028"]
    assert found[2]["key"] == own
    assert len({uuid.UUID(str(entry["key"])) for entry in found}) == 3
    assert drained() == []
    assert intake.waiting() == {}


@pytest.mark.usefixtures("place")
def test_channels_are_apart() -> None:
    intake.put(Channel.HIT, [{"n": 1}])
    intake.put(Channel.NOTICE, [{"n": 2}])
    assert sorted(intake.waiting()) == [Channel.HIT, Channel.NOTICE]
    assert numbers(drained(Channel.NOTICE)) == [2]
    assert list(intake.waiting()) == [Channel.HIT]


@pytest.mark.usefixtures("place")
def test_what_was_taken_but_not_written_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE_MS", 0)
    intake.put(Channel.HIT, [{"n": 1}, {"n": 2}])

    def database_away(entries: list[Entry]) -> None:
        raise OperationalError("the connection is closed")

    with pytest.raises(OperationalError):
        intake.drain(Channel.HIT, database_away)
    assert list(intake.waiting()) == [Channel.HIT]
    assert numbers(drained()) == [1, 2]
    assert sum(backlog.aside for backlog in intake.look()) == 0


@pytest.mark.usefixtures("with_redis")
def test_what_somebody_holds_is_not_given_to_another() -> None:
    intake.put(Channel.HIT, [{"n": 1}])
    others: list[Entry] = []
    intake.drain(Channel.HIT, lambda entries: others.extend(drained()))
    assert others == []


@pytest.mark.usefixtures("without_redis")
def test_a_file_that_somebody_holds_is_not_given_to_another() -> None:
    intake.put(Channel.HIT, [{"n": 1}])
    others: list[Entry] = []

    def look_beside(entries: list[Entry]) -> None:
        intake.put(Channel.HIT, [{"n": 2}])
        others.extend(drained())

    batch = spool.take(Channel.HIT)
    assert batch
    look_beside([])
    assert numbers(others) == [2]
    batch.leave()
    assert numbers(drained()) == [1]


@pytest.mark.usefixtures("place")
def test_an_entry_that_cannot_be_written_is_set_aside_and_the_others_are_written(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "TRY_AGAIN", 0)
    intake.put(Channel.HIT, [{"n": n} for n in range(10)])
    written: list[Entry] = []

    def write(entries: list[Entry]) -> None:
        if any(entry["n"] == 7 for entry in entries):
            raise ValueError("seven is not a number")
        written.extend(entries)

    assert intake.drain(Channel.HIT, write) == 9
    assert sorted(numbers(written)) == [0, 1, 2, 3, 4, 5, 6, 8, 9]  # type: ignore[type-var]
    assert "could not be written down even alone" in caplog.text
    assert [backlog.aside for backlog in intake.look() if backlog.aside] == [1]
    assert intake.waiting() == {}
    assert drained() == []
    assert intake.again(Channel.HIT) == 1
    assert numbers(drained()) == [7]
    assert sum(backlog.aside for backlog in intake.look()) == 0


@pytest.mark.usefixtures("place")
def test_what_was_set_aside_by_one_that_died_before_ticking_off_is_not_set_aside_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "IDLE_MS", 0)
    monkeypatch.setattr(intake, "TRY_AGAIN", 0)
    intake.put(Channel.HIT, [{"n": n} for n in range(3)])

    def refuse(entries: list[Entry]) -> None:
        raise ValueError("no number will do")

    for _ in range(2):
        batch = spool.take(Channel.HIT) or stream.take(Channel.HIT, intake.LIMIT)
        assert batch
        batch.set_aside([(line, "no number will do") for line in batch.lines])
        batch.leave()
    assert intake.drain(Channel.HIT, refuse) == 0
    assert [backlog.aside for backlog in intake.look() if backlog.aside] == [3]
    assert intake.again(Channel.HIT) == 3
    assert sorted(numbers(drained())) == [0, 1, 2]  # type: ignore[type-var]
    assert [backlog.aside for backlog in intake.look() if backlog.aside] == []


@pytest.mark.usefixtures("without_redis")
def test_a_line_that_is_no_entry_is_set_aside() -> None:
    intake.put(Channel.HIT, [{"n": 1}])
    with next(folder().iterdir()).open("ab") as file:
        file.write(b'nonsense\n{"key": "no uuid"}\n[]\n{"n": 5}\n')
    assert numbers(drained()) == [1]
    assert [backlog.aside for backlog in intake.look() if backlog.aside] == [4]


@pytest.mark.usefixtures("without_redis")
def test_a_torn_last_line_costs_nothing_that_was_kept() -> None:
    intake.put(Channel.HIT, [{"n": 1}])
    file = next(folder().iterdir())
    with file.open("ab") as torn:
        torn.write(b'{"key": "0198')
    intake.put(Channel.HIT, [{"n": 2}])
    with file.open("ab") as torn:
        torn.write(b'{"key"')
    assert numbers(drained()) == [1, 2]
    assert [backlog.aside for backlog in intake.look() if backlog.aside] == []


@pytest.mark.usefixtures("without_redis")
def test_an_answer_waits_for_nobody_who_took_the_file_that_it_had_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    intake.put(Channel.HIT, [{"n": 1}])
    opened = os.open
    taken: list[Batch | None] = []

    def taken_when_opened(path: str, flags: int, *rest: int, **more: int) -> int:
        file = opened(path, flags, *rest, **more)
        if not taken and flags & os.O_CREAT:
            taken.append(spool.take(Channel.HIT))
        return file

    monkeypatch.setattr(os, "open", taken_when_opened)
    put = threading.Thread(target=intake.put, args=(Channel.HIT, [{"n": 2}]))
    put.start()
    put.join(30)
    waited = put.is_alive()
    (batch,) = taken
    assert batch
    batch.done()
    put.join()
    assert not waited
    assert [json.loads(line)["n"] for line in batch.lines] == [1]
    assert numbers(drained()) == [2]


@pytest.mark.usefixtures("without_redis")
def test_a_notice_is_on_the_disk_with_its_files_name_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    intake.put(Channel.NOTICE, [{"n": 1}])
    here = folder(Channel.NOTICE)
    assert synced == [here.parent, here.parent.parent, here]
    intake.put(Channel.NOTICE, [{"n": 2}])
    assert len(synced) == 3, "the file had its name"


@pytest.mark.usefixtures("place")
def test_what_was_set_aside_is_deleted_by_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TRY_AGAIN", 0)
    day = dt.timedelta(days=1)
    for n, ago in enumerate((3 * day, day, 0 * day)):
        with time_machine.travel(dt.datetime.now(dt.UTC) - ago):
            intake.put(Channel.HIT, [{"n": n}])
            intake.drain(Channel.HIT, lambda entries: 1 / 0)
    assert intake.forget(Channel.HIT, 2 * day) == 1
    assert intake.forget(Channel.HIT, 2 * day) == 0
    assert sum(backlog.aside for backlog in intake.look()) == 2
    assert intake.again(Channel.HIT) == 2
    assert sorted(numbers(drained())) == [1, 2]  # type: ignore[type-var]
    assert sum(backlog.aside for backlog in intake.look()) == 0


@pytest.mark.usefixtures("without_redis")
def test_a_file_is_put_away_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FULL", 100)
    for n in range(10):
        intake.put(Channel.HIT, [{"n": n}])
    assert len(list(folder().iterdir())) >= 5
    assert numbers(drained()) == list(range(10))
    assert list(folder().iterdir()) == []


@pytest.mark.usefixtures("without_redis")
def test_many_write_while_many_drain_and_each_entry_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FULL", 2000)
    found: list[Entry] = []
    over = threading.Event()

    def writer(name: int) -> None:
        for n in range(200):
            intake.put(Channel.HIT, [{"n": name * 1000 + n}])

    def drainer() -> None:
        while not over.is_set():
            intake.drain(Channel.HIT, found.extend)

    writers = [threading.Thread(target=writer, args=(name,)) for name in range(4)]
    drainers = [threading.Thread(target=drainer) for _ in range(2)]
    for thread in writers + drainers:
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    for thread in drainers:
        thread.join()
    found += drained()
    assert sorted(numbers(found)) == [name * 1000 + n for name in range(4) for n in range(200)]  # type: ignore[type-var]


def test_without_an_answer_from_redis_entries_go_to_files_and_back_when_it_answers(
    settings: Settings, with_redis: redis.Redis
) -> None:
    there = settings.REDIS_URL
    away(settings)
    intake.put(Channel.HIT, [{"n": 1}])
    assert len(list(folder().iterdir())) == 1
    settings.REDIS_URL = there
    intake.put(Channel.HIT, [{"n": 2}])  # Redis is left in peace for a moment
    assert with_redis.keys() == []
    put = [1, 2]

    def used_again() -> bool:
        put.append(len(put) + 1)
        intake.put(Channel.HIT, [{"n": put[-1]}])
        return bool(with_redis.keys())

    until(used_again, "Redis is used again")
    until(lambda: not list(folder().iterdir()), "the files are moved into Redis")
    for n in range(50):
        intake.put(Channel.HIT, [{"n": 1000 + n}])
    assert list(folder().iterdir()) == []
    assert sorted(numbers(drained())) == [*put, *range(1000, 1050)]  # type: ignore[type-var]


class _Silent(socketserver.BaseRequestHandler):
    """A Redis that hangs: it takes what it is told, and hangs up without a word once it may."""

    asked = threading.Semaphore(0)
    may = threading.Event()

    def handle(self) -> None:
        self.request.recv(65536)
        self.asked.release()
        self.may.wait(60)


@pytest.fixture
def silent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Silent]]:
    """A Redis that hangs, for as long as a test likes."""
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(_Silent, "asked", threading.Semaphore(0))
    monkeypatch.setattr(_Silent, "may", threading.Event())
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Silent) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"redis://127.0.0.1:{server.server_address[1]}/0"
        settings.REDIS_URL = url
        yield _Silent
        _Silent.may.set()
        server.shutdown()


def begin_putting(n: int) -> threading.Thread:
    thread = threading.Thread(target=intake.put, args=(Channel.HIT, [{"n": n}]), daemon=True)
    thread.start()
    return thread


def test_nobody_waits_for_the_one_who_asks_whether_redis_answers_again(
    silent: type[_Silent], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "REST", 60.0)
    monkeypatch.setattr(stream, "_rests_until", time.monotonic())  # it has failed, and was left in peace since
    first = begin_putting(1)
    assert silent.asked.acquire(timeout=30)
    other = begin_putting(2)
    other.join(30)
    assert not other.is_alive()
    assert first.is_alive()
    silent.may.set()
    first.join(30)
    settings.REDIS_URL = ""
    assert numbers(drained()) == [2, 1]


def test_what_shared_a_round_trip_that_failed_goes_to_files_all_of_it(
    silent: type[_Silent], settings: Settings
) -> None:
    sharing = stream._appending(Channel.HIT)
    first = begin_putting(1)
    assert silent.asked.acquire(timeout=30)
    others = [begin_putting(2), begin_putting(3)]
    until(lambda: len(sharing._waiting) == 2, "two wait for the next round trip")
    silent.may.set()
    for thread in (first, *others):
        thread.join(30)
    settings.REDIS_URL = ""
    assert sorted(numbers(drained())) == [1, 2, 3]  # type: ignore[type-var]


def test_looking_finds_out_too_that_redis_answers_again(settings: Settings, with_redis: redis.Redis) -> None:
    there = settings.REDIS_URL
    away(settings)
    intake.put(Channel.HIT, [{"n": 1}])
    settings.REDIS_URL = there

    def answers() -> bool:
        return any(backlog.place == "Redis" for backlog in intake.look())

    until(answers, "Redis is asked again")
    intake.put(Channel.HIT, [{"n": 2}])
    assert with_redis.keys()


def test_while_redis_is_away_a_worker_drains_the_files(settings: Settings) -> None:
    away(settings)
    intake.put(Channel.HIT, [{"n": 1}])
    assert list(intake.waiting()) == [Channel.HIT]
    assert numbers(drained()) == [1]


def test_a_redis_that_takes_no_more_is_as_one_that_is_away(settings: Settings, with_redis: redis.Redis) -> None:
    with_redis.set(f"{stream.PREFIX}:hit", "no stream")
    intake.put(Channel.HIT, [{"n": 1}])
    assert len(list(folder().iterdir())) == 1


def test_where_neither_takes_it_that_is_said(settings: Settings) -> None:
    away(settings)
    Path(settings.INTAKE_DIR).write_text("no folder")
    with pytest.raises(intake.NotKept):
        intake.put(Channel.HIT, [{"n": 1}])
    Path(settings.INTAKE_DIR).unlink()


def test_an_emptied_redis_takes_and_gives_again(with_redis: redis.Redis) -> None:
    intake.put(Channel.HIT, [{"n": 1}])
    assert numbers(drained()) == [1]
    with_redis.flushdb()
    assert drained() == []
    intake.put(Channel.HIT, [{"n": 2}])
    assert numbers(drained()) == [2]


class _BeforeRedis7(socketserver.BaseRequestHandler):
    """Passes on what is said to Redis, but has two entries that were deleted in somebody's hands, of which version 6.2
    gives neither number nor fields."""

    redis: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.redis) as there:
            answers = threading.Thread(target=self._answer, args=(there,))
            answers.start()
            while said := self.request.recv(65536):
                if b"XAUTOCLAIM" in said:
                    self.request.sendall(b"*2\r\n$3\r\n0-0\r\n*2\r\n_\r\n_\r\n")
                else:
                    there.sendall(said)
            there.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _answer(self, there: socket.socket) -> None:
        while said := there.recv(65536):
            self.request.sendall(said)


@pytest.mark.usefixtures("with_redis")
def test_entries_that_were_deleted_in_somebodys_hands_keep_nobody_from_the_others(
    settings: Settings, redis_url: str
) -> None:
    server = urlsplit(redis_url)
    user = server.netloc.rpartition("@")[0]
    handler = type("Handler", (_BeforeRedis7,), {"redis": (server.hostname, server.port)})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as old:
        old.daemon_threads = True
        threading.Thread(target=old.serve_forever, daemon=True).start()
        netloc = f"{user}@127.0.0.1:{old.server_address[1]}".removeprefix("@")
        url = server._replace(netloc=netloc).geturl()
        settings.REDIS_URL = url
        try:
            intake.put(Channel.HIT, [{"n": 1}])
            assert numbers(drained()) == [1]
        finally:
            old.shutdown()


@pytest.mark.usefixtures("place")
def test_what_waits_and_how_long_is_said() -> None:
    assert [(backlog.waiting, backlog.oldest) for backlog in intake.look() if backlog.waiting] == []
    intake.put(Channel.NOTICE, [{"n": 1}])
    (backlog,) = [backlog for backlog in intake.look() if backlog.waiting]
    assert backlog.channel == Channel.NOTICE
    assert 0 <= backlog.oldest < 60


def test_keys_are_uuids_of_version_7_in_the_order_of_their_time() -> None:
    keys = [uuid.UUID(intake.new_key()) for _ in range(1000)]
    assert len(set(keys)) == 1000
    assert {(key.version, key.variant) for key in keys} == {(7, uuid.RFC_4122)}
    assert [key.int >> 80 for key in keys] == sorted(key.int >> 80 for key in keys)


PUTS_AND_HANGS = """
import sys, django
django.setup()
from newsletter import intake
from newsletter.intake import Channel
intake.put(Channel.HIT, [{"n": 1}])
def hang(entries):
    print("taken", flush=True)
    sys.stdin.read()
if sys.argv[1] == "hang":
    intake.drain(Channel.HIT, hang)
print("put", flush=True)
"""


@pytest.fixture
def begin(tmp_path: Path, redis_url: str) -> Iterator[Callable[[str, str], subprocess.Popen[bytes]]]:
    begun = []

    def start(what: str, url: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"DATA_DIR": str(tmp_path), "REDIS_URL": url}
        program = subprocess.Popen(
            [sys.executable, "-c", PUTS_AND_HANGS, what],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        begun.append(program)
        return program

    yield start
    for program in begun:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("redis_too", [True, False], ids=["stream", "spool"])
def test_what_a_killed_taker_held_is_given_to_the_next(
    begin: Callable[[str, str], subprocess.Popen[bytes]],
    redis_too: bool,
    redis_url: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = redis_url if redis_too else ""
    program = begin("hang", url)
    assert program.stdout
    assert program.stdout.readline() == b"taken\n"
    settings.INTAKE_DIR = tmp_path / "intake"
    settings.REDIS_URL = url
    assert drained() == []
    program.kill()
    program.wait()
    monkeypatch.setattr(stream, "IDLE_MS", 0)
    assert numbers(drained()) == [1]


def test_an_entry_in_a_file_is_one_line_of_json() -> None:
    intake.put(Channel.HIT, [{"n": 1, "text": "a\nb"}])
    (line,) = next(folder().iterdir()).read_bytes().splitlines()
    assert json.loads(line)["text"] == "a\nb"


def test_a_machines_files_are_moved_to_where_workers_of_all_machines_look(
    settings: Settings, with_redis: redis.Redis, tmp_path: Path
) -> None:
    there = settings.REDIS_URL
    away(settings)
    intake.put(Channel.HIT, [{"n": 1}])
    settings.REDIS_URL = there
    assert intake.forward() == 1
    settings.INTAKE_DIR = tmp_path / "another machine"
    assert numbers(drained()) == [1]
