"""The whole way by command line: Celery worker, beat and web server as processes, a real Redis, a real mail server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from newsletter.demo import services
from tests.conftest import ROOT, Start
from tests.making import BROWSER
from tests.smtp_sink import SmtpSink
from tests.waiting import until

FIXTURES = Path(__file__).parent / "fixtures" / "issues"
READERS = 200
CELERY = (sys.executable, "-m", "celery", "-A", "newsletter")


def run(environment: dict[str, str], *command: str) -> dict[str, Any]:
    """`manage.py` with `command` and `--json`: what it answers."""
    done = subprocess.run(
        [sys.executable, "manage.py", *command, "--json"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text


def fetch(url: str, data: bytes | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, data=data, headers={"User-Agent": BROWSER})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.url


@pytest.fixture
def readers_file(tmp_path: Path) -> Path:
    """200 readers; every fourth pays."""
    path = tmp_path / "readers.csv"
    rows = [f"reader{n}@readers.example,Reader {n},{'paid' if n % 4 == 0 else 'free'}" for n in range(READERS)]
    path.write_text("\n".join(["email,name,tier", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.django_db(transaction=True)
def test_an_imported_issue_goes_to_its_readers_and_comes_back(
    environment: dict[str, str], start: Start, readers_file: Path
) -> None:
    port = services.free_port()
    site = f"http://127.0.0.1:{port}"
    with SmtpSink() as sink:
        environment |= {"SMTP_URL": sink.url, "SITE_URL": site}
        start(
            sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "newsletter.wsgi:application"
        )
        start(*CELERY, "worker", "--concurrency", "2", "--loglevel", "INFO")
        start(*CELERY, "beat", "--loglevel", "INFO")

        run(environment, "create_newsletter", "weekly", "--name", "Loom Weekly", "--tracking", "individual")
        imported = run(environment, "import_subscribers", str(readers_file), "--newsletter", "weekly")
        assert imported["added"] == READERS
        paid_heading = "Yarns That Arrived This Week"
        first = run(
            environment,
            *("import_issue", str(FIXTURES / "loom-weekly-11.txt"), "--newsletter", "weekly", "--paid", paid_heading),
        )
        paid = next(section for section in first["sections"] if section["audience"] != "everyone")
        assert paid_heading in paid["heading"]

        report = run(environment, "send_issue", str(first["issue"]))
        assert report["sent"] == report["deliveries"] == report["candidates"] == READERS
        assert sink.count() == READERS
        assert len({mail.message_id for mail in sink.messages()}) == READERS

        words = paid_words(environment, first["issue"], paid["heading"])
        for number in range(READERS):
            mail = sink.messages(f"reader{number}@readers.example")[0].parsed()
            everything = mail.as_string() + body(mail, "plain") + body(mail, "html")
            found = [word for word in words if word in everything]
            assert found == (words if number % 4 == 0 else []), f"reader {number}"

        mail = sink.messages("reader1@readers.example")[0].parsed()
        html = body(mail, "html")
        until(lambda: fetch(f"{site}/healthz")[0] == 200, "the web server answers")
        pixel = re.search(rf"{site}/o/[\w-]+", html)
        assert pixel is not None
        fetch(pixel[0])
        until(lambda: run(environment, "issue_report", str(first["issue"]))["opened"] == 1, "the open is counted")

        leave = mail["List-Unsubscribe"].strip("<>")
        assert fetch(leave)[0] == 200
        assert run(environment, "issue_report", str(first["issue"]))["unsubscribed"] == 0
        status, url = fetch(leave, b"List-Unsubscribe=One-Click")
        assert (status, url) == (200, leave)
        assert run(environment, "issue_report", str(first["issue"]))["unsubscribed"] == 1

        second = run(environment, "import_issue", str(FIXTURES / "loom-weekly-4.txt"), "--newsletter", "weekly")
        report = run(environment, "send_issue", str(second["issue"]))
        assert (report["sent"], report["excluded"]) == (READERS - 1, {"unsubscribed": 1})
        assert sink.count("reader1@readers.example") == 1
        assert sink.count("reader2@readers.example") == 2


def paid_words(environment: dict[str, str], issue: int, heading: str) -> list[str]:
    """Words of the paid section that stand nowhere else in the issue, as the author wrote them."""
    from newsletter.models import Section

    def words_of(section: Section) -> set[str]:
        return set(re.findall(r"[A-Za-z]{7,}", re.sub(r"\{\{.*?\}\}|<.*?>|https?:\S+", "", section.body)))

    sections = list(Section.objects.filter(issue=issue))
    others: set[str] = set().union(*(words_of(section) for section in sections if section.heading != heading))
    own = next(words_of(section) for section in sections if section.heading == heading)
    assert len(own - others) >= 3
    return sorted(own - others)
