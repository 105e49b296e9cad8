"""One issue on its way to readers of its own, watched from outside: by its rows, and by the mail server's journal."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection

from bench.chaos import verdict
from bench.chaos.servers import PROCESSES, WORKERS, Servers
from newsletter import scheduling, tasks
from newsletter.models import Attempt, Delivery, Dispatch, Issue
from newsletter.settings import ENV
from subscribers import addresses
from subscribers.models import Membership, Subscriber, Subscription, Tier
from tests.making import make_issue, make_newsletter
from tests.smtp_sink import Received, read_journal

T = TypeVar("T")
Treat = Callable[[int], str]

SECONDS = 6.0  # that a send takes where nothing goes wrong
CHUNK_SECONDS = 0.6  # at most so long is a chunk on its way: well within a lease
SEND_SECONDS = 300.0  # for what was begun to come to its end, on a slow machine
GATED = "gated-"  # in front of the addresses of those who wait at the gate
OPEN = (Delivery.Status.QUEUED, Delivery.Status.SENDING)


class StillNot(Exception):
    """What a case waited for did not come; the message says what."""


def until(condition: Callable[[], T], what: str, *, seconds: float = 60.0) -> T:
    """The first true value that `condition` gives; a database that is away counts as not yet.

    Raises StillNot naming `what` after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := condition():
                return value
        except (OperationalError, InterfaceError):
            connection.close()
        if time.monotonic() > deadline:
            raise StillNot(f"After {seconds:.0f} s still not: {what}.")
        time.sleep(0.02)


@dataclass(frozen=True)
class Send:
    """An issue that was scheduled at once, to the addresses `readers`.

    `journal` is what the mail server wrote. As long as `gate` is there it puts off the GATED readers, so that however
    busy the machine is, the send cannot end before the faults have come.
    """

    fault: str
    servers: Servers
    issue: Issue
    readers: tuple[str, ...]
    journal: Path
    gate: Path

    @property
    def deliveries(self) -> Any:
        """Its deliveries, as a queryset."""
        return Delivery.objects.filter(dispatch__issue=self.issue)

    def dispatch(self) -> Dispatch:
        """Its dispatch as it stands now."""
        return Dispatch.objects.get(issue=self.issue)

    def held(self) -> dict[int, int]:
        """How many rows are SENDING, by the process that claimed them."""
        rows = self.deliveries.filter(status=Delivery.Status.SENDING)
        return dict(Counter(pid_of(worker) for worker in rows.values_list("attempt__worker", flat=True)))

    def held_by(self, pids: Collection[int]) -> int:
        """How many rows are SENDING that one of these processes claimed."""
        return sum(count for pid, count in self.held().items() if pid in pids)

    def sent(self) -> int:
        """How many rows are SENT."""
        return int(self.deliveries.filter(status=Delivery.Status.SENT).count())

    def await_hold(self) -> dict[int, int]:
        """`held`, once it is not empty."""
        return until(self.held, "a row that is being sent", seconds=SEND_SECONDS)

    def await_sent(self, share: float) -> None:
        """Wait until this share of the readers has it."""
        goal = int(len(self.readers) * share)
        until(lambda: self.sent() >= goal, f"{goal} sent", seconds=SEND_SECONDS)

    def open_gate(self) -> None:
        """From now on the mail server takes every reader's mail."""
        self.gate.unlink(missing_ok=True)

    def await_end(self) -> None:
        """Open the gate and wait until its dispatch is SENT. Raises StillNot with the reason where it pauses."""
        self.open_gate()

        def ended() -> bool:
            dispatch = self.dispatch()
            if dispatch.status == Dispatch.Status.PAUSED:
                raise StillNot(f"It paused: {dispatch.pause_reason}")
            # A late answer may have put rows back into the queue, and no tick have seen them yet.
            return dispatch.status == Dispatch.Status.SENT and not self.deliveries.filter(status__in=OPEN).exists()

        until(ended, "the dispatch is sent", seconds=SEND_SECONDS)

    def await_noted(self) -> None:
        """Wait until workers that live have noted all their answers, and for the end of what goes on by that: one whose
        note the database did not take tries again seconds later, when the dispatch may be SENT with doubts."""
        unfinished = Attempt.objects.filter(batch__dispatch__issue=self.issue, finished_at=None)
        until(lambda: not unfinished.exists(), "all answers are noted")
        self.await_end()

    def ring_all(self) -> None:
        """Call for every batch at once, whoever holds it."""
        for pk in self.dispatch().batches.values_list("pk", flat=True):
            tasks.send_batch.delay(pk)

    def mails(self) -> list[Received]:
        """What the mail server has in its journal."""
        return read_journal(self.journal)

    def doubts(self) -> list[int]:
        """The deliveries that the report names in doubt, by id."""
        return [row["id"] for row in self.report()["doubts"]]

    def report(self) -> dict[str, Any]:
        """What `manage.py issue_report --json` says."""
        out = io.StringIO()
        call_command("issue_report", str(self.issue.pk), json=True, stdout=out)
        report: dict[str, Any] = json.loads(out.getvalue())
        return report

    def verdict(
        self,
        *,
        bound: int = 0,
        excused: Collection[str] = (),
        resent: Collection[int] = (),
        broken: Sequence[str] = (),
    ) -> verdict.Verdict:
        """See `verdict.compare`; the report's own sums are asked too."""
        report = self.report()
        rows = self.deliveries.values_list("pk", "subscriber__address", "status")
        sums = () if report["sums_agree"] else ("The report's sums do not agree.",)
        return verdict.compare(
            self.fault,
            readers=self.readers,
            rows=[verdict.Row(*row) for row in rows],
            copies=Counter(mail.rcpt for mail in self.mails()),
            doubts={row["id"]: row["reply"] for row in report["doubts"]},
            bound=bound,
            excused=excused,
            resent=resent,
            broken=(*broken, *sums),
        )


