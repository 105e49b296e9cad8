"""The servers and programs of one run: real ones, begun here, so that they may be stopped and killed.

Everything listens on the loopback. PostgreSQL, Redis and the mail server come back on the port they had.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

from newsletter.demo import services

ROOT = Path(__file__).resolve().parents[2]
WORKERS, PROCESSES = 2, 2  # how many, and of how many processes each
START_SECONDS, STOP_SECONDS = 60.0, 60.0

Program = subprocess.Popen[bytes]


class CannotStart(RuntimeError):
    """The run cannot begin as things are; the message says what to do."""


class Servers:
    """What one run stands on, its files in `folder`. `environment` is what every program gets.

    `workers` and `beats` are the programs begun by `staff`, dead ones included until the next `staff`.
    """

    def __init__(self, folder: Path, *, chunk: int) -> None:
        self.folder = folder
        self.workers: list[Program] = []
        self.beats: list[Program] = []
        self._sink: Program | None = None
        self._begun = 0
        postgres = services.find_postgres(folder / "postgres", {})
        if postgres is None or postgres.process is None:
            raise CannotStart(services.NO_POSTGRES)
        found_redis = services.find_redis(folder / "redis", {})
        if found_redis is None or found_redis.process is None:
            raise CannotStart(services.NO_REDIS)
        self.what = f"{services.describe(postgres)}, {services.describe(found_redis)}"
        self.database_url, self.redis_url = postgres.url, found_redis.url
        self._postgres = postgres.process
        self._redis_command = self._keeping(found_redis)
        self._redis = self._open(self._redis_command, "redis")
        self.smtp_port = services.free_port()
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "newsletter.settings",
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SMTP_URL": f"smtp://127.0.0.1:{self.smtp_port}",
            # Leases that end soon, so that what a killed worker held is soon in doubt and the rest goes on.
            "SMTP_TIMEOUT": "1",
            "LEASE_SECONDS": "3",
            "RETRY_SECONDS": "0.2",
            "CHUNK_SIZE": str(chunk),
            "BATCH_SIZE": str(chunk * 5),
            "DATA_DIR": str(folder / "var"),
            "SITE_URL": "http://127.0.0.1:8000",
            "SECRET_KEY": "a key that only this run uses, and long enough for Django",
            "TOKEN_KEYS": "1:a key that only this run uses",
            "ADDRESS_HASH_KEY": "another key that only this run uses",
            "PROVIDER": "",
            "ANYMAIL": "{}",
            "ADMINS": "[]",
            "MAILBOX_PATH": "",
            "DEBUG": "false",
            "BEHIND_PROXY": "false",
            "LOG_LEVEL": "INFO",
            "PYTHONUNBUFFERED": "1",
        }
        self._await_answer("Redis", self._ask_redis)

    def _keeping(self, found: services.Server) -> list[str]:
        """Stop the Redis that was found; the command of one like it, on its port, that keeps its data."""
        assert found.process is not None
        words = [str(word) for word in found.process.args]  # type: ignore[union-attr]
        found.stop()
        place = urlsplit(found.url)
        lines = [
            "bind 127.0.0.1",
            f"port {place.port}",
            f"requirepass {place.password}",
            f'dir "{self.folder / "redis"}"',
            'save ""',
            "appendonly yes",
            "maxmemory-policy noeviction",
        ]
        settings = self.folder / "redis" / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text("\n".join(lines) + "\n", encoding="ascii")
        return [*words[:-1], str(settings)]

    def stop_postgres(self, how: signal.Signals) -> None:
        """End PostgreSQL as `pg_ctl stop` does: SIGINT is its fast way, SIGQUIT its immediate one, like a crash."""
        self._postgres.send_signal(how)
        self._postgres.wait(STOP_SECONDS)

    def start_postgres(self) -> None:
        """Start PostgreSQL again on the same files and port; returns when it answers."""
        command = [str(word) for word in self._postgres.args]  # type: ignore[union-attr]
        self._postgres = self._open(command, "postgres")
        self._await_answer("PostgreSQL", lambda: psycopg.connect(self.database_url, connect_timeout=5).close())

    def kill_redis(self) -> None:
        """SIGKILL the broker."""
        self._redis.kill()
        self._redis.wait()

    def start_redis(self, *, keep_data: bool) -> None:
        """Start the broker again on the same port, with what it had written down or empty."""
        if not keep_data:
            for file in (self.folder / "redis" / "appendonlydir").glob("*"):
                file.unlink()
        self._redis = self._open(self._redis_command, "redis")
        self._await_answer("Redis", self._ask_redis)

    def start_sink(self, journal: Path, *, delay: float, gate: Path, chunking: bool = False) -> None:
        """Put a mail server in place of the one before, on the same port; `slow-` readers take it `delay` seconds, and
        `gated-` ones are put off while there is a file `gate`. With `chunking` it offers that."""
        self.kill_sink()
        words = ["--journal", str(journal), "--port", str(self.smtp_port), "--delay", str(delay), "--gate", str(gate)]
        words += ["--chunking"] * chunking
        self._sink = self._open([sys.executable, str(ROOT / "tests" / "smtp_sink.py"), *words], "sink")
        self._await_answer("the mail server", self._ask_sink)

    def kill_sink(self) -> None:
        """SIGKILL the mail server; what it answered for is in its journal."""
        if self._sink:
            self._sink.kill()
            self._sink.wait()

    def staff(self, *, workers: int = WORKERS, beats: int = 1) -> None:
        """See that so many workers and beats live: begin what is missing, end what is too many."""
        worker = ("worker", "--concurrency", str(PROCESSES))
        self.workers = self._count_out("worker", self.workers, workers, *worker)
        self.beats = self._count_out("beat", self.beats, beats, "beat")

    def _count_out(self, name: str, programs: list[Program], count: int, *words: str) -> list[Program]:
        living = [program for program in programs if program.poll() is None]
        for surplus in living[count:]:
            self._end(surplus)
        living = living[:count]
        while len(living) < count:
            self._begun += 1
            node = ["--hostname", f"{name}{self._begun}@chaos"] if name == "worker" else []
            # A folder of data each, as on machines of their own: a beat locks its schedule.
            environment = self.environment | {"DATA_DIR": str(self.folder / f"var-{self._begun}")}
            command = [*services.leash(), sys.executable, "-m", "celery", "-A", "newsletter", *words, *node]
            living.append(self._open(command, f"{name}-{self._begun}", environment))
        return living

    def worker_of(self, pid: int) -> Program:
        """The worker that the process `pid` belongs to. Raises LookupError where there is none."""
        try:
            group = os.getpgid(pid)
        except ProcessLookupError as error:
            raise LookupError(f"process {pid} is gone") from error
        for program in self.workers:
            if program.pid == group and program.poll() is None:
                return program
        raise LookupError(f"process {pid} is no worker's")

    def kill_workers(self) -> None:
        """SIGKILL every worker with its processes."""
        for worker in self.workers:
            kill(worker)

    def close(self) -> None:
        """End everything that was begun here."""
        for program in [*self.beats, *self.workers]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGCONT)
            self._end(program)
        self.kill_sink()
        self._redis.terminate()
        self._redis.wait(STOP_SECONDS)
        self.stop_postgres(signal.SIGINT)

    def _end(self, program: Program) -> None:
        program.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(STOP_SECONDS)
        kill(program)

    def _open(self, command: list[str], log: str, environment: dict[str, str] | None = None) -> Program:
        with (self.folder / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                command,
                env=environment or dict(os.environ),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _await_answer(self, name: str, ask: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                ask()
                return
            except (OSError, psycopg.OperationalError, redis.RedisError) as error:
                if time.monotonic() > deadline:
                    raise CannotStart(f"{name} does not answer: {error}; see the logs in {self.folder}.") from error
                time.sleep(0.05)

    def _ask_redis(self) -> None:
        with redis.Redis.from_url(self.redis_url, socket_timeout=5) as client:
            client.ping()

    def _ask_sink(self) -> None:
        socket.create_connection(("127.0.0.1", self.smtp_port), timeout=5).close()


def kill(program: Program) -> None:
    """SIGKILL a program with all its processes, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
