"""`manage.py health web|worker|beat`: whether a service on this machine works, for container health checks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import requests
from celery.beat import Scheduler
from celery.utils.nodenames import default_nodename
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from kombu.exceptions import OperationalError

from newsletter.celery import app

ANSWER_SECONDS = 5
# Beat rings every few seconds and writes its schedule file every `sync_every` seconds while it does.
BEAT_SECONDS = Scheduler.sync_every + 60


class Command(BaseCommand):
    help = "Whether the service on this machine works; exit status 1 and the reason in a sentence where it does not."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", choices=["web", "worker", "beat"])
        parser.add_argument("--port", type=int, default=8000, help="port of the web server (default: 8000)")
        parser.add_argument("-n", "--name", default="", help="the worker's name, where it was started with one")

    def handle(self, *, service: str, port: int, name: str, **options: Any) -> str:
        if service == "web":
            _check_web(port)
        elif service == "worker":
            _check_worker(default_nodename(name))
        else:
            _check_beat(Path(settings.CELERY_BEAT_SCHEDULE_FILENAME))
        return f"{service} works."


def _check_web(port: int) -> None:
    address = f"http://127.0.0.1:{port}/healthz"
    try:
        answer = requests.get(address, timeout=ANSWER_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise CommandError(f"The web server does not answer on port {port}: is it running?") from error
    if answer.status_code != requests.codes.ok:
        raise CommandError(f"{address} answers with status {answer.status_code}: see the web server's log.")


def _check_worker(name: str) -> None:
    try:
        answers = app.control.inspect(destination=[name], timeout=ANSWER_SECONDS).ping()
    except (OperationalError, OSError) as error:
        raise CommandError("The broker does not answer: check REDIS_URL and whether Redis runs.") from error
    if not answers:
        raise CommandError(f"The worker {name} does not answer within {ANSWER_SECONDS} seconds: is it running?")


def _check_beat(schedule: Path) -> None:
    # Python's shelve adds an ending of its own to the name on some systems.
    written = [path.stat().st_mtime for path in schedule.parent.glob(f"{schedule.name}*")]
    if not written:
        raise CommandError(f"Beat has never rung: there is no {schedule}. Is it running with the same DATA_DIR?")
    age = time.time() - max(written)
    if age > BEAT_SECONDS:
        raise CommandError(
            f"Beat wrote its schedule {age:.0f} seconds ago, too long: is it running, and does Redis answer?"
        )
