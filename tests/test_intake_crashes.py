"""Every answered hit is written down exactly once, whatever dies after the answer: real servers, real kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
import requests
from django.db import connection

from newsletter import tracking
from newsletter.demo import services
from newsletter.models import Delivery, Event
from tests.browsing import serve
from tests.conftest import Start
from tests.making import BROWSER, make_dispatch, make_newsletter
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

CELERY = (sys.executable, "-m", "celery", "-A", "newsletter")
WORKER = (*CELERY, "worker", "--concurrency", "2", "-Q", "intake,soon")
READERS = 20

# Writes what it takes, says so, and hangs before it ticks it off.
WRITES_AND_HANGS = """
import sys, django
django.setup()
from newsletter import events, intake
def write(entries):
    events.write_hits(entries)
    print("written", flush=True)
    sys.stdin.read()
while True:
    intake.drain(intake.Channel.HIT, write)
"""


class KeptRedis:
    """A Redis that writes what it took before it says so, to be killed and started again on its data."""

    def __init__(self, folder: Path) -> None:
        found = services.find_redis(folder, {}, settings=services.KEEPING)
        assert found is not None
        assert found.process is not None
        self.url = found.url
        self.process = found.process
        place = urlsplit(found.url)
        lines = ["bind 127.0.0.1", f"port {place.port}", f"requirepass {place.password}", f'dir "{folder}"']
        lines += ['save ""', *(f"{name} {value}" for name, value in services.KEEPING.items())]
        self._settings = folder / "redis.conf"
        self._settings.write_text("\n".join(lines) + "\n")
        self._command = [*[str(word) for word in found.process.args][:-1], str(self._settings)]  # type: ignore[union-attr]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, cwd="/", start_new_session=True)
        until(self._answers, "Redis answers again")

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False


@pytest.fixture
def kept_redis(tmp_path: Path) -> Iterator[KeptRedis]:
    server = KeptRedis(tmp_path / "redis")
    yield server
    server.kill()


class Readers:
    """People who open mail one after the other, as fast as they are answered, until told to stop."""

    def __init__(self, site: str) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=READERS)
        self._paths = [
            f"{site}/o/{tracking.delivery_token(pk)}" for pk in dispatch.deliveries.values_list("pk", flat=True)
        ]
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self.slowest = 0.0
        self._threads = [threading.Thread(target=self._open) for _ in range(3)]

    def _open(self) -> None:
        with requests.Session() as session:
            session.headers["User-Agent"] = BROWSER
            while not self._stop.is_set():
                began = time.monotonic()
                self.statuses.append(session.get(self._paths[len(self.statuses) % READERS], timeout=30).status_code)
                self.slowest = max(self.slowest, time.monotonic() - began)

    def more(self, count: int) -> None:
        """Wait for `count` answers more."""
        goal = len(self.statuses) + count
        until(lambda: len(self.statuses) >= goal, f"{goal} answers")

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def kill(program: subprocess.Popen[bytes]) -> None:
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()


def assert_written_once(answers: list[int]) -> None:
    """Each answer is a row, and the tallies say so too."""
    assert set(answers) == {200}
    until(lambda: Event.objects.count() >= len(answers), f"{len(answers)} hits are written down", seconds=90)
    assert Event.objects.count() == len(answers)
    (dispatch,) = {delivery.dispatch for delivery in Delivery.objects.select_related("dispatch")}
    assert dispatch.tallies.get(kind="open", judged="", url="").hits == len(answers)
    assert dispatch.tallies.get(kind="open", judged="", url="").readers == READERS
    # By whoever: so many readers on one network may be taken for a machine.
    assert not dispatch.deliveries.filter(any_open_at=None).exists()


def test_hits_are_written_once_though_redis_and_workers_are_killed_while_they_come(
    start: Start, kept_redis: KeptRedis
) -> None:
    settings = {"REDIS_URL": kept_redis.url}
    start(*CELERY, "beat", **settings)
    worker = start(*WORKER, **settings)
    with Readers(serve(start, **settings)) as readers:
        readers.more(100)
        until(Event.objects.exists, "some are written down", seconds=60)
        kill(worker)
        readers.more(100)
        kept_redis.kill()
        readers.more(100)
        kept_redis.start()
        worker = start(*WORKER, **settings)
        readers.more(100)
        kept_redis.kill()
        kill(worker)
        kept_redis.start()
        start(*WORKER, **settings)
        readers.more(100)
    assert_written_once(readers.statuses)


@pytest.mark.parametrize("place", ["stream", "spool"])
def test_hits_are_written_once_though_a_worker_is_killed_between_writing_and_ticking_off(
    start: Start, redis_url: str, environment: dict[str, str], place: str
) -> None:
    settings = {"REDIS_URL": redis_url if place == "stream" else ""}
    with Readers(serve(start, **settings)) as readers:
        readers.more(50)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITES_AND_HANGS],
        env=environment | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"written\n"
        assert Event.objects.exists()
        writer.kill()
    start(sys.executable, "manage.py", "work", **settings)
    assert_written_once(readers.statuses)
    waits = is_empty(redis_url) if place == "stream" else no_files(Path(environment["DATA_DIR"], "intake", "hit"))
    until(waits, "all is ticked off")


def is_empty(url: str) -> Callable[[], bool]:
    def look() -> bool:
        with redis.Redis.from_url(url) as client:
            return bool(client.xlen("masthead-intake:hit") == 0)

    return look


def no_files(folder: Path) -> Callable[[], bool]:
    return lambda: list(folder.iterdir()) == []


def test_hits_are_written_once_though_the_database_ends_the_workers_connection_while_it_writes(
    start: Start, redis_url: str
) -> None:
    if connection.vendor != "postgresql":  # SQLite's connections end with their program
        return
    with Readers(serve(start)) as readers:
        readers.more(50)
    with psycopg.connect(url_of_test_database(), autocommit=False) as other:
        # The worker has inserted its events and comes to the tallies.
        other.execute("LOCK TABLE newsletter_tally IN SHARE MODE")
        start(sys.executable, "manage.py", "work")
        with psycopg.connect(url_of_test_database(), autocommit=True) as looking:
            pid = until(lambda: writing(looking), "the worker is in the middle of a batch")
            assert not Event.objects.exists()
            looking.execute("SELECT pg_terminate_backend(%s)", [pid])
            until(lambda: writing(looking) != pid, "its connection is gone")
    assert_written_once(readers.statuses)


def writing(looking: psycopg.Connection[tuple[int]]) -> int:
    """The connection that waits to write tallies, or 0."""
    found = looking.execute(
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INTO newsletter_tally%'"
    ).fetchone()
    return found[0] if found else 0


def url_of_test_database() -> str:
    from tests.conftest import _url_of

    return _url_of(connection.settings_dict).replace("postgres://", "postgresql://")


def test_pixels_and_links_are_answered_soon_and_written_once_while_database_and_redis_are_away(
    start: Start, kept_redis: KeptRedis
) -> None:
    settings = {"REDIS_URL": kept_redis.url}
    database = {"DATABASE_URL": f"postgres://nobody@127.0.0.1:{services.free_port()}/away"}
    with Readers(serve_without_database(start, **settings, **database)) as readers:
        readers.more(30)
        kept_redis.kill()
        readers.more(30)
    kept_redis.start()
    assert readers.slowest < 10
    start(sys.executable, "manage.py", "work", **settings)
    assert_written_once(readers.statuses)


def serve_without_database(start: Start, **settings: str) -> str:
    port = services.free_port()
    address = f"http://127.0.0.1:{port}"
    granian = (sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port))
    start(*granian, "--blocking-threads", "4", "newsletter.wsgi:application", SITE_URL=address, **settings)

    def answers() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{address}/healthz", timeout=5).status_code == 200
        return False

    until(answers, "the web server answers", seconds=60)
    return address
