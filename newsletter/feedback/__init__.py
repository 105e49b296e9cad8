"""What came of sent mail: bounces, complaints, deliveries and unsubscribes that others report, and what follows.

    notices      what is reported, by whichever way: a provider's webhook, a bounce mail, a refusal while sending
    writing      write_notices: each notice once into the events, each delivery settled, and then
    following    what follows for the reader: one place for all ways
    softness     how often mail may fail to arrive before a reader is written to no more
    refusing     what was refused while sending becomes notices too
    summing      what came back of a dispatch, for the author: verdicts, reasons, domains
    telling      an alert where many servers refuse mail for the sender's own fault

The heaviest verdict on a delivery counts, once: complaint, hard, block, soft. Whatever order notices come in, and
however often, they end in the same rows.
"""

from __future__ import annotations

from newsletter.feedback.notices import Notice, key_of
from newsletter.feedback.refusing import any_refused, take_refused
from newsletter.feedback.softness import review_recent
from newsletter.feedback.summing import Group, group, numbers, summary, words_of
from newsletter.feedback.telling import MANY, refused, sentence
from newsletter.feedback.writing import write, write_notices

__all__ = [
    "MANY",
    "Group",
    "Notice",
    "any_refused",
    "group",
    "key_of",
    "numbers",
    "refused",
    "review_recent",
    "sentence",
    "summary",
    "take_refused",
    "words_of",
    "write",
    "write_notices",
]
