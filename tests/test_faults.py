"""Workers that are killed in the middle: nobody lost, nobody mailed twice, every doubt listed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from django.conf import settings

from newsletter import scheduling, stats
from newsletter.models import Delivery, Dispatch
from tests.conftest import Start
from tests.making import make_issue, make_newsletter, make_reader, make_subscriber
from tests.smtp_sink import SmtpSink
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

READERS, CHUNK, KILLS = 120, 8, 4
# A lease that ends soon, so that what a killed worker held is soon in doubt and the rest goes on.
QUICK = {
    "CHUNK_SIZE": str(CHUNK),
    "BATCH_SIZE": "40",
    "SMTP_TIMEOUT": "1",
    "LEASE_SECONDS": "3",
    "RETRY_SECONDS": "0.2",
}
EMBEDDED = [(sys.executable, "manage.py", "work")]
CELERY = [
    (sys.executable, "-m", "celery", "-A", "newsletter", "worker", "--concurrency", "2"),
    (sys.executable, "-m", "celery", "-A", "newsletter", "beat"),
]


def kill(program: subprocess.Popen[bytes]) -> None:
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()


def account(dispatch: Dispatch, sink: SmtpSink) -> dict[str, int]:
    """Hold the report against the mail server's own list; returns lost, twice and in_doubt."""
    dispatch.refresh_from_db()
    report = stats.count(dispatch)
    assert stats.sums_agree(report)
    found = {"lost": 0, "twice": 0, "in_doubt": 0}
    for delivery in dispatch.deliveries.select_related("subscriber"):
        assert delivery.subscriber is not None
        copies = sink.count(delivery.subscriber.address)
        found["twice"] += copies > 1
        found["in_doubt"] += delivery.status == Delivery.Status.UNCONFIRMED
        found["lost"] += copies == 0 and delivery.status != Delivery.Status.UNCONFIRMED
    assert len(stats.doubts(dispatch)) == found["in_doubt"] == report["unconfirmed"]
    return found


@pytest.mark.parametrize("programs", [EMBEDDED, CELERY], ids=["embedded", "celery"])
def test_killed_workers_lose_nobody_and_mail_nobody_twice(start: Start, programs: list[tuple[str, ...]]) -> None:
    weekly = make_newsletter()
    for _ in range(READERS):
        make_reader(weekly)
    chance = random.Random(7)
    with SmtpSink(answers={"message": lambda _: time.sleep(0.02)}) as sink:
        environment = {**QUICK, "SMTP_URL": sink.url}
        dispatch = scheduling.schedule(make_issue(weekly))
        kills = 0
        while kills < KILLS:
            running = [start(*command, **environment) for command in programs]
            before = sink.count()
            goal = min(before + chance.randint(1, READERS // (KILLS + 1)), READERS - 1)
            until(lambda goal=goal: sink.count() >= goal, f"{goal} mails")  # type: ignore[misc]
            for program in running:
                kill(program)
            kills += 1
        for command in programs:
            start(*command, **environment)
        until(lambda: Dispatch.objects.filter(status=Dispatch.Status.SENT).exists(), "the dispatch is sent", seconds=60)
        found = account(dispatch, sink)
    workers = 4 if programs == EMBEDDED else 2
    assert (found["lost"], found["twice"]) == (0, 0)
    assert found["in_doubt"] <= CHUNK * workers * KILLS


@pytest.mark.parametrize(
    ("programs", "number"),
    [(EMBEDDED, signal.SIGTERM), (CELERY, signal.SIGTERM), (CELERY, signal.SIGQUIT)],
    ids=["embedded", "celery", "celery in haste"],
)
def test_a_worker_asked_to_stop_finishes_its_chunk_and_leaves_no_doubt(
    start: Start, programs: list[tuple[str, ...]], number: signal.Signals
) -> None:
    weekly = make_newsletter()
    for _ in range(READERS):
        make_reader(weekly)
    with SmtpSink(answers={"message": lambda _: time.sleep(0.02)}) as sink:
        environment = {**QUICK, "SMTP_URL": sink.url}
        dispatch = scheduling.schedule(make_issue(weekly))
        running = [start(*command, **environment) for command in programs]
        until(lambda: sink.count() > 5, "some mails")
        running[0].send_signal(number)
        for program in running[1:]:
            program.terminate()
        for program in running:
            program.wait(settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT + 30)
        report = stats.count(dispatch)
        assert report["unconfirmed"] == report["sending"] == 0
        assert report["sent"] == sink.count()
        assert report["queued"] == READERS - sink.count() > 0
        start(*EMBEDDED[0], **environment)
        until(lambda: sink.count() == READERS, "all mails", seconds=60)
        until(lambda: Dispatch.objects.filter(status=Dispatch.Status.SENT).exists(), "the dispatch is sent")
        assert account(dispatch, sink) == {"lost": 0, "twice": 0, "in_doubt": 0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["work", "send_issue"])
def test_a_command_that_sends_leaves_no_doubt_however_it_is_stopped(
    start: Start, command: str, number: signal.Signals
) -> None:
    weekly = make_newsletter()
    for _ in range(READERS):
        make_reader(weekly)
    issue = make_issue(weekly)
    with SmtpSink(answers={"message": lambda _: time.sleep(0.02)}) as sink:
        words = [command, str(issue.pk)]
        if command == "work":
            scheduling.schedule(issue)
            words.pop()
        program = start(sys.executable, "manage.py", *words, **QUICK, SMTP_URL=sink.url, REDIS_URL="")
        until(lambda: sink.count() > 5, "some mails")
        program.send_signal(number)
        exit_status = program.wait(20)
        report = stats.count(issue.dispatches.get())
        assert report["unconfirmed"] == report["sending"] == 0
        assert report["sent"] == sink.count()
        assert report["queued"] == READERS - sink.count() > 0
        assert exit_status == (1 if command == "send_issue" else 0)


@pytest.mark.parametrize(
    "programs",
    [EMBEDDED, [(*CELERY[0][:-1], "1"), CELERY[1]]],
    ids=["embedded", "celery"],
)
def test_a_confirmation_goes_out_in_the_middle_of_a_large_send(start: Start, programs: list[tuple[str, ...]]) -> None:
    """Every worker is busy with batches that last longer than anybody would wait."""
    weekly = make_newsletter()
    for _ in range(800):
        make_reader(weekly)
    with SmtpSink(answers={"message": lambda _: time.sleep(0.1)}) as sink:
        environment = {
            **QUICK,
            "SMTP_URL": sink.url,
            "BATCH_SIZE": "100",
            "SMTP_CONNECTIONS": "1",
            "LEASE_SECONDS": "30",
        }
        dispatch = scheduling.schedule(make_issue(weekly))
        for command in programs:
            start(*command, **environment)
        until(lambda: sink.count() > 20, "some mails")
        person = make_subscriber("asks@readers.example")
        scheduling.send_single(person, weekly, subject="Please confirm", body="Hello.")
        asked = time.monotonic()
        until(lambda: sink.count(person.address) == 1, "the confirmation")
        took = time.monotonic() - asked
        left = dispatch.deliveries.filter(status="queued").count()
    assert left > 100, f"it came after {took:.1f} s, when nearly everything was sent"
