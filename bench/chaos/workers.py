"""What goes wrong with workers: killed, asked to stop, frozen, killed before there is anything to send."""

from __future__ import annotations

import datetime as dt
import email.utils
import os
import random
import signal
import time

import psycopg
from django.utils import timezone
from psycopg import sql

from bench.chaos import sends
from bench.chaos.sends import Send, until
from bench.chaos.servers import PROCESSES, WORKERS, Program, Servers, kill
from bench.chaos.sizes import Size
from bench.chaos.verdict import Verdict
from newsletter.models import Attempt, Batch, Dispatch

SECONDS_A_KILL = 2.0  # what a worker needs to come back and be sending again
AFTER = "after the snapshot"
# Where a worker waits when somebody else holds this lock on this table.
PREPARING = {
    "before the snapshot reads": ("subscribers_subscription", "ACCESS EXCLUSIVE"),
    "in the midst of the snapshot": ("newsletter_delivery", "SHARE"),
    AFTER: ("newsletter_variant", "SHARE"),
}


def killed(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGKILL at random moments while rows are SENDING: a whole worker, or one process of it."""
    chance = random.Random(size.kills)
    send = sends.begin(servers, fault, readers=size.readers, seconds=SECONDS_A_KILL * size.kills)
    kills = bound = 0
    broken: list[str] = []
    while kills < size.kills:
        send.await_hold()
        time.sleep(chance.uniform(0, sends.CHUNK_SECONDS))
        held = send.held()
        alone = chance.random() < 0.5
        try:
            pid = chance.choice(sorted(held))
            worker = servers.worker_of(pid)
        except LookupError:  # nothing is held any more, or only by the dead
            continue
        fellows = {pid} if alone else {other for other in held if _belongs(servers, other, worker)}
        if alone:
            os.kill(pid, signal.SIGKILL)
        else:
            kill(worker)
        left = send.held_by(fellows)
        most = sends.chunk() * (1 if alone else PROCESSES)
        if left > most:
            broken.append(f"{left} rows were SENDING by what was killed, more than {most}.")
        bound += left
        kills += bool(left)
        servers.staff()
    send.await_end()
    return send.verdict(bound=bound, broken=broken)


def _belongs(servers: Servers, pid: int, worker: Program) -> bool:
    try:
        return servers.worker_of(pid) is worker
    except LookupError:
        return False


def terminated(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGTERM: a worker finishes the chunks in hand, gives its leases back, and leaves no doubt."""
    send = sends.begin(servers, fault, readers=size.others)
    broken = []
    for turn in range(size.rounds):
        send.await_sent((turn + 1) / (size.rounds + 2))
        worker, pids = _a_busy_worker(servers, send)
        asked_at = timezone.now()
        worker.terminate()
        worker.wait(60)
        late = Attempt.objects.filter(started_at__gt=asked_at + dt.timedelta(seconds=1))
        claims = sum(sends.pid_of(name) in pids for name in late.values_list("worker", flat=True))
        if claims:
            broken.append(f"A worker asked to stop claimed {claims} chunks later than a second after that.")
        if rows := send.held_by(pids):
            broken.append(f"A worker that stopped left {rows} rows SENDING.")
        servers.staff()
    send.await_end()
    return send.verdict(broken=broken)


def _a_busy_worker(servers: Servers, send: Send) -> tuple[Program, set[int]]:
    """A worker that is sending, and those of its processes that are."""

    def look() -> tuple[Program, set[int]] | None:
        held = send.await_hold()
        for worker in servers.workers:
            if pids := {pid for pid in held if _belongs(servers, pid, worker)}:
                return worker, pids
        return None

    found = until(look, "a worker that is sending")
    assert found
    return found


def frozen(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGSTOP past the lease while another worker goes on, then SIGCONT: the first one sends nothing more of it."""
    send = sends.begin(servers, fault, readers=size.others)
    worker, pids, mine = _freeze_a_busy_worker(servers, send)
    stopped_at = time.time()
    send.open_gate()
    held = set(Batch.objects.filter(attempts__in=mine, lease_token__isnull=False).values_list("pk", "lease_token"))
    try:
        until(
            lambda: not held & set(Batch.objects.values_list("pk", "lease_token")),
            "the leases of the frozen worker have run out",
        )
        seen = send.sent()
        until(lambda: send.sent() > seen or not send.deliveries.filter(status="queued").exists(), "others go on")
    finally:
        os.killpg(worker.pid, signal.SIGCONT)
    woken_at = time.time()
    sends.await_finished(mine, pids)  # the woken worker has noted its answers
    send.await_end()
    # The Date of a mail is that of its attempt, so what left late of an attempt begun before the freeze shows.
    late = [
        mail
        for mail in send.mails()
        if mail.at > woken_at
        and email.utils.parsedate_to_datetime(str(mail.parsed()["Date"])).timestamp() <= stopped_at
    ]
    broken = [f"The woken worker sent {len(late)} mails more of its old chunks."] if late else []
    return send.verdict(bound=sends.chunk() * PROCESSES, broken=broken)


def _freeze_a_busy_worker(servers: Servers, send: Send) -> tuple[Program, set[int], list[int]]:
    """`_a_busy_worker`, stopped, and the attempts it has in hand."""

    def freeze() -> tuple[Program, set[int], list[int]] | None:
        worker, pids = _a_busy_worker(servers, send)
        os.killpg(worker.pid, signal.SIGSTOP)
        if mine := sends.unfinished_attempts(pids):
            return worker, pids, mine
        os.killpg(worker.pid, signal.SIGCONT)
        return None

    found = until(freeze, "a worker frozen with a chunk in hand")
    assert found
    return found


def frozen_claiming(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGSTOP of all workers in the midst of a claim, while they hold its locks; new ones go on all the same."""
    send = sends.begin(servers, fault, readers=size.others)
    send.await_sent(0.1)
    with psycopg.connect(servers.database_url) as lock:
        lock.execute("SELECT 1 FROM newsletter_delivery WHERE status = 'queued' FOR UPDATE")
        _await_waiting(servers)
        pids = set(send.held())
        stopped = [program for program in servers.workers if program.poll() is None]
        for worker in stopped:
            os.killpg(worker.pid, signal.SIGSTOP)
        lock.rollback()
    try:
        servers.staff(workers=len(stopped) + WORKERS)
        send.await_end()
    finally:
        for worker in stopped:
            os.killpg(worker.pid, signal.SIGCONT)
    until(lambda: not sends.unfinished_attempts(pids), "the woken workers have noted their answers")
    send.await_end()
    servers.staff()
    return send.verdict(bound=sends.chunk() * PROCESSES * len(stopped))


def killed_preparing(servers: Servers, fault: str, size: Size) -> Verdict:
    """SIGKILL of all workers between start and sending: before the snapshot, in its midst, and right after it."""
    servers.kill_workers()
    send = sends.begin(servers, fault, readers=size.others, seconds=1.0, staffed=False)
    broken = []
    for step, (table, mode) in PREPARING.items():
        with psycopg.connect(servers.database_url) as lock:
            lock.execute(f"LOCK TABLE {table} IN {mode} MODE")
            servers.staff()
            _await_waiting(servers, table)
            servers.kill_workers()
            lock.rollback()
        if step != AFTER and send.deliveries.exists():
            broken.append(f"A worker killed {step} left deliveries.")
    dispatch = send.dispatch()
    if dispatch.status != Dispatch.Status.PREPARING or not dispatch.snapshot_at:
        broken.append(f"After the last kill it was {dispatch.status}, not preparing with its snapshot taken.")
    servers.staff()
    send.await_end()
    return send.verdict(broken=broken)


def _await_waiting(servers: Servers, table: str = "") -> None:
    """Wait until somebody waits for a lock: on `table`, or on a row that another transaction has changed."""
    condition = "relation = %s::regclass" if table else "locktype = 'transactionid' AND %s = ''"
    with psycopg.connect(servers.database_url, autocommit=True) as watch:
        until(
            lambda: watch.execute(
                sql.SQL("SELECT 1 FROM pg_locks WHERE NOT granted AND {}").format(sql.SQL(condition)), [table]
            ).fetchone(),
            f"a worker waits for {table or 'a row'}",
        )
