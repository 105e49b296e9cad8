"""A whole send: rows on PostgreSQL, rings by Redis, Celery workers as processes, SMTP to a relay on this machine.

    python -m bench.sending [--readers N] [--only WORD]

An issue of 30 kB in HTML and text with 20 tracked links, all headers, a personal name and an open pixel, to readers of
two tiers. The rate is that of the relay: messages by the seconds from the first to the last. `far` is a relay that
answers 10 ms later, over 20 connections in all. Everything shares the machine: database, broker, workers, relay.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench import site
from bench.sink import relay

LONGEST = 600.0  # seconds that a send may take here
PAUSE = 0.5
# As docs/operators.md has it for a relay of one's own.
TUNING = {"SMTP_MESSAGES_PER_CONNECTION": "1000", "BATCH_SIZE": "1000"}
PROCESSES = 3  # that send: while one waits for the database another writes to the relay


@dataclass
class Run:
    """What one send came to: messages a second, and the most memory of any worker process in MB."""

    rate: float
    peak_mb: float


@dataclass
class Bench:
    """A site with readers, to send one issue after the other."""

    environment: dict[str, str]
    newsletter: Any
    readers: int
    number: int = 0
    found: dict[str, float] = field(default_factory=dict)

    def send(self, *options: str, processes: int = PROCESSES, settings: dict[str, str] | None = None) -> Run:
        """Send one issue to all readers with so many worker processes."""
        from newsletter import scheduling
        from newsletter.models import Dispatch

        self.number += 1
        issue = site.make_issue(self.newsletter, self.number, links=20)
        with relay(*options) as (url, said), self.workers(processes, SMTP_URL=url, **(settings or {})) as pids:
            dispatch = scheduling.schedule(issue)
            scheduling.start_due()
            scheduling.prepare(dispatch)
            self.wait_for(lambda: Dispatch.objects.get(pk=dispatch.pk).status == Dispatch.Status.SENT)
            peak = max(map(peak_memory, pids()))
        sent = dispatch.deliveries.count()
        if not sent == said["messages"] == said["readers"]:
            raise SystemExit(f"{sent} deliveries, and the relay took {said}.")
        return Run(sent / said["seconds"], peak)

    @contextmanager
    def workers(self, processes: int, **settings: str) -> Iterator[Callable[[], list[int]]]:
        """A Celery worker and a beat; gives the ids of the processes that send."""
        celery = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "newsletter"]
        worker = [*celery, "worker", "-c", str(processes), "--without-gossip", "--without-mingle"]
        beat = [*celery, "beat", "--schedule", f"{self.environment['DATA_DIR']}/beat"]
        environment = self.environment | settings
        begun = [subprocess.Popen(each, env=environment, stdout=subprocess.DEVNULL) for each in (worker, beat)]
        try:
            self.wait_for(lambda: len(children(begun[0].pid)) >= processes)
            yield lambda: children(begun[0].pid)
        finally:
            for each in begun:
                each.terminate()
            for each in begun:
                each.wait()

    @staticmethod
    def wait_for(condition: Callable[[], bool]) -> None:
        """Return once `condition` holds."""
        end = time.monotonic() + LONGEST
        while not condition():
            if time.monotonic() > end:
                raise SystemExit(f"The send did not end within {LONGEST:.0f} s.")
            time.sleep(PAUSE)


def children(pid: int) -> list[int]:
    """The processes that process `pid` has begun."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def peak_memory(pid: int) -> float:
    """The most memory that process `pid` ever had, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def bookkeeping(bench: Bench) -> float:
    """The share of a sending thread's time that it spends on claims and outcomes: all it asks of the database."""
    from django.db import connection

    from newsletter import scheduling, sending
    from newsletter.models import Batch

    bench.number += 1
    dispatch = scheduling.schedule(site.make_issue(bench.newsletter, bench.number, links=20))
    scheduling.start_due()
    scheduling.prepare(dispatch)
    spent = 0.0

    def timed(call: Callable[..., Any], *args: Any) -> Any:
        nonlocal spent
        begun = time.perf_counter()
        try:
            return call(*args)
        finally:
            spent += time.perf_counter() - begun

    batches = list(Batch.objects.filter(dispatch=dispatch).order_by("number")[:60])
    begun = time.perf_counter()
    commit = connection.commit
    with connection.execute_wrapper(timed), patch.object(connection, "commit", lambda: timed(commit)):
        for batch in batches:
            sending.send_batch(batch)
    whole = time.perf_counter() - begun
    scheduling.cancel(dispatch)
    return spent / whole


