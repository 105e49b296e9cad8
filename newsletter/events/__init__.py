"""One door for whatever readers' mail brings back: opens, clicks, unsubscribes.

    events.hit_of(request)      what may be kept of a request
    events.entry_of(kind, …)    that as an entry for `newsletter.intake`
    events.write_hits(entries)  many entries at once, in a worker: judged, stored, counted
    events.record(kind, …)      one that cannot wait: an unsubscribe
    events.judge_late()         what came lately, together: sweeps of link scanners, which no hit shows by itself
    events.judge_stored(…)      all that is stored, by the rules of now
    events.recount(dispatch)    counts and first times made anew from the rows

Each hit is stored raw, as often as it comes; beside that a delivery notes its first open, click and unsubscribe, and a
tally counts. Opens and clicks are stored only as far as the newsletter's tracking and the reader's own choice allow
now, whatever they allowed when the mail was sent: not at all, without saying whose they are, or with the delivery.
What comes with Global Privacy Control or Do Not Track is counted without saying whose it is, and without its agent and
network, whatever is allowed.
"""

from __future__ import annotations

from newsletter.events.reading import AGENT_LENGTH, NETWORK_BITS, Hit, asks_for_privacy, hit_of
from newsletter.events.recounting import Differences, recount, to_recount
from newsletter.events.rejudging import begin_look, judge_late, judge_stored
from newsletter.events.writing import Kind, entry_of, record, take_back_unsubscribe, write_hits

__all__ = [
    "AGENT_LENGTH",
    "NETWORK_BITS",
    "Differences",
    "Hit",
    "Kind",
    "asks_for_privacy",
    "begin_look",
    "entry_of",
    "hit_of",
    "judge_late",
    "judge_stored",
    "record",
    "recount",
    "take_back_unsubscribe",
    "to_recount",
    "write_hits",
]
