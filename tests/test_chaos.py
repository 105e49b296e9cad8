"""The chaos harness: that its verdict is worth something, and a small run of it. `make chaos` is the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from django.db import connection

from bench.chaos import verdict
from bench.chaos.verdict import Row, Verdict
from newsletter import deliveries, stats, tasks
from newsletter.celery import app
from newsletter.models import Attempt, Delivery
from newsletter.settings import ENV
from tests.conftest import ROOT
from tests.making import issue_of, make_dispatch, make_newsletter

SMALL = (
    "worker-killed",
    "worker-terminated",
    "broker-emptied",
    "database-restarted",
    "disk-full",
    "rung-often",
)
SECONDS = 600.0  # for the small run on a machine that is busy with other things


def judge(**changes: object) -> Verdict:
    """The verdict on three readers, all of whom got one copy where `changes` say nothing else."""
    case = {
        "readers": ["ada", "bob", "eve"],
        "rows": [Row(1, "ada", "sent"), Row(2, "bob", "sent"), Row(3, "eve", "sent")],
        "copies": {"ada": 1, "bob": 1, "eve": 1},
        "doubts": {},
    }
    return verdict.compare("a fault", **{**case, **changes})  # type: ignore[arg-type]


def test_one_copy_each_is_sound() -> None:
    assert judge() == Verdict("a fault", 3, 3, 0, 0, 0, 0, 0)
    assert judge().faults() == []


def test_a_reader_without_a_copy_is_lost_whatever_the_row_says() -> None:
    assert judge(copies={"ada": 1, "bob": 1}).lost == 1
    assert judge(rows=[Row(1, "ada", "sent"), Row(2, "bob", "sent")], copies={"ada": 1, "bob": 1}).lost == 1
    assert judge(copies={"ada": 1, "bob": 1}).faults() == ["1 readers are lost."]


def test_a_reader_without_a_copy_is_not_lost_where_the_report_doubts_it_or_the_case_excuses_it() -> None:
    rows = [Row(1, "ada", "sent"), Row(2, "bob", "unconfirmed"), Row(3, "eve", "skipped")]
    found = judge(rows=rows, copies={"ada": 1}, doubts={2: "No answer."}, excused={"eve"}, bound=1)
    assert (found.sent, found.lost, found.in_doubt, found.unlisted) == (1, 0, 1, 0)
    assert found.faults() == []


def test_two_copies_are_one_too_many_unless_the_author_sent_the_second() -> None:
    copies = {"ada": 1, "bob": 2, "eve": 3}
    assert judge(copies=copies).twice == 2
    assert judge(copies=copies, resent=[2]).twice == 1
    assert judge(copies=copies).faults() == ["2 readers got it twice."]


def test_a_doubt_that_the_report_does_not_name_is_unlisted() -> None:
    rows = [Row(1, "ada", "sent"), Row(2, "bob", "unconfirmed"), Row(3, "eve", "queued")]
    assert judge(rows=rows).unlisted == 2
    assert judge(rows=rows, doubts={2: "No answer."}, bound=1).faults() == ["1 doubts are not in the report."]


def test_more_doubts_than_the_fault_may_leave_are_a_fault() -> None:
    found = judge(doubts={1: "The worker ended.", 2: "No answer.", 3: "No answer."}, bound=1)
    assert found.faults() == ["3 are in doubt where at most 1 may be: No answer.; The worker ended."]


def test_what_else_a_case_found_is_a_fault() -> None:
    assert judge(broken=["It went out on a Monday."]).faults() == ["It went out on a Monday."]


@pytest.mark.django_db
def test_a_transaction_whose_worker_froze_ends_with_the_lease() -> None:
    if connection.vendor != "postgresql":  # SQLite's locks end with the program that holds them; others wait so long
        assert connection.settings_dict["OPTIONS"]["timeout"] > 0
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'")
        assert cursor.fetchone() == (round(ENV.lease_seconds * 1000),)


@pytest.mark.django_db
def test_the_report_names_every_doubt_however_many_there_are() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    first = dispatch.deliveries.get()
    frozen = {"dispatch": dispatch, "profile": first.profile, "batch": first.batch}
    Delivery.objects.bulk_create(Delivery(**frozen, status="unconfirmed", tries=1) for _ in range(1100))
    assert len(stats.full_report(issue_of(dispatch))["doubts"]) == 1100


@pytest.mark.django_db
def test_what_was_never_begun_is_no_doubt_though_the_lease_ran_out_meanwhile() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    batch = dispatch.batches.get()
    attempt = Attempt.objects.create(batch=batch, worker="w", transport="smtp", idempotency_key=uuid.uuid4())
    begun = dispatch.deliveries.earliest("pk")
    dispatch.deliveries.update(status="sending", tries=1, attempt=attempt)
    deliveries.doubt(batch)
    assert deliveries.put_back(attempt, dispatch.deliveries.exclude(pk=begun.pk).values_list("pk", flat=True)) == 2
    assert stats.count(dispatch)["unconfirmed"] == 1
    assert set(dispatch.deliveries.exclude(pk=begun.pk).values_list("status", "tries")) == {("queued", 0)}


def test_what_looks_at_the_rows_does_not_queue_behind_what_it_rang() -> None:
    queue_of = {
        task.name: app.amqp.router.route({}, task.name)["queue"].name for task in (tasks.tick, tasks.send_batch)
    }
    assert len(set(queue_of.values())) == 2
    assert set(queue_of.values()) <= set(app.amqp.queues.consume_from)


def test_a_small_run_loses_nobody_and_mails_nobody_twice(tmp_path: Path) -> None:
    answer = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "bench.chaos", "--readers", "200", "--kills", "3", "--chunk", "5"]
    command += [word for fault in SMALL for word in ("--only", fault)]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"CHAOS_JSON": str(answer)},
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    cases = {case["fault"]: case for case in json.loads(answer.read_text())["cases"]}
    assert list(cases) == list(SMALL)
    for case in cases.values():
        assert (case["lost"], case["twice"], case["unlisted"]) == (0, 0, 0)
        assert case["in_doubt"] <= case["bound"]
        assert case["readers"] > 0
