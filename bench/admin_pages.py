"""Every page of the admin with a million readers: how long it takes, and how many queries; and the snapshot of them.

    python -m bench.admin_pages            a table
    READERS=100000 python …                with fewer readers
    SLOW=100 python …                      and on stderr the slow queries of pages that take longer than so many ms

Rows are made by set-based SQL, the deliveries by our own snapshot. Each page is asked for by Django's test client,
without a network between; the time is the median of five.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench import site

if TYPE_CHECKING:
    from django.contrib.auth.models import User

READERS = int(os.environ.get("READERS", "1000000"))
TIMES = 5
MS_LIMIT, QUERIES_LIMIT = 200, 20


def measure() -> dict[str, float]:
    """Make the rows, measure the pages, print the table."""
    with site.running():
        seconds = fill()
        return {"snapshot_rows_per_s": round(READERS / seconds), **report(list(pages_measured()))}


def fill() -> float:
    """Make the readers and a dispatch half sent; the seconds that the snapshot took."""
    from django.conf import settings

    from newsletter import audience, scheduling
    from newsletter.models import Dispatch

    newsletter = site.make_newsletter()
    site.make_readers(newsletter, READERS)
    site.run(
        """
        INSERT INTO subscribers_consentrecord
            (subscriber_id, newsletter_id, action, source, text_version, network, agent, reason)
        SELECT id, %(newsletter)s, 'imported', 'import', '', '', '', '' FROM subscribers_subscriber
        """,
        newsletter=newsletter.pk,
    )
    issue = site.make_issue(newsletter)
    for number in range(2, 30):
        site.make_issue(newsletter, number)
    dispatch = scheduling.schedule(issue)
    scheduling.start_due()
    begun = time.perf_counter()
    audience.snapshot(dispatch, batch_size=settings.ENV.batch_size)
    seconds = time.perf_counter() - begun
    site.run(
        """
        UPDATE newsletter_delivery SET status = 'sent', tries = 1, settled_at = now(), reply = '250 accepted',
            opened_at = CASE WHEN mod(id, 3) = 0 THEN now() END, clicked_at = CASE WHEN mod(id, 30) = 0 THEN now() END
        WHERE mod(id, 2) = 0
        """
    )
    site.run(
        """
        INSERT INTO newsletter_event
            (key, kind, source, newsletter_id, dispatch_id, delivery_id, subscriber_id, url, method, agent, network,
            prefetch, judged, reasons, verdict, detail)
        SELECT gen_random_uuid(), 'open', 'pixel', %(newsletter)s, dispatch_id, id, subscriber_id, '', 'GET', 'Bench',
            '127.0.0.0/24', false, 'person', 'plain', '', ''
        FROM newsletter_delivery WHERE opened_at IS NOT NULL
        """,
        newsletter=newsletter.pk,
    )
    site.run(
        """
        INSERT INTO newsletter_event
            (key, kind, source, newsletter_id, dispatch_id, delivery_id, subscriber_id, url, method, agent, network,
            prefetch, judged, reasons, verdict, detail)
        SELECT gen_random_uuid(), 'bounce', 'mail', %(newsletter)s, dispatch_id, id, subscriber_id, '', '', '', '',
            false, '', '', 'hard', '550 no such user'
        FROM newsletter_delivery WHERE status = 'sent' AND mod(id, 50) = 0
        """,
        newsletter=newsletter.pk,
    )
    Dispatch.objects.filter(pk=dispatch.pk).update(status=Dispatch.Status.SENDING, lease_token=None, leased_until=None)
    site.run("VACUUM ANALYZE")
    return seconds


def pages(user: User) -> Iterator[tuple[str, str]]:
    """Name and path of every page that `user` can look at."""
    from django.contrib import admin
    from django.test import RequestFactory
    from django.urls import NoReverseMatch, reverse

    from newsletter.admin.base import LargeModelAdmin

    request = RequestFactory().get(reverse("admin:index"))
    request.user = user
    yield "index", request.path
    for model, model_admin in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        rows = model_admin.get_queryset(request).order_by("pk")
        row = next(iter(rows[rows.count() // 2 :][:1]), None)
        for page in sorted({pattern.name for pattern in model_admin.urls if pattern.name}):
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


def pages_measured() -> Iterator[tuple[str, float, int]]:
    """Name, milliseconds and queries of each page."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(SERVER_NAME="127.0.0.1")
    user = User.objects.create_superuser("bench")
    client.force_login(user)
    # Pages that only answer a form, or that nobody is allowed, are tried and passed over.
    logging.getLogger("django.request").setLevel(logging.ERROR)
    for name, path in pages(user):
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
        mark = "" if milliseconds < MS_LIMIT and queries < QUERIES_LIMIT else "  <- over the limit"
        print(f"{milliseconds:8.1f} ms {queries:4d} queries  {name}{mark}")
    return {
        "admin_page_ms_max": round(max(row[1] for row in measured), 1),
        "admin_page_queries_max": max(row[2] for row in measured),
    }


if __name__ == "__main__":
    site.write(measure())