@dataclass
class Row:
    """One line of the table: what, what it came to, what it must, and what it was run on."""

    what: str
    figure: str
    must: str
    how: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.figure} | {self.must} | {self.how} |"


def rows(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Each line by a short name; `bench.found` has the figures that are known by then."""
    found, plain = bench.found, "--no-chunking"

    def rate(key: str, what: str, must: str, *options: str, **more: Any) -> Callable[[], Row]:
        def measured() -> Row:
            run = bench.send(*options, **more)
            found[key] = run.rate
            found["worker_peak_mb"] = max(found.get("worker_peak_mb", 0), run.peak_mb)
            processes = more.get("processes", PROCESSES)
            how = f"{bench.readers:,} readers, {processes} worker processes, {run.peak_mb:.0f} MB at most"
            return Row(what, f"{run.rate:,.0f}/s", must, how)

        return measured

    far = ("--delay", "0.01")

    def over(processes: int, connections: int) -> dict[str, Any]:
        return {"processes": processes, "settings": {"SMTP_CONNECTIONS": str(connections)}}

    def against_bare() -> Row:
        from bench import smtp

        ours, bare = bench.send("--checking").rate, smtp.measure_bare("", "--checking", messages=bench.readers).rate
        found["smtp_vs_bare"] = ours / bare
        how = f"a relay that checks and stores: {ours:,.0f}/s and {bare:,.0f}/s"
        return Row("against a bare sender of ready-made bytes", f"{ours / bare:.2f}", "0.5", how)

    def two_against_one() -> Row:
        two, one = (bench.send(*far, **over(processes, 5)).rate for processes in (2, 1))
        found["two_workers_ratio"] = two / one
        how = f"5 connections each: {two:,.0f}/s and {one:,.0f}/s"
        return Row("two worker processes against one, 10 ms", f"{two / one:.2f}", "1.7", how)

    def share() -> Row:
        found["bookkeeping_share"] = bookkeeping(bench)
        return Row("bookkeeping: claims and outcomes", f"{found['bookkeeping_share']:.0%}", "25 %", "one thread")

    # First, or the database is still busy with what the others left.
    yield "bookkeeping", share
    yield "smtp", rate("smtp_per_s", "a whole send by SMTP", "8,000")
    yield "smtp", against_bare
    yield "dkim", rate("smtp_dkim_per_s", "signed with RSA-2048", "2,500", settings=dkim_key(bench))
    yield "far-chunking", rate("smtp_10ms_chunking_per_s", "relay 10 ms away, CHUNKING", "5,000", *far, **over(10, 2))
    pipelining = rate("smtp_10ms_pipelining_per_s", "relay 10 ms away, PIPELINING", "1,800", *far, plain, **over(5, 4))
    yield "far-pipelining", pipelining
    yield "far-two", two_against_one


def dkim_key(bench: Bench) -> dict[str, str]:
    """Settings for a key that is made for the run."""
    path = Path(bench.environment["DATA_DIR"]) / "dkim.pem"
    key = rsa.generate_private_key(65537, 2048)
    kind, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, none))
    return {"DKIM_DOMAIN": "weekly.example", "DKIM_KEYS": f"bench:{path}"}


def measure(readers: int, only: str = "") -> dict[str, float]:
    """Measure, print each line, and return the figures by their names."""
    with relay("--no-chunking") as (url, _), site.running(with_redis=True, SMTP_URL=url, **TUNING) as environment:
        newsletter = site.make_newsletter()
        site.make_readers(newsletter, readers)
        bench = Bench(environment, newsletter, readers)
        for name, run in rows(bench):
            if only in name:
                print(run(), flush=True)
        return bench.found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=100_000)
    parser.add_argument("--only", default="", help="only the rows whose short name holds this")
    chosen = parser.parse_args()
    print("| what | figure | must | how |\n|---|---|---|---|", flush=True)
    site.write(measure(chosen.readers, chosen.only))


if __name__ == "__main__":
    main()
