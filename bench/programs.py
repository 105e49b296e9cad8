"""Web server, worker and beat for measuring, started as docker-compose.yml starts them."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from newsletter.demo import services

COMPOSE = Path(__file__).resolve().parents[1] / "docker-compose.yml"


@contextmanager
def running(environment: dict[str, str]) -> Iterator[int]:
    """All three in `environment`, until the `with` ends; the web server's port."""
    port = services.free_port()
    folder = Path(environment["DATA_DIR"])
    begun = []
    try:
        for name in ("web", "worker", "beat"):
            command = yaml.safe_load(COMPOSE.read_text())["services"][name]["command"]
            words = [str(port) if word == "8000" else word for word in command]
            with (folder / f"{name}.log").open("wb") as log:
                begun.append(
                    subprocess.Popen(
                        [*services.leash(), sys.executable, "-m", *words],
                        env=environment,
                        stdout=log,
                        stderr=log,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )
        wait(lambda: _answers(port), 60, f"The web server does not answer; its log is in {folder}.")
        wait(_worker_answers, 60, f"The worker does not answer; its log is in {folder}.")
        yield port
    finally:
        for program in begun:
            program.terminate()
        for program in begun:
            program.wait(60)


def wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Until `condition` holds. Raises SystemExit saying `otherwise` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(otherwise)
        time.sleep(0.1)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _worker_answers() -> bool:
    from newsletter.celery import app

    return bool(app.control.inspect(timeout=0.5).ping())
