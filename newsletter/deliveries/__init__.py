"""Every change of Delivery.status. Each is one conditional UPDATE: the UPDATE is the lock.

QUEUED -> SENDING -> SENT | FAILED | QUEUED (later) | UNCONFIRMED;  QUEUED -> SKIPPED
QUEUED -> FAILED for a single message that is of no more use
UNCONFIRMED -> SENT | FAILED | QUEUED by a late answer of its own attempt, by what comes back, or by the author's word
UNCONFIRMED -> SENT where the provider repeats its answer to the same call under the same key
UNCONFIRMED -> SENT by a hit, which settles nothing else: gateways follow links before they put off or refuse
FAILED -> SENT where it was settled by a bounce, and turns out to have been accepted before

    attempts     the hand-over that a change belongs to
    claiming     QUEUED -> SENDING | SKIPPED
    noting       SENDING -> what became of it
    accepting    how often each was accepted
    doubting     what nobody knows
    returning    what comes back later
    deciding     what the author decides
"""

from __future__ import annotations

from newsletter.deliveries.accepting import Message, Told
from newsletter.deliveries.accepting import note as note_accepted
from newsletter.deliveries.attempts import begin
from newsletter.deliveries.claiming import Claimed, claim, with_messages
from newsletter.deliveries.deciding import (
    accept_unconfirmed,
    count_anew,
    fail_useless,
    forget_erased,
    resend_unconfirmed,
    retry_failed,
    skip_cancelled,
)
from newsletter.deliveries.doubting import (
    REPEATING,
    calls_in_doubt,
    distrust,
    doubt,
    forget_doubts,
    may_go_on,
    may_repeat,
    note_repeated,
    repeat_later,
    repeat_nothing,
    to_repeat,
)
from newsletter.deliveries.noting import STALE, back_off, note, postpone, put_back, unclaim
from newsletter.deliveries.returning import Change, came_back

__all__ = [
    "REPEATING",
    "STALE",
    "Change",
    "Claimed",
    "Message",
    "Told",
    "accept_unconfirmed",
    "back_off",
    "begin",
    "calls_in_doubt",
    "came_back",
    "claim",
    "count_anew",
    "distrust",
    "doubt",
    "fail_useless",
    "forget_doubts",
    "forget_erased",
    "may_go_on",
    "may_repeat",
    "note",
    "note_accepted",
    "note_repeated",
    "postpone",
    "put_back",
    "repeat_later",
    "repeat_nothing",
    "resend_unconfirmed",
    "retry_failed",
    "skip_cancelled",
    "to_repeat",
    "unclaim",
    "with_messages",
]
