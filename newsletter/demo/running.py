"""The demo from start to end: a database, a web server, workers, a local SMTP server, and an issue that goes out.

Everything lives in one folder and on the loopback; no mail and no request leaves the machine. What is in the folder is
kept: a second start finds it in place, and sends nothing twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shlex
import signal
import smtplib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from newsletter.demo import services
from newsletter.demo.preparing import LOGIN
from newsletter.demo.programs import Ended, Programs, Told
from newsletter.environment import BASE_DIR
from newsletter.mailbox.store import Store

HOST = "127.0.0.1"
START_SECONDS = 60.0  # for any one program to answer, on a slow machine
WORKER = "demo@localhost"
PYTHON = sys.executable
MANAGE = str(BASE_DIR / "manage.py")
ENVIRONMENT = "environment"  # the file that says what the demo's programs are told

Say = Callable[[str], None]


class CannotStart(Exception):
    """The demo cannot start as things are; the message says why and what to do. Nothing was started."""


def port_from(text: str) -> int:
    """The port that DEMO_PORT asks for. Raises CannotStart where it is none, or may not be used."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 65535):
        raise CannotStart(f"DEMO_PORT is “{text}”, which is no port: choose a number from 1024 to 65535.")
    port = int(text)
    other = f"Choose another one, as in: DEMO_PORT={port + 1 if 1024 <= port < 65535 else 8001} make demo"
    with socket.socket() as probe:
        # A connection that ended a moment ago does not make a port taken; a server that listens does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise CannotStart(f"Port {port} is kept for the system's own services. {other}") from None
        except OSError:
            raise CannotStart(f"Port {port} is taken by another program. {other}") from None
    return port


