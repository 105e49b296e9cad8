"""The report of a large issue: 1,000,000 deliveries and 3,000,000 events on PostgreSQL.

    python -m bench.report            READERS=100000 for fewer
    EXPLAIN=1 python -m bench.report  and on stderr how the database answers each query

Rows are made by set-based SQL in the shapes that a send leaves: three in four sent, opened by Apple, Gmail and people
over three days, followed by people and scanners over 40 links. `report_ms` is the
longest of the report itself (`stats.full_report`) and the page that shows it, each the median of five with an empty
cache.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench import site

if TYPE_CHECKING:
    from newsletter.models import Dispatch, Issue

READERS = int(os.environ.get("READERS", "1000000"))
TIMES = 5
LINKS = 40

DELIVERIES = """
    INSERT INTO newsletter_delivery (dispatch_id, subscriber_id, profile_id, batch_id, status, reason, tries, reply,
        provider_id, settled_at, unsubscribed_at)
    SELECT %(dispatch)s, s.id, CASE WHEN mod(s.id / 10, 10) = 7 THEN %(counted)s ELSE %(followed)s END, %(batch)s,
        CASE WHEN mod(s.id, 100) < 97 THEN 'sent' WHEN mod(s.id, 100) = 97 THEN 'failed'
            WHEN mod(s.id, 1000) = 98 THEN 'unconfirmed' WHEN mod(s.id, 100) = 98 THEN 'sent' ELSE 'skipped' END,
        CASE WHEN mod(s.id, 100) = 99 THEN (ARRAY['unsubscribed', 'paused'])[mod(s.id, 2) + 1] ELSE '' END,
        1, '250 accepted', '', %(sent)s, CASE WHEN mod(s.id, 250) = 0 THEN %(sent)s END
    FROM subscribers_subscriber s ORDER BY s.id
"""
# Three for each reader: an open at delivery by a machine, one by whoever, and a click by a person or a scanner; the
# later the rarer.
EVENTS = """
    INSERT INTO newsletter_event (key, kind, at, source, newsletter_id, dispatch_id, delivery_id, subscriber_id, url,
        method, agent, network, prefetch, since_sent, judged, reasons, verdict, detail)
    SELECT gen_random_uuid(), CASE WHEN n = 3 THEN 'click' ELSE 'open' END,
        %(sent)s + make_interval(secs => exp(random() * 12.5)), CASE WHEN n = 3 THEN 'link' ELSE 'pixel' END,
        %(newsletter)s, %(dispatch)s, d.id, d.subscriber_id,
        CASE WHEN n = 3 THEN 'https://example.com/story/' || floor(power(random(), 2) * %(links)s) || '?from=weekly'
            ELSE '' END,
        'GET', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36',
        mod(d.id, 200) || '.' || mod(d.id, 250) || '.7.0/24', false, 60,
        CASE WHEN n = 1 THEN 'machine' WHEN mod(d.id, 5) = 0 THEN 'machine' WHEN mod(d.id, 50) = 1 THEN 'unknown'
            ELSE 'person' END,
        'plain', '', ''
    FROM newsletter_delivery d, generate_series(1, 3) n ORDER BY d.id
"""
# As `newsletter.events` counts them while they come.
TALLIES = """
    INSERT INTO newsletter_tally (dispatch_id, kind, judged, url_digest, url, hits, readers)
    SELECT dispatch_id, kind, coalesce(judged, ''), coalesce(md5(url), ''), coalesce(url, ''), count(*),
        count(DISTINCT delivery_id)
    FROM newsletter_event
    GROUP BY GROUPING SETS ((dispatch_id, kind), (dispatch_id, kind, judged), (dispatch_id, kind, url),
        (dispatch_id, kind, judged, url))
    HAVING GROUPING(url) = 1 OR url <> ''
"""
HOURS = """
    INSERT INTO newsletter_hour (dispatch_id, at, kind, judged, hits)
    SELECT dispatch_id, date_trunc('hour', at), kind, judged, count(*) FROM newsletter_event GROUP BY 1, 2, 3, 4
"""


def fill() -> Issue:
    """Make the rows; the issue whose report is asked for."""
    from django.utils import timezone

    from newsletter import scheduling
    from newsletter.models import Batch, Dispatch, DispatchProfile

    newsletter = site.make_newsletter()
    site.make_readers(newsletter, READERS)
    issue = site.make_issue(newsletter, links=LINKS)
    dispatch = scheduling.schedule(issue)
    batch = Batch.objects.create(dispatch=dispatch, number=1)
    # As it is where readers may choose: every tenth is counted without a name.
    followed, counted = (
        DispatchProfile.objects.create(
            dispatch=dispatch, tier_level=0, muted="", text_only=False, tracking=tracking, readers=readers
        )
        for tracking, readers in (("individual", READERS - READERS // 10), ("anonymous", READERS // 10))
    )
    sent = timezone.now() - dt.timedelta(days=7)
    site.run(DELIVERIES, dispatch=dispatch.pk, followed=followed.pk, counted=counted.pk, batch=batch.pk, sent=sent)
    site.run(EVENTS, dispatch=dispatch.pk, newsletter=newsletter.pk, sent=sent, links=LINKS)
    Dispatch.objects.filter(pk=dispatch.pk).update(
        status=Dispatch.Status.SENT, snapshot_at=sent, started_at=sent, finished_at=timezone.now(), candidates=READERS
    )
    site.run(TALLIES)
    site.run(HOURS)
    site.run("VACUUM ANALYZE")
    return issue


def milliseconds(ask: Callable[[], object]) -> float:
    """The median of TIMES, each with an empty cache."""
    from django.core.cache import cache

    taken = []
    for _ in range(TIMES):
        cache.clear()
        begun = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)


def explain(ask: Callable[[], object]) -> None:
    """On stderr each query that takes a millisecond, with the plan by which the database answers it."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        ask()
    for query in captured.captured_queries:
        if float(query["time"]) >= 0.001 and query["sql"].lstrip("(").startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN (ANALYZE, BUFFERS) " + query["sql"].replace("%", "%%"), ())
                plan = "\n".join(row[0] for row in cursor.fetchall())
            print(query["time"], query["sql"][:400], plan, "", sep="\n", file=sys.stderr)


def measure() -> dict[str, float]:
    """Make the rows, ask for the report, print the table."""
    with site.running():
        from django.contrib.auth.models import User
        from django.test import Client
        from django.urls import reverse

        from newsletter import stats

        issue = fill()
        dispatch: Dispatch = issue.dispatches.get()
        client = Client(SERVER_NAME="127.0.0.1")
        client.force_login(User.objects.create_superuser("bench"))
        page = reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])
        asked: dict[str, Callable[[], object]] = {
            "report": lambda: stats.full_report(issue),
            "its page": lambda: client.get(page),
            "first page of the admin": lambda: client.get(reverse("admin:index")),
        }
        taken = {}
        print("| what | ms | must |\n|---|---|---|")
        for name, ask in asked.items():
            ask()
            if os.environ.get("EXPLAIN"):
                explain(ask)
            taken[name] = milliseconds(ask)
            print(f"| {name}, {READERS:,} deliveries, {3 * READERS:,} events | {taken[name]:.0f} | 200 |", flush=True)
        return {"report_ms": max(taken.values())}


if __name__ == "__main__":
    site.write(measure())
