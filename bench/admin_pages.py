"""Every page of the admin with a million readers: how long it takes, and how many queries.

    python bench/admin_pages.py            a table
    BENCH_JSON=file python …               and there admin_page_ms_max, admin_page_queries_max, snapshot_rows_per_s
    READERS=100000 python …                with fewer readers
    SLOW=100 python …                      and on stderr the slow queries of pages that take longer than so many ms

Runs on a real PostgreSQL: the one that DATABASE_URL names, which has to be empty, else one started for the run. Rows
are made by set-based SQL, the deliveries by our own snapshot. Each page is asked for by Django's test client, without
a network between; the time is the median of five.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

READERS = int(os.environ.get("READERS", "1000000"))
TIMES = 5
MS_LIMIT, QUERIES_LIMIT = 200, 20


def main() -> None:
    """Make the rows, measure the pages, print the table."""
    from newsletter.demo import services

    folder = Path(tempfile.mkdtemp(prefix="masthead-bench-"))
    server = services.find_postgres(folder / "postgres", durable=False)
    if server is None:
        raise SystemExit(services.NO_POSTGRES)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "newsletter.settings",
        "DATABASE_URL": server.url,
        "DATA_DIR": str(folder / "var"),
        "REDIS_URL": "",
        "LOG_LEVEL": "ERROR",
    }
    try:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        seconds = fill()
        results = {"snapshot_rows_per_s": round(READERS / seconds), **report(list(measure()))}
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(results) + "\n")
    print(json.dumps(results))


def fill() -> float:
    """Make the readers and a dispatch half sent; the seconds that the snapshot took."""
    from django.conf import settings
    from django.db import connection

    from newsletter import audience, creation, scheduling
    from newsletter.models import Dispatch, Issue, Newsletter, Section

    newsletter = Newsletter(slug="weekly", name="The Weekly", from_address="desk@weekly.example", tracking="individual")
    creation.create(newsletter)
    run(
        """
        INSERT INTO subscribers_subscriber
            (public_id, address, address_key, fingerprint, name, text_only, tracking)
        SELECT n, 'reader' || n || '@readers.example', 'reader' || n || '@readers.example', md5('a' || n) || 'f',
            (ARRAY['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara'])[mod(n, 5) + 1] || ' Reader ' || n, false, 'newsletter'
        FROM generate_series(1, %(readers)s) n
        """
    )
    run(
        """
        INSERT INTO subscribers_subscription (subscriber_id, newsletter_id, status, muted)
        SELECT id, %(newsletter)s, CASE WHEN mod(id, 1000) = 0 THEN 'paused' ELSE 'active' END, ''
        FROM subscribers_subscriber
        """,
        newsletter=newsletter.pk,
    )
    run(
        """
        INSERT INTO subscribers_consentrecord
            (subscriber_id, newsletter_id, action, source, text_version, network, agent)
        SELECT id, %(newsletter)s, 'imported', 'import', '', '', '' FROM subscribers_subscriber
        """,
        newsletter=newsletter.pk,
    )
    run(
        """
        INSERT INTO subscribers_membership (subscriber_id, tier_id, kind)
        SELECT s.id, t.id, 'paid' FROM subscribers_subscriber s, subscribers_tier t
        WHERE t.slug = 'paid' AND mod(s.id, 10) = 0
        """
    )
    run(
        "INSERT INTO subscribers_suppression (fingerprint, reason) SELECT fingerprint, 'manual' FROM"
        " subscribers_subscriber WHERE mod(id, 1000) = 1"
    )
    run("ANALYZE")
    issue = Issue.objects.create(newsletter=newsletter, number=1, title="Issue 1", subject="Issue 1")
    Section.objects.create(issue=issue, body="Hello.")
    for number in range(2, 30):
        Issue.objects.create(newsletter=newsletter, number=number, title=f"Issue {number}", subject=f"Issue {number}")
    dispatch = scheduling.schedule(issue)
    scheduling.start_due()
    begun = time.perf_counter()
    audience.snapshot(dispatch, batch_size=settings.ENV.batch_size)
    seconds = time.perf_counter() - begun
    run(
        """
        UPDATE newsletter_delivery SET status = 'sent', tries = 1, settled_at = now(), reply = '250 accepted',
            opened_at = CASE WHEN mod(id, 3) = 0 THEN now() END, clicked_at = CASE WHEN mod(id, 30) = 0 THEN now() END
        WHERE mod(id, 2) = 0
        """
    )
    run(
        """
        INSERT INTO newsletter_event
            (kind, newsletter_id, dispatch_id, delivery_id, subscriber_id, url, method, agent, network)
        SELECT 'open', %(newsletter)s, dispatch_id, id, subscriber_id, '', 'GET', 'Bench', '127.0.0.0/24'
        FROM newsletter_delivery WHERE opened_at IS NOT NULL
        """,
        newsletter=newsletter.pk,
    )
    Dispatch.objects.filter(pk=dispatch.pk).update(status=Dispatch.Status.SENDING, lease_token=None, leased_until=None)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return seconds


def run(sql: str, **values: Any) -> None:
    """Run one statement."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, {"readers": READERS, **values})