def run(port: int, folder: Path, say: Say) -> int:
    """Run the demo on `port` with its data in `folder` until it is told to stop (SIGINT, SIGTERM, SIGHUP).

    `say` takes a line for the person who started it. Gives the exit status: 0 when told to stop, 1 when a program
    ended by itself. Raises CannotStart where another demo runs on this folder or a named Redis does not answer.
    Call it from the main thread: it sets signal handlers, and the programs end with that thread.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with _alone(folder), _told() as stopping:
        try:
            redis = services.find_redis(folder / "redis", settings=services.KEEPING)
        except services.Unreachable as error:
            raise CannotStart(str(error)) from error
        smtp_port = services.free_port()
        mailbox = folder / "mailbox.sqlite3"
        chosen = {
            "DJANGO_SETTINGS_MODULE": "newsletter.settings",
            "DATA_DIR": str(folder),
            "DATABASE_URL": "",  # the SQLite file in DATA_DIR: a database named for other work stays as it is
            "REDIS_URL": redis.url if redis else "",
            "SMTP_URL": f"smtp://{HOST}:{smtp_port}",
            "PROVIDER": "",
            "SITE_URL": f"http://{HOST}:{port}",
            "MAILBOX_PATH": str(mailbox),
            "BEHIND_PROXY": "false",
            "HOOKS_PRIVATE": "true",  # a receiver to try out runs on this machine
            # Beat and worker write three lines a second at INFO.
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
            "PYTHONUNBUFFERED": "1",
        }
        _keep(folder / ENVIRONMENT, chosen)
        programs = Programs({**os.environ, **chosen}, BASE_DIR, logs, stopping)
        try:
            if redis and redis.process:
                programs.watch("Redis", redis.process, folder / "redis" / "redis.log")
            _play(programs, port, smtp_port, mailbox, redis, say)
        except Told:
            say("Stopping …")
            return 0
        except Ended as error:
            say(str(error))
            say("The demo stops.")
            return 1
        finally:
            programs.end()
            if redis:
                redis.stop()
            say(f"Stopped. The data stays in {folder}.")
    return 0


def _play(
    programs: Programs, port: int, smtp_port: int, mailbox: Path, redis: services.Server | None, say: Say
) -> None:
    """What the demo shows, in order; leaves by Told or Ended."""
    site = f"http://{HOST}:{port}"
    say(f"Making the database ready in {mailbox.parent} …")
    facts: dict[str, Any] = json.loads(programs.run("preparation", PYTHON, "-m", "newsletter.demo.preparing"))
    programs.start(
        "mail server",
        PYTHON,
        MANAGE,
        "mailbox_server",
        "--host",
        HOST,
        "--port",
        str(smtp_port),
        "--store",
        str(mailbox),
    )
    server = ("--host", HOST, "--port", str(port), "--workers", "1", "--blocking-threads", "4")
    programs.start("web server", PYTHON, "-m", "granian", "--interface", "wsgi", *server, "newsletter.wsgi:application")
    if redis:
        say(f"{services.describe(redis)}: a Celery worker and a beat do the sending.")
        celery = (PYTHON, "-m", "celery", "-A", "newsletter")
        programs.start("worker", *celery, "worker", "--concurrency", "2", "-n", WORKER)
        programs.start("beat", *celery, "beat", "--pidfile=")
    else:
        say(f"{services.NO_REDIS} Until then one process, `manage.py work`, does the sending.")
        programs.start("worker", PYTHON, MANAGE, "work")

    programs.wait_until(lambda: _smtp_answers(smtp_port), START_SECONDS, _silent("mail server", programs))
    programs.wait_until(lambda: _web_answers(port), START_SECONDS, _silent("web server", programs))
    if redis:
        asking = Celery(broker=redis.url)
        programs.wait_until(lambda: _worker_answers(asking), START_SECONDS, _silent("worker", programs))

    title = facts["title"]
    if facts["status"] is None:
        say(f"Sending “{title}” to {facts['readers']} readers …")
        programs.show("sending of the issue", PYTHON, MANAGE, "send_issue", str(facts["issue"]))
    elif facts["status"] == "sent":
        say(f"“{title}” went out at an earlier start and is not sent again.")
    else:
        say(f"“{title}” is {facts['status']} since an earlier start; the admin shows it.")
    with Store(mailbox) as store:
        say(f"Mails in the mailbox: {store.count()}.")
    say(
        f"\n  Mailbox      {site}/mailbox/\n"
        f"  Admin        {site}/admin/   (name {LOGIN}, password {LOGIN})\n"
        f"  Public page  {site}/{facts['newsletter']}/\n"
        f"  Commands     . {_short(str(mailbox.parent / ENVIRONMENT))}; {_short(PYTHON)} {_short(MANAGE)}"
        f" issue_report {facts['newsletter']}/1\n\n"
        "Ctrl-C stops everything."
    )
    programs.wait()


def _keep(path: Path, environment: dict[str, str]) -> None:
    """Write what programs of the demo are told, for a shell that is to run others; it holds Redis's password."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def _short(path: str) -> str:
    """As one types it here."""
    relative = os.path.relpath(path)
    # "." looks in the working folder only where the path has a slash.
    return shlex.quote(path if relative.startswith("..") else f"./{relative}")


def _silent(name: str, programs: Programs) -> str:
    return f"The {name} does not answer after {START_SECONDS:.0f} seconds; its log is in {programs.logs}."


def _smtp_answers(port: int) -> bool:
    try:
        with smtplib.SMTP(HOST, port, timeout=5):
            return True
    except (OSError, smtplib.SMTPException):
        return False


def _web_answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _worker_answers(asking: Celery) -> bool:
    try:
        return bool(asking.control.inspect(destination=[WORKER], timeout=0.5).ping())
    except (OperationalError, OSError):
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other demos away from `folder`; the system lets go of the lock when we die."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"A demo is running with the data in {folder}: stop it first with Ctrl-C.") from None
        yield


@contextlib.contextmanager
def _told() -> Iterator[threading.Event]:
    """An event that is set by the signals that mean “stop”, instead of what they do otherwise."""
    stopping = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
