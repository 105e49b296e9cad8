"""What is no outage: pauses, too many beats and rings, readers who change their mind, a relay that says no or later."""

from __future__ import annotations

import datetime as dt
import time

from django.utils import timezone

from bench.chaos import sends
from bench.chaos.sends import Send, until
from bench.chaos.servers import Servers
from bench.chaos.sizes import Size
from bench.chaos.verdict import Verdict
from newsletter import scheduling
from newsletter.mailbox import reading
from newsletter.models import Attempt
from newsletter.transports.smtp.pipeline import DEPTH
from subscribers import consent
from subscribers.models import Membership, Subscription, Tier

PAID_WORDS = "Only members read of the zeppelin"
CLAIMS_END = dt.timedelta(seconds=1)  # after a pause

# How the relay treats every tenth reader, in turn, and whether nobody can know then what became of the mail.
HANG_UPS = {
    "once-drop-at-rcpt-": False,
    "once-drop-at-data-": False,
    "once-close421-": False,
    "once-drop-before-dot-": True,
    "once-drop-after-dot-": True,
    "once-lose-after-dot-": True,
}
RINGS = 4  # in the course of a send, each twice at once
REFUSALS_MOST, DOUBTS_MOST = 20, 100  # more would pause the dispatch, as they should


def paused(servers: Servers, fault: str, size: Size) -> Verdict:
    """Pause and resume: within a second no chunk is claimed any more, and nothing leaves until it is resumed."""
    send = sends.begin(servers, fault, readers=size.others)
    broken = []
    for turn in range(size.rounds):
        send.await_sent((turn + 1) / (size.rounds + 2))
        scheduling.pause(send.dispatch(), "Chaos.")
        paused_at = timezone.now()
        time.sleep(CLAIMS_END.total_seconds())
        until(lambda: not send.held(), "the chunks in hand are finished")
        before = len(send.mails())
        time.sleep(2 * CLAIMS_END.total_seconds())
        late = Attempt.objects.filter(batch__dispatch__issue=send.issue, started_at__gt=paused_at + CLAIMS_END)
        if claims := late.count():
            broken.append(f"{claims} chunks were claimed later than a second after the pause.")
        if mails := len(send.mails()) - before:
            broken.append(f"{mails} mails left after the chunks in hand were finished.")
        scheduling.resume(send.dispatch())
    send.await_end()
    return send.verdict(broken=broken)


def two_beats(servers: Servers, fault: str, size: Size) -> Verdict:
    """Two beats tick all the time."""
    send = sends.begin(servers, fault, readers=size.others, beats=2)
    send.await_end()
    return send.verdict()


def rung_often(servers: Servers, fault: str, size: Size) -> Verdict:
    """Every task is delivered many times, also to workers that have it in hand."""
    send = sends.begin(servers, fault, readers=size.others)
    for turn in range(RINGS):
        send.await_sent(turn / (RINGS + 1))
        send.ring_all()
        send.ring_all()
    send.await_end()
    return send.verdict()


def readers_change(servers: Servers, fault: str, size: Size) -> Verdict:
    """In mid-send readers leave, become members and stop being members: from the next chunk on that holds."""
    send = sends.begin(
        servers, fault, readers=size.others, seconds=15.0, paid=PAID_WORDS, members=lambda index: index % 2 == 1
    )
    send.await_sent(0.1)
    # Of those who wait at the gate every fourth changes in each way, or stays a member.
    waiting = [reader for reader in send.readers if reader.startswith(sends.GATED)]
    leaving, staying, joining, ending = (
        tuple(reader for reader in send.readers[first::4] if reader in waiting) for first in range(4)
    )
    for subscription in Subscription.objects.filter(subscriber__address__in=leaving):
        consent.unsubscribe(subscription, source="chaos")
    Membership.objects.filter(subscriber__address__in=ending).update(ends_at=timezone.now())
    paid = Tier.objects.get(slug="paid")
    for pk in Subscription.objects.filter(subscriber__address__in=joining).values_list("subscriber", flat=True):
        Membership.objects.create(subscriber_id=pk, tier=paid)
    pids = set(send.held())
    sends.await_finished(sends.unfinished_attempts(pids), pids)  # these were claimed before
    send.await_end()
    return send.verdict(
        excused=leaving, broken=_wrong_mails(send, none=leaving, free=ending, paid=(*staying, *joining))
    )


def _wrong_mails(send: Send, *, none: tuple[str, ...], free: tuple[str, ...], paid: tuple[str, ...]) -> list[str]:
    """What readers got that they should not have: `none`, no paid words, or a mail without them."""
    broken = []
    letters = {mail.rcpt: reading.read(mail.raw) for mail in send.mails() if mail.rcpt in {*free, *paid}}
    has_paid = {
        address: any(PAID_WORDS in " ".join((part or "").split()) for part in (letter.text, letter.html))
        for address, letter in letters.items()
    }
    if wrong := sum(mail.rcpt in none for mail in send.mails()):
        broken.append(f"{wrong} readers got mail after they had left.")
    if wrong := sum(has_paid.get(address, False) for address in free):
        broken.append(f"{wrong} readers got paid words after their membership had ended.")
    if wrong := sum(address in letters and not has_paid[address] for address in paid):
        broken.append(f"{wrong} members got no paid words.")
    return broken


def put_off(servers: Servers, fault: str, size: Size) -> Verdict:
    """The relay says 451 to a tenth of all readers the first time."""
    treat = _every(["once-later451-", "once-data451-", "once-final451-"], 10)
    send = sends.begin(servers, fault, readers=size.others, treat=treat)
    send.await_end()
    return send.verdict()


def hung_up(servers: Servers, fault: str, size: Size, *, chunking: bool = False) -> Verdict:
    """The relay hangs up on a tenth of all readers or as many as may be, before and after the last byte, and refuses a
    few for good.

    It leaves a doubt for each message whose last byte it had; with `chunking` the messages behind may have left too.
    """
    refused = min(size.others // 50, REFUSALS_MOST)
    left = DEPTH if chunking else 1  # in doubt by one hang-up
    hangs_up = _every(list(HANG_UPS), max(10, size.others * left // DOUBTS_MOST))
    send = sends.begin(
        servers,
        fault,
        readers=size.others,
        treat=lambda index: "refuse550-" if index % 50 == 1 and index // 50 < refused else hangs_up(index),
        chunking=chunking,
    )
    send.await_end()
    words = tuple(word for word, dark in HANG_UPS.items() if dark or chunking)
    hang_ups = sum(reader.startswith(words) for reader in send.readers)
    return send.verdict(
        bound=hang_ups * left,
        excused={reader for reader in send.readers if reader.startswith("refuse550-")},
    )


def _every(words: list[str], step: int) -> sends.Treat:
    return lambda index: words[index // step % len(words)] if index % step == 0 else "slow-"
