"""What a reader and the staff said since something came back: it may be out of date."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from subscribers.models import ConsentRecord

Action = ConsentRecord.Action

SOURCE = "bounces"  # of what is done here itself, in ConsentRecords


class _Word(NamedTuple):
    at: dt.datetime
    action: str
    newsletter_id: int | None
    source: str
    reason: str


@dataclass
class History:
    """The consent of one reader, as far as it can undo what came back."""

    words: list[_Word] = field(default_factory=list)

    def moved_since(self, sent_at: dt.datetime | None) -> bool:
        """Whether they have another address now than the one that mail went to, as far as is known."""
        return any(word.action == Action.ADDRESS_CHANGED and (not sent_at or word.at > sent_at) for word in self.words)

    def let_in_since(self, at: dt.datetime) -> bool:
        """Whether the address was given another chance since: by their own confirmation, or by the author."""
        began = self.fresh_start
        return began is not None and began > at

    @property
    def fresh_start(self) -> dt.datetime | None:
        """Since when bounces count: since the last time that somebody let the address in, or it was changed."""
        chances = (Action.SUBSCRIBED, Action.UNSUPPRESSED, Action.ADDRESS_CHANGED)
        return max((word.at for word in self.words if word.action in chances and word.source != SOURCE), default=None)

    def came_back_since(self, at: dt.datetime) -> set[int]:
        """The newsletters that they took up again themselves since."""
        return {word.newsletter_id for word in self.words if word.at > at and _own(word) and word.newsletter_id}

    def confirmed_since(self, at: dt.datetime) -> set[int]:
        """The newsletters that they asked for and confirmed since: by double opt-in, which alone outdoes a
        complaint."""
        asked: dict[int, dt.datetime] = {}
        for word in self.words:
            if word.action == Action.REQUESTED and word.at > at and word.newsletter_id:
                asked[word.newsletter_id] = min(word.at, asked.get(word.newsletter_id, word.at))
        return {
            word.newsletter_id
            for word in self.words
            if _own(word) and word.newsletter_id in asked and word.at >= asked[word.newsletter_id]
        }


def histories_of(subscriber_ids: Iterable[int]) -> dict[int, History]:
    """The history of each of these readers, all by one query."""
    histories = {pk: History() for pk in subscriber_ids}
    told = (Action.REQUESTED, Action.SUBSCRIBED, Action.UNSUPPRESSED, Action.ADDRESS_CHANGED)
    words = ConsentRecord.objects.filter(subscriber__in=histories, action__in=told)
    for pk, *word in words.values_list("subscriber", *_Word._fields):
        histories[pk].words.append(_Word._make(word))
    return histories


def _own(word: _Word) -> bool:
    """Whether the reader said it. Staff who lift something give a reason, and so do bounces."""
    return word.action == Action.SUBSCRIBED or (
        word.action == Action.UNSUPPRESSED and not word.reason and not word.source.startswith("staff ")
    )
