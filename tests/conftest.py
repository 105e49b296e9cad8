"""What every test stands on: real servers, a database of its own per test worker, and programs that end.

`pytest --database=sqlite` (the default) or `--database=postgres`. The process that collects starts the servers; the
workers of pytest-xdist find them in the environment it leaves them. In the tests themselves REDIS_URL is empty, so
nothing rings by itself; programs begun with `start` get `environment`, which names this worker's test database and
its Redis database.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import pytest
import redis

from newsletter.demo import services

ROOT = Path(__file__).resolve().parent.parent
REDIS, FOLDER = "MASTHEAD_TEST_REDIS", "MASTHEAD_TEST_FOLDER"
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Every setting that could carry the developer's own mail, keys or data into a test, whatever `.env` says.
SETTINGS = {
    "REDIS_URL": "",
    "SMTP_URL": "smtp://127.0.0.1:1",
    "BOUNCE_ADDRESS": "",
    "BOUNCE_MAILBOX": "",
    "PROVIDER": "",
    "ANYMAIL": "{}",
    "SITE_URL": "http://127.0.0.1:8000",
    "SECRET_KEY": "a key that only tests use, and long enough for Django",
    "TOKEN_KEYS": "1:a key that only tests use",
    "ADDRESS_HASH_KEY": "another key that only tests use",
    "DEBUG": "false",
    "BEHIND_PROXY": "false",
}

servers_key = pytest.StashKey[list[services.Server]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=["sqlite", "postgres"], default="sqlite", help="the database to test on")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the servers, once, and point Django at them before its settings are read."""
    # Whoever is started in the background ignores these, and so would all that a test starts and asks to stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        config.stash[servers_key] = []
        try:
            _prepare(config.getoption("--database"), config.stash[servers_key])
        except services.Unreachable as error:
            raise pytest.UsageError(str(error)) from error
    from django.conf import settings

    default = settings.DATABASES["default"]  # read here, so that pytest-django finds Django configured
    if config.getoption("--database") == "sqlite":
        # A file, where Django would keep a test database in memory: the programs that tests start share it.
        default.setdefault("TEST", {})["NAME"] = f"{os.environ[FOLDER]}/test.sqlite3"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands on the database, so that all else need not run on each."""
    for item in items:
        wanted = set(getattr(item, "fixturenames", ()))
        if wanted & {"db", "transactional_db", "django_db_setup"} or item.get_closest_marker("django_db"):
            item.add_marker("database")


def pytest_unconfigure(config: pytest.Config) -> None:
    for server in config.stash.get(servers_key, []):
        server.stop()
    if servers_key in config.stash:
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> list[str]:
    running = [services.describe(server) for server in config.stash.get(servers_key, [])]
    database = "SQLite in a file, " if config.getoption("--database") == "sqlite" else ""
    return [f"servers: {database}{', '.join(running) or 'no Redis'}"]


def _prepare(database: str, servers: list[services.Server]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="masthead-tests-"))
    found_redis = services.find_redis(folder / "redis")
    if found_redis:
        servers.append(found_redis)
    database_url = f"sqlite:///{folder}/unused.sqlite3"
    if database == "postgres":
        # Not durable: no test pulls the plug of the machine, and the suite is a third quicker.
        found_postgres = services.find_postgres(folder / "postgres", settings=services.NOT_DURABLE)
        if not found_postgres:
            raise pytest.UsageError(services.NO_POSTGRES)
        servers.append(found_postgres)
        database_url = found_postgres.url
    os.environ |= SETTINGS | {
        "DJANGO_SETTINGS_MODULE": "newsletter.settings",
        "DATABASE_URL": database_url,
        "DATA_DIR": str(folder / "var"),
        FOLDER: str(folder),
        REDIS: found_redis.url if found_redis else "",
    }


@pytest.fixture(autouse=True)
def _own_intake() -> Iterator[None]:
    """Files of what came back, of this test alone; the folder is made when something comes."""
    from django.conf import settings

    folder, before = Path(os.environ[FOLDER], f"intake-{secrets.token_hex(4)}"), settings.INTAKE_DIR
    settings.INTAKE_DIR = folder
    yield
    settings.INTAKE_DIR = before
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """pytest-django's, which cannot drop a database that a program we killed still seems to be connected to."""
    yield
    from django.db import connection

    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )


@pytest.fixture
def redis_url(worker_id: str) -> Iterator[str]:
    """A Redis database of this test worker, empty before and after.

    The workers count down from the server's last database: on a server named by the developer the first ones, which
    are likely to hold something, stay as they are.
    """
    url = os.environ[REDIS]
    if not url:
        pytest.fail(services.NO_REDIS)
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    with redis.Redis.from_url(url) as server:
        databases = int(server.config_get("databases")["databases"])
    own = urlsplit(url)._replace(path=f"/{databases - 1 - number}").geturl()
    with redis.Redis.from_url(own) as database:
        database.flushdb()
        yield own
        database.flushdb()


@pytest.fixture
def environment(transactional_db: None, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment for programs that work on this test's database, as our services do in production."""
    from django.db import connection

    return os.environ | {
        "DATABASE_URL": _url_of(connection.settings_dict),
        "REDIS_URL": redis_url,
        "DATA_DIR": str(tmp_path / "var"),
        "PYTHONUNBUFFERED": "1",
    }


class StartWith(Protocol):
    def __call__(self, environment: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
        """Begin `command` with exactly this environment; its output shows where the test fails."""


class Start(Protocol):
    def __call__(self, *command: str, **changes: str) -> subprocess.Popen[bytes]:
        """Begin `command` in the fixture `environment` with `changes`; its output shows where the test fails."""


@pytest.fixture
def start_with(tmp_path: Path) -> Iterator[StartWith]:
    """Begin programs that end with the test: asked first (SIGTERM), then made to, with all they started."""
    begun: list[tuple[subprocess.Popen[bytes], Path]] = []

    def begin(environment: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
        log = tmp_path / f"output-{len(begun)}.log"
        with log.open("wb") as output:
            program = subprocess.Popen(
                [*services.leash(), *command],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        begun.append((program, log))
        return program

    yield begin
    for program, _ in begun:
        program.terminate()
    for program, log in begun:
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        print(f"--- {program.args!r}\n{log.read_text(errors='replace')}")


@pytest.fixture
def start(start_with: StartWith, environment: dict[str, str]) -> Start:
    """Begin programs that work on this test's database and end with the test."""
    return lambda *command, **changes: start_with(environment | changes, *command)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; the only thing a test may be skipped for, and not in CI."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        (pytest.fail if IN_CI else pytest.skip)("No Chromium found: install it (on Debian: apt-get install chromium).")
    return found


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample issues and bounces that SAMPLES names; they are not part of this repository."""
    folder = Path(os.environ.get("SAMPLES", ""))
    if not os.environ.get("SAMPLES") or not folder.is_dir():
        pytest.skip("SAMPLES names no folder of samples")
    return folder


def _url_of(database: dict[str, Any]) -> str:
    if database["ENGINE"] == "django.db.backends.sqlite3":
        return f"sqlite:///{database['NAME']}"
    user, password, host = (quote(database[key] or "", safe="") for key in ("USER", "PASSWORD", "HOST"))
    return f"postgres://{user}:{password}@{host}:{database['PORT'] or 5432}/{quote(database['NAME'])}"
