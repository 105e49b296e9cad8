"""docker-compose.yml says what production is made of; here its services run as programs on local servers."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from psycopg import sql

from newsletter.demo import services
from tests.conftest import ROOT, StartWith
from tests.waiting import until

OURS = ("web", "worker", "beat", "migrate")
PROGRAMS = Path(sys.executable).parent


def read_compose(**environ: str) -> dict[str, Any]:
    """docker-compose.yml as Compose reads it: `${NAME:-default}` filled from `environ`, inner ones first."""
    text = (ROOT / "docker-compose.yml").read_text()
    variable = re.compile(r"\$\{(\w+):-([^${}]*)\}")
    while variable.search(text):
        text = variable.sub(lambda match: environ.get(match[1]) or match[2], text)
    compose: dict[str, Any] = yaml.safe_load(text)
    return compose


def health_command(service: dict[str, Any]) -> list[str]:
    form, *command = service["healthcheck"]["test"]
    assert form == "CMD"
    return list(command)


def all_run(programs: dict[str, subprocess.Popen[bytes]]) -> bool:
    return all(program.poll() is None for program in programs.values())


COMPOSE = read_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_every_variable_has_a_default_for_a_first_trial() -> None:
    assert "$" not in json.dumps(COMPOSE)


def test_there_are_our_services_and_what_they_need() -> None:
    assert set(SERVICES) == {*OURS, "postgres", "redis", "mailpit"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate"}))
def test_every_service_that_stays_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_the_migration_runs_after_the_database_and_before_everything_of_ours() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("web", "worker", "beat"):
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }


def test_every_volume_is_declared_and_used() -> None:
    mounted = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert mounted == set(COMPOSE["volumes"])


@pytest.mark.parametrize(
    ("name", "folder"),
    [("postgres", "/var/lib/postgresql/data"), ("redis", "/data"), *((ours, "/app/var") for ours in OURS)],
)
def test_what_must_survive_a_new_container_is_on_a_volume(name: str, folder: str) -> None:
    assert folder in [mount.partition(":")[2] for mount in SERVICES[name]["volumes"]]


def test_our_services_share_one_image_and_one_folder_of_keys() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name in OURS:
        assert (SERVICES[name]["build"], SERVICES[name]["image"]) == (".", "masthead")
        assert SERVICES[name]["environment"] == SERVICES["web"]["environment"]
    folder = SERVICES["web"]["environment"]["DATA_DIR"]
    assert f"DATA_DIR={folder}\n" in dockerfile
    assert f"\nVOLUME {folder}\n" in dockerfile
    assert f"\nCMD {json.dumps(SERVICES['web']['command'])}\n" in dockerfile
    assert json.dumps(health_command(SERVICES["web"])) in dockerfile


def test_the_addresses_name_services_as_these_are_set_up() -> None:
    environment = SERVICES["web"]["environment"]
    database, made = urlsplit(environment["DATABASE_URL"]), SERVICES["postgres"]["environment"]
    assert (database.hostname, database.port) == ("postgres", 5432)
    assert (database.username, database.password) == (made["POSTGRES_USER"], made["POSTGRES_PASSWORD"])
    assert database.path == f"/{made['POSTGRES_DB']}"
    assert urlsplit(environment["REDIS_URL"]).hostname == "redis"
    assert urlsplit(environment["SMTP_URL"]).hostname == "mailpit"


def test_a_setting_in_the_environment_goes_before_the_trial_default() -> None:
    own = read_compose(POSTGRES_PASSWORD="of my own", SITE_URL="https://news.example.org")
    environment = own["services"]["worker"]["environment"]
    assert environment["SITE_URL"] == "https://news.example.org"
    assert urlsplit(environment["DATABASE_URL"]).password == "of my own"
    assert own["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"] == "of my own"


def test_redis_keeps_what_it_holds_and_drops_nothing() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--appendfsync") + 1] == "always"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_only_the_loopback_is_published() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.fixture
def empty_postgres(tmp_path: Path) -> Iterator[str]:
    """The address of an empty PostgreSQL database, whichever database the suite runs on."""
    server = services.find_postgres(tmp_path / "postgres", settings=services.NOT_DURABLE)
    if not server:
        pytest.fail(services.NO_POSTGRES)
    name = f"compose_{secrets.token_hex(4)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield urlsplit(server.url)._replace(path=f"/{name}").geturl()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    server.stop()


@pytest.fixture
def local(empty_postgres: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment the file gives our services, with local addresses and folders for those in containers."""
    return {
        **SERVICES["web"]["environment"],
        "DATABASE_URL": empty_postgres,
        "REDIS_URL": redis_url,
        "DATA_DIR": str(tmp_path / "var"),
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
    }


def test_our_services_start_become_healthy_and_stop(local: dict[str, str], start_with: StartWith) -> None:
    port = str(services.free_port())
    on_port = {"8000": port}

    def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, env=local, cwd=ROOT, capture_output=True, check=False, timeout=120)

    def is_healthy(name: str) -> bool:
        extra = ["--port", port] if name == "web" else []
        return run([*health_command(SERVICES[name]), *extra]).returncode == 0

    assert not any(is_healthy(name) for name in ("web", "worker", "beat"))
    migrated = run(SERVICES["migrate"]["command"])
    assert migrated.returncode == 0, migrated.stderr.decode()

    running = {
        name: start_with(local, *(on_port.get(word, word) for word in SERVICES[name]["command"]))
        for name in ("web", "worker", "beat")
    }
    until(lambda: all(is_healthy(name) for name in running) or not all_run(running), "all are healthy", seconds=90)
    assert all_run(running)
    for name, program in running.items():
        program.terminate()
        assert program.wait(30) == 0, f"{name} leaves with an error"
