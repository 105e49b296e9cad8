"""How PostgreSQL goes about the statements of a chunk, on a table whose statistics are of another hour."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from newsletter.models import Dispatch
from newsletter.settings import ENV
from tests.making import make_dispatch, make_newsletter
from tests.sending import send, sinking
from tests.smtp_sink import SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

READERS, CHUNK = 60, 4


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpSink]:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite plans by other rules")
    monkeypatch.setitem(ENV.__dict__, "chunk_size", CHUNK)
    with sinking(monkeypatch) as running:
        yield running


def rows_looked_at(plan: dict[str, Any]) -> int:
    """The most deliveries that any step of `plan` went through, those it left out included."""
    here = 0
    if plan.get("Relation Name") == "newsletter_delivery" and plan["Node Type"] != "ModifyTable":
        left_out = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        here = int((plan["Actual Rows"] + left_out) * plan["Actual Loops"])
    return max([here, *map(rows_looked_at, plan.get("Plans", []))])


def explained(plans: list[int]) -> Callable[..., Any]:
    """Ask how each claim is gone about before it is run, and undo that."""

    def ask(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if "AS MATERIALIZED" in sql and not sql.startswith("EXPLAIN"):
            with transaction.atomic(), connection.cursor() as cursor:
                # What is small is read as a whole, whatever the indexes.
                cursor.execute("SET LOCAL enable_seqscan = off")
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
                (found,) = cursor.fetchone()
                plans.append(rows_looked_at((json.loads(found) if isinstance(found, str) else found)[0]["Plan"]))
                transaction.set_rollback(True)
        return execute(sql, params, many, context)

    return ask


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE newsletter_delivery")


def test_a_claim_looks_at_its_chunk_though_nothing_was_queued_when_statistics_were_made(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    send(make_dispatch(weekly, readers=READERS))
    analyze()
    dispatch = make_dispatch(weekly)
    plans: list[int] = []
    with connection.execute_wrapper(explained(plans)):
        assert send(dispatch).claimed == READERS
    assert len(plans) >= READERS // CHUNK
    assert max(plans) <= 3 * CHUNK


def plans_of(dispatch: Dispatch) -> dict[str, tuple[str, int]]:
    """The statements that were prepared for it: by name, each with its words and how often it needed no planning."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, statement, generic_plans FROM pg_prepared_statements WHERE statement LIKE %s",
            [f"/* dispatch {dispatch.pk} */%"],
        )
        return {name: (statement, count) for name, statement, count in cursor.fetchall()}


def test_a_chunk_is_planned_once_and_anew_for_another_issue(sink: SmtpSink) -> None:
    weekly = make_newsletter()
    for readers in (READERS, 0):
        dispatch = make_dispatch(weekly, readers=readers)
        assert send(dispatch).claimed == READERS
        found = plans_of(dispatch)
        assert len(found) == 3, "a claim, its answers, the end of its attempt"
        assert min(count for _, count in found.values()) > 0, "one plan for any chunk"


def test_the_plan_for_any_chunk_finds_what_is_queued_by_its_index(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=READERS)
    send(dispatch)
    (claim,) = [name for name, (statement, _) in plans_of(dispatch).items() if "AS MATERIALIZED" in statement]
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("SET LOCAL enable_seqscan = off")  # what is small is read as a whole, whatever the indexes
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute("SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = %s", [claim])
        (params,) = cursor.fetchone()
        cursor.execute(f'EXPLAIN EXECUTE "{claim}" ({", ".join(["NULL"] * params)})')
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "using delivery_queued" in plan
