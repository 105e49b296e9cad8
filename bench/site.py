"""A site for measuring: real servers, an empty database, and as many readers as it takes, made by set-based SQL."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from newsletter.demo import services

if TYPE_CHECKING:
    from newsletter.models import Issue, Newsletter

WORDS = "The lamp at the end of the harbour is lit an hour before the boats come in, whoever keeps it that night. "
# What an operator would set for a machine of this size; nothing of it makes a commit less durable.
SERVER_SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB"}


@contextmanager
def running(*, with_redis: bool = False, **settings: str) -> Iterator[dict[str, str]]:
    """A durable PostgreSQL and, where asked for, a Redis: those that DATABASE_URL (which has to be empty) and REDIS_URL
    name, else started for the run. Gives the environment for programs; Django is set up in it, with `settings`, and the
    database migrated."""
    folder = Path(tempfile.mkdtemp(prefix="masthead-bench-"))
    servers: list[services.Server] = []
    try:
        postgres = services.find_postgres(folder / "postgres", settings=SERVER_SETTINGS)
        if postgres is None:
            raise SystemExit(services.NO_POSTGRES)
        servers.append(postgres)
        redis = services.find_redis(folder / "redis", settings=services.KEEPING) if with_redis else None
        if with_redis and redis is None:
            raise SystemExit(services.NO_REDIS)
        servers += [redis] if redis else []
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "newsletter.settings",
            "DATABASE_URL": postgres.url,
            "DATA_DIR": str(folder / "var"),
            "REDIS_URL": redis.url if redis else "",
            "LOG_LEVEL": "ERROR",
            **settings,
        }
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield dict(os.environ)
    finally:
        for server in reversed(servers):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def write(figures: dict[str, float]) -> None:
    """Put `figures` into the file that BENCH_JSON names, if any."""
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps({name: round(value, 3) for name, value in figures.items()}) + "\n")


def run(sql: str, **values: Any) -> None:
    """Run one statement."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def make_newsletter(**fields: Any) -> Newsletter:
    """A newsletter with individual tracking."""
    from newsletter import creation
    from newsletter.models import Newsletter

    newsletter = Newsletter(
        **{"slug": "weekly", "name": "The Weekly", "from_address": "desk@weekly.example", "tracking": "individual"}
        | fields
    )
    creation.create(newsletter)
    return newsletter


def make_readers(newsletter: Newsletter, count: int) -> None:
    """`count` people with a subscription; one in ten has paid, one in a thousand has paused, and one is suppressed."""
    run(
        """
        INSERT INTO subscribers_subscriber
            (public_id, address, address_key, fingerprint, name, text_only, tracking)
        SELECT n, 'reader' || n || '@readers.example', 'reader' || n || '@readers.example', md5('a' || n) || 'f',
            (ARRAY['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara'])[mod(n, 5) + 1] || ' Reader ' || n, false, 'newsletter'
        FROM generate_series(1, %(readers)s) n
        """,
        readers=count,
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
        INSERT INTO subscribers_membership (subscriber_id, tier_id, kind)
        SELECT s.id, t.id, 'paid' FROM subscribers_subscriber s, subscribers_tier t
        WHERE t.slug = 'paid' AND mod(s.id, 10) = 0
        """
    )
    run(
        "INSERT INTO subscribers_suppression (fingerprint, reason) SELECT fingerprint, 'manual' FROM"
        " subscribers_subscriber WHERE mod(id, 1000) = 1"
    )
    run("VACUUM ANALYZE")


def make_issue(newsletter: Newsletter, number: int = 1, *, links: int = 0) -> Issue:
    """An issue; with `links` one of as many paragraphs, each with a link, and a section for those who pay."""
    from newsletter.models import Issue, Section
    from subscribers.models import Tier

    title = f"Issue {number}"
    issue = Issue.objects.create(newsletter=newsletter, number=number, title=title, subject=title)
    if not links:
        Section.objects.create(issue=issue, body="Hello.")
        return issue
    story = "\n\n".join(
        f"{WORDS * 3}[Read on](https://example.com/story/{index}?from=weekly)" for index in range(links)
    )
    Section.objects.create(issue=issue, position=0, body=f'Hello {{{{ first_name|default:"there" }}}},\n\n{story}')
    Section.objects.create(
        issue=issue,
        position=1,
        heading="For members",
        body=WORDS,
        audience=Section.AudienceChoice.FROM_TIER,
        tier=Tier.objects.get(slug="paid"),
    )
    return issue
