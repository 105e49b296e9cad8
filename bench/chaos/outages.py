"""What goes wrong with the servers: broker, database, disk, an old backup, the mail server."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import io
import signal
import time
from collections.abc import Iterator

import psycopg
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from bench.chaos import backups, sends
from bench.chaos.sends import Send, until
from bench.chaos.servers import PROCESSES, WORKERS, Servers
from bench.chaos.sizes import Size
from bench.chaos.verdict import Verdict
from newsletter import scheduling
from newsletter.models import Batch, Dispatch
from newsletter.settings import ENV
from tests.making import issue_of, make_issue, make_newsletter, make_reader

FULL_DISK = """
CREATE FUNCTION chaos_full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER chaos_full_disk BEFORE UPDATE ON newsletter_delivery
FOR EACH ROW WHEN (NEW.status = 'sent') EXECUTE FUNCTION chaos_full_disk();
"""


def broker_killed(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGKILL of Redis, which comes back with what it had written down."""
    return _broker(servers, fault, size, keep_data=True)


def broker_emptied(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGKILL of Redis, which comes back empty."""
    return _broker(servers, fault, size, keep_data=False)


def _broker(servers: Servers, fault: str, size: Size, *, keep_data: bool) -> Verdict:
    send = sends.begin(servers, fault, readers=size.others)
    for turn in range(size.rounds):
        send.await_sent((turn + 1) / (size.rounds + 2))
        pids = set(send.await_hold())
        in_hand = sends.unfinished_attempts(pids)
        servers.kill_redis()
        sends.await_finished(in_hand, pids)
        servers.start_redis(keep_data=keep_data)
    send.await_end()
    return send.verdict()


def database_restarted(servers: Servers, fault: str, size: Size) -> Verdict:
    """PostgreSQL stopped at once and like a crash, for a moment and for longer than a lease, while rows are SENDING."""
    send = sends.begin(servers, fault, readers=size.others)
    long = ENV.lease_seconds + 1
    stops = [(signal.SIGQUIT, 0.0), (signal.SIGINT, long), (signal.SIGINT, 0.0), (signal.SIGQUIT, long)]
    stops = stops[: size.rounds + 1]
    for turn, (how, away) in enumerate(stops):
        send.await_sent((turn + 1) / (len(stops) + 2))
        send.await_hold()
        connection.close()
        servers.stop_postgres(how)
        time.sleep(away)
        servers.start_postgres()
    send.await_end()
    send.await_noted()
    return send.verdict()


def disk_full(servers: Servers, fault: str, size: Size) -> Verdict:
    """The database has no room for the outcomes, for longer than a lease."""
    send = sends.begin(servers, fault, readers=size.others)
    send.await_sent(0.2)
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(FULL_DISK)
        send.open_gate()
        try:
            until(
                lambda: Batch.objects.filter(dispatch__issue=send.issue, leased_until__lt=Now()).exists(),
                "a lease has run out meanwhile",
            )
        finally:
            admin.execute("DROP FUNCTION chaos_full_disk CASCADE")
    send.await_end()
    send.await_noted()
    return send.verdict()


def writes_refused(servers: Servers, fault: str, size: Size) -> Verdict:
    """The database takes no writes for longer than a lease, as a standby does after a failover."""
    send = sends.begin(servers, fault, readers=size.others)
    send.await_sent(0.2)
    send.await_hold()
    with _read_only(servers):
        time.sleep(ENV.lease_seconds + 1)
    send.await_end()
    send.await_noted()
    return send.verdict()


@contextlib.contextmanager
def _read_only(servers: Servers) -> Iterator[None]:
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")


def backup_restored(servers: Servers, fault: str, size: Size) -> Verdict:
    """A backup made in mid-send comes back later in the send: what may have left since is in doubt, all of it named. An
    issue that was scheduled then and sent since waits for somebody."""
    send = sends.begin(servers, fault, readers=size.others)
    scheduled, only_reader = _scheduled(fault)
    send.await_sent(0.3)
    backup = backups.make(servers.database_url)
    scheduling.unschedule(scheduled)
    scheduling.schedule(issue_of(scheduled))
    until(lambda: _copies(send, only_reader) == 1, "the scheduled issue is sent", seconds=sends.SEND_SECONDS)
    send.await_sent(0.6)
    servers.kill_workers()
    connection.close()
    backups.restore(servers.database_url, backup)
    open_then = send.deliveries.filter(status__in=sends.OPEN).count()
    call_command("distrust", since=backup.at.isoformat(), stdout=io.StringIO())
    scheduled.refresh_from_db()
    broken = [
        f"“{dispatch.issue}” was not paused after the restoration."
        for dispatch in (send.dispatch(), scheduled)
        if dispatch.status != Dispatch.Status.PAUSED
    ]
    _await_quiet(send)
    found = send.verdict(bound=open_then)
    doubts = send.doubts()
    scheduling.resend_unconfirmed(send.dispatch())
    scheduling.resume(send.dispatch())
    servers.staff()
    send.await_end()
    if _copies(send, only_reader) != 1:
        broken.append("The issue that was scheduled in the backup went out again.")
    settled = send.verdict(resent=doubts, broken=[*found.broken, *broken])
    return dataclasses.replace(
        settled,
        lost=found.lost + settled.lost,
        twice=found.twice + settled.twice,
        unlisted=found.unlisted + settled.unlisted,
        in_doubt=found.in_doubt + settled.in_doubt,
        bound=found.bound,
    )


def _scheduled(fault: str) -> tuple[Dispatch, str]:
    """An issue scheduled for a later day to one reader of its own, and the reader's address."""
    weekly = make_newsletter(slug=f"{fault}-scheduled", name="Scheduled")
    address = f"{fault}@readers.example"
    make_reader(weekly, address)
    return scheduling.schedule(make_issue(weekly), timezone.now() + dt.timedelta(days=2)), address


def _copies(send: Send, address: str) -> int:
    return sum(mail.rcpt == address for mail in send.mails())


def _await_quiet(send: Send) -> None:
    """Wait until the mail server has written down what the killed workers had given it."""
    seen = -1

    def quiet() -> bool:
        nonlocal seen
        before, seen = seen, len(send.mails())
        time.sleep(sends.CHUNK_SECONDS)
        return seen == before

    until(quiet, "no more mail arrives")


def _put_off(send: Send, since: dt.datetime) -> bool:
    """Whether mail was put off since then, by more than the gate."""
    waiting = send.deliveries.filter(status="queued", settled_at__gt=since)
    return bool(waiting.exclude(reply__startswith="451").exists())


def relay_killed(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGKILL of the mail server, away for a while: what it had not answered for is in doubt, the rest waits."""
    send = sends.begin(servers, fault, readers=size.others)
    bound = 0
    for turn in range(size.rounds):
        send.await_sent((turn + 1) / (size.rounds + 2))
        send.await_hold()
        servers.kill_sink()
        killed_at = timezone.now()
        bound += sends.chunk() * PROCESSES * WORKERS
        until(lambda killed_at=killed_at: _put_off(send, killed_at), "mail is put off")  # type: ignore[misc]
        servers.start_sink(send.journal, delay=sends.delay_for(len(send.readers)), gate=send.gate)
    send.await_end()
    return send.verdict(bound=bound)
