"""Reads the mailbox that bounces arrive in, by IMAP or POP3: the only package that does.

    to_ring()        whether it is time to look
    read(mailbox)    take what has come: receive -> commit -> delete, one mail after the other

A mail is deleted once what follows from it is committed; one that was received and not deleted is received again, which
changes nothing. What nothing follows from (automatic answers, people's letters), and what cannot be read, stays where
it is and unread; which those are is remembered by UID, so that they are not fetched again each minute.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from django.db import InterfaceError, InternalError, NotSupportedError, OperationalError, ProgrammingError
from django.db.models import Q
from django.db.models.functions import Now

from newsletter import receiving
from newsletter.fetching.place import Place, Trouble, Unreadable, problems
from newsletter.models import BounceMailbox
from newsletter.receiving import Done, Received
from newsletter.settings import ENV

__all__ = ["Look", "Trouble", "current", "problems", "read", "to_ring"]

logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=60)  # between two looks
TIMEOUT = 20.0  # seconds for each step of the conversation
RUN_SECONDS = 40.0  # then a look ends, with the mail in hand
LONGEST = 120.0  # then it ends with whatever is in hand: each step of a server that drips takes less than TIMEOUT
MOST = 500  # mails that a look takes
LEASE = timedelta(minutes=5)  # after that a worker that reads is taken for dead
TRIES = 3  # times that a mail may cost us the connection
# The database is not as it should be: that is no mail's fault, and all of them wait.
_NOT_THE_MAIL = (InterfaceError, OperationalError, ProgrammingError, InternalError, NotSupportedError)


class Box(Protocol):
    """A mailbox; `validity` says how long its ids are good, once it is open."""

    validity: str

    def open(self) -> None:
        """Connect and sign in."""

    def ids(self) -> list[str]:
        """All mails, the oldest first."""

    def fetch(self, identifier: str, limit: int) -> bytes | None:
        """The first `limit` octets of one, None where it is gone. Raises Unreadable."""

    def delete(self, identifier: str) -> None:
        """Delete one."""

    def close(self) -> None:
        """Take leave."""

    def cut(self) -> None:
        """End the conversation from another thread."""

    def drop(self) -> None:
        """Let the connection go."""


@dataclass
class Look:
    """What one look found. `done` counts what was done about mails; `unreadable` are those left for that; `waiting`
    how many there still are to take. `busy`: another worker reads it."""

    done: dict[Done, int] = field(default_factory=lambda: dict.fromkeys(Done, 0))
    unreadable: int = 0
    waiting: int = 0
    trouble: str = ""
    busy: bool = False

    @property
    def taken(self) -> int:
        """The mails that were looked at."""
        return sum(self.done.values()) + self.unreadable


def current() -> BounceMailbox | None:
    """The row of the mailbox that the settings name, made where it is new; None without one, or where `problems` has
    something to say."""
    url = ENV.bounce_mailbox.get_secret_value()
    if not url or problems(url):
        return None
    return BounceMailbox.objects.get_or_create(place=Place.from_url(url).name)[0]


def to_ring() -> list[int]:
    """The mailbox, by id, where the last look was EVERY ago; each is given out once."""
    mailbox = current()
    if mailbox is None:
        return []
    due = BounceMailbox.objects.filter(Q(rung_at=None) | Q(rung_at__lt=Now() - EVERY), pk=mailbox.pk)
    return [mailbox.pk] if due.update(rung_at=Now()) else []


def read(
    mailbox: BounceMailbox,
    *,
    stopping: Callable[[], bool] = lambda: False,
    tell: Callable[[int, int], object] = lambda taken, waiting: None,
) -> Look:
    """Take what has come, at most MOST mails and RUN_SECONDS; `tell` hears after each how many were taken and wait.

    Safe to call twice at once: one does it. Trouble with the mailbox is noted in its row and the answer, not raised;
    what the database raises is.
    """
    look = Look()
    token = uuid.uuid4()
    free = BounceMailbox.objects.filter(Q(leased_until=None) | Q(leased_until__lt=Now()), pk=mailbox.pk)
    if not free.update(lease_token=token, leased_until=Now() + LEASE):
        look.busy = True
        return look
    mailbox.refresh_from_db()
    mine = BounceMailbox.objects.filter(pk=mailbox.pk, lease_token=token)
    memory = _Memory(mailbox.left)
    try:
        _look(Place.from_url(ENV.bounce_mailbox.get_secret_value()), memory, look, stopping, tell)
    except Trouble as error:
        look.trouble = str(error)
        logger.warning("The mailbox for bounces: %s", error)
    finally:
        seen: dict[str, Any] = {} if look.trouble else {"read_at": Now()}
        mine.update(lease_token=None, leased_until=None, trouble=look.trouble[:500], left=memory.as_json(), **seen)
    return look


class _Memory:
    """Which mails are left where they are, and how often one cost us the connection; good for one `validity`."""

    def __init__(self, left: dict[str, Any]) -> None:
        self.validity = str(left.get("validity", ""))
        self.ids = set(left.get("ids", ()))
        self.tries: dict[str, int] = dict(left.get("tries", {}))

    def keep_to(self, validity: str, there: list[str]) -> None:
        """Forget what is no longer there, or all where the ids mean other mails now (RFC 3501 section 2.3.1.1)."""
        known = set(there) if validity == self.validity else set()
        self.validity = validity
        self.ids &= known
        self.tries = {identifier: tries for identifier, tries in self.tries.items() if identifier in known}

    def as_json(self) -> dict[str, Any]:
        return {"validity": self.validity, "ids": sorted(self.ids), "tries": self.tries}


def _look(
    place: Place, memory: _Memory, look: Look, stopping: Callable[[], bool], tell: Callable[[int, int], object]
) -> None:
    ends = time.monotonic() + RUN_SECONDS
    box = _box(place)
    watch = threading.Timer(LONGEST, box.cut)
    watch.daemon = True
    watch.start()
    try:
        box.open()
        there = box.ids()
        memory.keep_to(box.validity, there)
        # Those that cost us the connection before come last, or they would stand in front of the others for ever.
        to_do = sorted((each for each in there if each not in memory.ids), key=lambda each: memory.tries.get(each, 0))
        look.waiting = len(to_do)
        for identifier in to_do[:MOST]:
            if stopping() or time.monotonic() >= ends:
                break
            _take(box, identifier, memory, look)
            look.waiting -= 1
            tell(look.taken, look.waiting)
        box.close()
    finally:
        watch.cancel()
        box.drop()


def _box(place: Place) -> Box:
    if place.protocol == "imap":
        from newsletter.fetching.imap import ImapBox

        return ImapBox(place, timeout=TIMEOUT)
    from newsletter.fetching.pop import PopBox

    return PopBox(place, timeout=TIMEOUT)


def _take(box: Box, identifier: str, memory: _Memory, look: Look) -> None:
    """One mail: fetch, receive, and delete it where it has been dealt with."""
    try:
        raw = box.fetch(identifier, receiving.LIMIT)
        received = _receive(raw) if raw is not None else None
    except Unreadable as error:
        _leave(identifier, memory, look, str(error))
        return
    except Trouble:
        memory.tries[identifier] = memory.tries.get(identifier, 0) + 1
        if memory.tries[identifier] >= TRIES:
            _leave(identifier, memory, look, f"the connection was lost over it {TRIES} times")
        raise
    memory.tries.pop(identifier, None)
    if received is None:
        return
    look.done[received.done] += 1
    if received.done in (Done.LEFT, Done.UNKNOWN):
        memory.ids.add(identifier)
    else:
        box.delete(identifier)


def _receive(raw: bytes) -> Received:
    try:
        return receiving.receive(raw)
    except _NOT_THE_MAIL:
        raise
    except Exception as error:  # a mail that we cannot make sense of stays for a person, and the others are read
        logger.exception("A mail in the mailbox for bounces could not be received")
        raise Unreadable(f"it could not be received ({type(error).__name__})") from error


def _leave(identifier: str, memory: _Memory, look: Look, why: str) -> None:
    logger.warning("Mail %s in the mailbox for bounces is left there: %s", identifier, why)
    memory.tries.pop(identifier, None)
    memory.ids.add(identifier)
    look.unreadable += 1
