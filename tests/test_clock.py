"""Leases and a machine that sleeps: what is held against a lease is measured on a clock that goes on meanwhile."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from newsletter import clock, stats
from newsletter.models import Batch
from tests.conftest import ROOT, Start
from tests.making import make_dispatch, make_newsletter
from tests.smtp_sink import EXTENSIONS, WITH_CHUNKING, Session, SmtpSink
from tests.waiting import until


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("extensions", "step"),
    [(EXTENSIONS[1:], "DATA"), (EXTENSIONS, "DATA"), (WITH_CHUNKING, "message")],
    ids=["step by step", "pipelining", "chunking"],
)
def test_a_worker_whose_machine_slept_past_its_lease_sends_nothing_more(
    start: Start, tmp_path: Path, extensions: tuple[str, ...], step: str
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=4)
    batch = Batch.objects.get()

    def falls_asleep(session: Session) -> None:
        """While the second message is under way, or the first is about to be answered."""
        if session.kept == (1 if step == "DATA" else 0) and not (tmp_path / "slept").exists():
            Batch.objects.update(leased_until=timezone.now() - timedelta(hours=1))  # the database's clock went on
            connection.close()
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR1)
            until(lambda: (tmp_path / "slept").exists(), "the machine slept and woke")

    word = "354" if step == "DATA" else "kept"
    with SmtpSink(extensions=extensions, answers={step: falls_asleep}) as sink:
        program = start(sys.executable, "tests/asleep.py", str(batch.pk), str(tmp_path), word, SMTP_URL=sink.url)
        assert program.wait(60) == 0
        assert sink.count() == 1, "one left before, and none after"
    report = stats.count(dispatch)
    assert (report["sent"], report["queued"]) == (1, 3), list(dispatch.deliveries.values_list("status", "reply"))


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts its sleep apart")
def test_the_clock_counts_the_machines_sleep() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock.now() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_nothing_that_sends_asks_another_clock() -> None:
    transports = (ROOT / "newsletter" / "transports").rglob("*.py")
    files = [ROOT / "newsletter" / "sending.py", ROOT / "newsletter" / "proofs.py", *transports]
    other = re.compile(r"monotonic|perf_counter|\btime\.time\b|clock_gettime|from time import")
    assert [str(file.relative_to(ROOT)) for file in files if other.search(file.read_text())] == []
