"""Servers for demo, tests and benches: found in the right order, usable, and gone with whoever started them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import psycopg.errors
import pytest
import redis

from newsletter.demo import services
from tests.waiting import until

NOTHING: dict[str, str] = {}
STARTS_BOTH = """
import sys, time
from pathlib import Path
from newsletter.demo import services
folder = Path(sys.argv[1])
found = [
    services.find_redis(folder / "redis", {}),
    services.find_postgres(folder / "postgres", {}, settings=services.NOT_DURABLE),
]
print(*(server.process.pid for server in found), flush=True)
time.sleep(600)
"""


@pytest.fixture
def without_installed_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nobody installed a server."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: which(name) if name == "setpriv" else None)
    monkeypatch.setattr(services, "_POSTGRES_FOLDERS", ())


def test_a_redis_named_in_the_environment_goes_first_and_is_left_alone(tmp_path: Path) -> None:
    own = services.find_redis(tmp_path, NOTHING)
    assert own
    named = services.find_redis(tmp_path / "unused", {"REDIS_URL": own.url})
    assert named == services.Server(own.url, "environment")
    named.stop()
    with redis.Redis.from_url(own.url) as client:
        assert client.ping()
    own.stop()


def test_a_postgres_named_in_the_environment_goes_first(tmp_path: Path) -> None:
    own = services.find_postgres(tmp_path, NOTHING, settings=services.NOT_DURABLE)
    assert own
    assert services.find_postgres(tmp_path / "unused", {"DATABASE_URL": own.url}) == services.Server(
        own.url, "environment"
    )
    own.stop()


def test_a_named_server_that_does_not_answer_is_refused_in_a_sentence(tmp_path: Path) -> None:
    port = services.free_port()
    with pytest.raises(services.Unreachable, match=r"REDIS_URL names a server on 127\.0\.0\.1 .* or unset REDIS_URL\."):
        services.find_redis(tmp_path, {"REDIS_URL": f"redis://:secret@127.0.0.1:{port}/0"})
    with pytest.raises(services.Unreachable, match="DATABASE_URL names a server") as refusal:
        services.find_postgres(tmp_path, {"DATABASE_URL": f"postgres://me:secret@127.0.0.1:{port}/mail"})
    assert "secret" not in str(refusal.value)


@pytest.mark.usefixtures("without_installed_programs")
def test_a_bare_machine_gets_its_servers_from_wheels(tmp_path: Path) -> None:
    found_redis = services.find_redis(tmp_path / "redis", NOTHING)
    found_postgres = services.find_postgres(
        tmp_path / "postgres", {"DATABASE_URL": "sqlite:///x"}, settings=services.NOT_DURABLE
    )
    assert found_redis
    assert found_postgres
    assert (found_redis.source, found_postgres.source) == ("wheel", "wheel")
    for server in (found_redis, found_postgres):
        assert "(wheel)" in services.describe(server)
        server.stop()
        server.stop()
        assert server.process
        assert server.process.returncode == 0


@pytest.mark.usefixtures("without_installed_programs")
def test_without_any_program_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_wheel_folders", lambda package: [])
    assert services.find_redis(tmp_path, NOTHING) is None
    assert services.find_postgres(tmp_path, NOTHING) is None


def test_a_program_that_does_not_start_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "redis-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=os.pathsep)
    found = services.find_redis(tmp_path, NOTHING)
    assert found
    assert found.source == "wheel"
    found.stop()


def test_both_servers_want_their_password_and_listen_on_the_loopback_alone(tmp_path: Path) -> None:
    found_redis = services.find_redis(tmp_path / "redis", NOTHING)
    found_postgres = services.find_postgres(tmp_path / "postgres", NOTHING, settings=services.NOT_DURABLE)
    assert found_redis
    assert found_postgres
    with redis.Redis(port=urlsplit(found_redis.url).port or 0) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(found_postgres.url.replace(urlsplit(found_postgres.url).password or "", "guessed"))
    with redis.Redis.from_url(found_redis.url) as client, psycopg.connect(found_postgres.url) as connection:
        assert client.config_get("bind")["bind"].split()[0] == "127.0.0.1"
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
    for server in (found_redis, found_postgres):
        assert server.process
        shown = subprocess.run(["ps", "-o", "args=", "-p", str(server.process.pid)], capture_output=True, check=True)
        assert (urlsplit(server.url).password or "").encode() not in shown.stdout
        server.stop()


def test_a_second_start_keeps_the_data(tmp_path: Path) -> None:
    for statement in ("CREATE TABLE readers (name text)", "INSERT INTO readers VALUES ('Ada')"):
        found = services.find_postgres(tmp_path, NOTHING)
        assert found
        with psycopg.connect(found.url) as connection:
            connection.execute(statement)
        found.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_end_with_whoever_started_them(tmp_path: Path, number: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS_BOTH, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert starter.stdout
    pids = [int(pid) for pid in starter.stdout.readline().split()]
    assert len(pids) == 2
    starter.send_signal(number)
    starter.wait(30)
    starter.stdout.close()
    until(lambda: not any(_runs(pid) for pid in pids), "the servers are gone")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