def pages() -> Iterator[tuple[str, str]]:
    """Name and path of every page that can be looked at."""
    from django.contrib import admin
    from django.urls import NoReverseMatch, reverse

    from newsletter.admin.base import LargeModelAdmin

    yield "index", reverse("admin:index")
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        rows = model._default_manager.order_by("pk")
        row = next(iter(rows[rows.count() // 2 :][:1]), None)
        for page in sorted({pattern.name for pattern in admin.site._registry[model].urls if pattern.name}):
            if not page.startswith(name):
                continue
            for args in ([], [row.pk] if row else None):
                if args is None:
                    continue
                try:
                    yield page, reverse(f"admin:{page}", args=args)
                except NoReverseMatch:
                    continue
        changelist = reverse(f"admin:{name}_changelist")
        model_admin = admin.site._registry[model]
        if row and isinstance(model_admin, LargeModelAdmin):
            yield f"{name}: a page in the middle", f"{changelist}?older={row.pk}"
        if model_admin.search_fields:
            for term in ("reader500000@readers.example", "Ada", "Ada Reader 99"):
                yield f"{name}: search {term}", f"{changelist}?q={term}"
    subscriptions = reverse("admin:subscribers_subscription_changelist")
    for status in ("active", "paused", "unsubscribed"):
        yield f"subscription: {status}", f"{subscriptions}?status__exact={status}"
    yield "subscription: both", f"{subscriptions}?newsletter__id__exact=1&status__exact=paused"
    for field, term in (("subscriber", "Ada"), ("subscriber", "reader77@readers.example")):
        yield (
            f"autocomplete: {term}",
            f"{reverse('admin:autocomplete')}?app_label=subscribers&model_name=membership&field_name={field}&term={term}",
        )


def measure() -> Iterator[tuple[str, float, int]]:
    """Name, milliseconds and queries of each page."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(User.objects.create_superuser("bench"))
    for name, path in pages():
        with CaptureQueriesContext(connection) as captured:
            response = client.get(path)
        queries = captured.captured_queries
        if response.status_code != 200:
            if response.status_code not in (302, 403, 405):
                print(f"{name}: {response.status_code} at {path}", file=sys.stderr)
            continue
        times = []
        for _ in range(TIMES):
            begun = time.perf_counter()
            client.get(path)
            times.append(1000 * (time.perf_counter() - begun))
        milliseconds = statistics.median(times)
        if os.environ.get("SLOW") and milliseconds > float(os.environ["SLOW"]):
            for query in queries:
                if float(query["time"]) > 0.02:
                    print(name, query["time"], query["sql"][:600], file=sys.stderr)
        yield name, milliseconds, len(queries)


def report(measured: list[tuple[str, float, int]]) -> dict[str, float]:
    """Print the table; the worst of both columns."""
    for name, milliseconds, queries in sorted(measured, key=lambda row: -row[1]):
        mark = "" if milliseconds <= MS_LIMIT and queries <= QUERIES_LIMIT else "  <- over the limit"
        print(f"{milliseconds:8.1f} ms {queries:4d} queries  {name}{mark}")
    return {
        "admin_page_ms_max": round(max(row[1] for row in measured), 1),
        "admin_page_queries_max": max(row[2] for row in measured),
    }


if __name__ == "__main__":
    main()
