"""`manage.py health`: says by its exit status, and in a sentence, whether a service on this machine works."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from newsletter.demo import services
from newsletter.management.commands.health import BEAT_SECONDS
from tests.conftest import ROOT


@pytest.fixture
def schedule(settings: Settings, tmp_path: Path) -> Path:
    path = tmp_path / "beat-schedule"
    settings.CELERY_BEAT_SCHEDULE_FILENAME = str(path)
    return path


@pytest.fixture
def ailing_web_server() -> Iterator[int]:
    """The port of a web server that answers everything with 503."""

    class Ailing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Ailing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_beat_that_has_written_lately_works(schedule: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule.with_suffix(".db").touch()
    call_command("health", "beat")
    assert capsys.readouterr().out == "beat works.\n"


def test_a_beat_that_stopped_writing_does_not_work(schedule: Path) -> None:
    schedule.touch()
    long_ago = time.time() - BEAT_SECONDS - 1
    os.utime(schedule, (long_ago, long_ago))
    with pytest.raises(CommandError, match="too long"):
        call_command("health", "beat")


@pytest.mark.usefixtures("schedule")
def test_a_beat_that_never_rang_does_not_work() -> None:
    with pytest.raises(CommandError, match="Beat has never rung"):
        call_command("health", "beat")


def test_a_web_server_that_is_away_does_not_work() -> None:
    with pytest.raises(CommandError, match="does not answer on port"):
        call_command("health", "web", port=services.free_port())


def test_a_web_server_that_answers_with_an_error_does_not_work(ailing_web_server: int) -> None:
    with pytest.raises(CommandError, match="answers with status 503"):
        call_command("health", "web", port=ailing_web_server)


@pytest.mark.parametrize(
    ("broker", "sentence"), [("away", "The broker does not answer"), ("there", "The worker celery@")]
)
def test_a_worker_that_is_away_does_not_work(broker: str, sentence: str, environment: dict[str, str]) -> None:
    changes = {"REDIS_URL": f"redis://127.0.0.1:{services.free_port()}/0"} if broker == "away" else {}
    command = [sys.executable, "manage.py", "health", "worker"]
    asked = subprocess.run(
        command, env=environment | changes, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert asked.returncode == 1
    assert sentence in asked.stderr
    assert "Traceback" not in asked.stderr