def begin(
    servers: Servers,
    fault: str,
    *,
    readers: int,
    seconds: float = SECONDS,
    treat: Treat | None = None,
    paid: str = "",
    members: Callable[[int], bool] = lambda _: False,
    staffed: bool = True,
    beats: int = 1,
    chunking: bool = False,
) -> Send:
    """Schedule an issue at once to `readers` new readers, with workers, a beat and a mail server in place.

    The mail server is as slow as makes the send take about so many `seconds` where nothing goes wrong. `treat` gives
    the words that stand in front of the address of reader 0, 1, 2 …: how the mail server treats it; without it all are
    slow and the last quarter wait at the gate besides. `paid` is the text of a section for paid readers; `members` says
    of reader 0, 1, 2 … who they are. Nobody sends where it is not `staffed`. With `chunking`
    the mail server takes whole messages one behind the other (RFC 3030).
    """
    number = Dispatch.objects.count() + 1
    weekly = make_newsletter(slug=f"chaos-{number}", name=f"Chaos {number}")
    issue = make_issue(weekly, paid=paid)
    treat = treat or (lambda index: GATED if index >= readers - readers // 4 else "slow-")
    people = [_subscriber(f"{treat(index)}{number}-{index}@readers.example") for index in range(readers)]
    Subscriber.objects.bulk_create(people, batch_size=1000)
    subscriptions = (
        Subscription(newsletter=weekly, subscriber=person, status=Subscription.Status.ACTIVE) for person in people
    )
    Subscription.objects.bulk_create(subscriptions, batch_size=1000)
    if held := [person for index, person in enumerate(people) if members(index)]:
        tier = Tier.objects.get(slug="paid")
        Membership.objects.bulk_create(Membership(subscriber=person, tier=tier) for person in held)
    journal, gate = servers.folder / f"journal-{number}", servers.folder / f"gate-{number}"
    gate.touch()
    servers.start_sink(journal, delay=delay_for(readers, seconds), gate=gate, chunking=chunking)
    if staffed:
        servers.staff(beats=beats)
    scheduling.schedule(issue)
    return Send(fault, servers, issue, tuple(person.address for person in people), journal, gate)


def delay_for(readers: int, seconds: float = SECONDS) -> float:
    """How long the mail server takes for each mail so that a send to `readers` takes about `seconds`."""
    return min(seconds * WORKERS * PROCESSES / readers, CHUNK_SECONDS / chunk())


def _subscriber(text: str) -> Subscriber:
    address = addresses.parse(text)
    return Subscriber(
        address=address.given, address_key=address.key, fingerprint=addresses.fingerprint(address.key), name="Ada"
    )


def pid_of(worker: str) -> int:
    """The process in the name of an attempt's worker (`sending.worker_name`)."""
    return int(worker.split(":")[-2])


def unfinished_attempts(pids: Collection[int]) -> list[int]:
    """The attempts of these processes that are not closed, by id."""
    rows = Attempt.objects.filter(finished_at=None).values_list("pk", "worker")
    return [pk for pk, worker in rows if pid_of(worker) in pids]


def await_finished(attempts: Collection[int], pids: Collection[int]) -> None:
    """Wait until none of these attempts of these processes is open any more."""
    until(lambda: set(attempts).isdisjoint(unfinished_attempts(pids)), "the chunks in hand are finished")


def chunk() -> int:
    """Deliveries claimed at once, in this run."""
    return ENV.chunk_size
