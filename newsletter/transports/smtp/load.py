"""The messages in a transport's hands: which wait, which are under way, what became of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

from newsletter import clock
from newsletter.message import Compiled, Mail, Reader
from newsletter.transports.outcomes import Outcome, Result, one_line
from newsletter.transports.smtp.replies import Reply

TOO_LATE = "The lease ran out before this message could leave."
TRIES = 2  # times that one message may be the first that a lost connection leaves without an answer


class Message:
    """One reader's message on its way; `sender` is their address, and what becomes of it is put into `into`. After
    `deadline`, on the clock of `clock.now`, it does not begin to leave.

    `steps` are the answers that are due, `at` how many came. `refused` is the first that said no, `by_sender` whether
    that was about the sender. `begun` is when its octets began to leave (0 before that); once the system took more
    than `doubt_from` octets of the connection, the last of them may have left.
    """

    __slots__ = (
        "at",
        "begun",
        "by_sender",
        "compiled",
        "deadline",
        "doubt_from",
        "into",
        "losses",
        "octets",
        "reader",
        "refused",
        "sender",
        "settled",
        "steps",
    )

    def __init__(
        self, compiled: Compiled, reader: Reader, *, sender: str, into: list[Outcome], deadline: float
    ) -> None:
        self.settled = False
        self.compiled = compiled
        self.reader = reader
        self.sender = sender
        self.into = into
        self.deadline = deadline
        self.octets = b""
        self.losses = 0
        self.start_over(())

    @property
    def late(self) -> bool:
        """Whether it may no longer begin to leave."""
        return clock.now() >= self.deadline

    def start_over(self, steps: Sequence[str]) -> None:
        """Begin on a connection that answers in `steps`."""
        self.steps = steps
        self.at = 0
        self.refused: Reply | None = None
        self.by_sender = False
        self.begun = 0.0
        self.doubt_from: int | None = None


class Load:
    """What a transport has in hand: `waiting` in their order, `left` those without an outcome.

    `make` makes a reader's octets of what is compiled and raises ValueError where there is no message to make.
    """

    def __init__(self, make: Callable[[Compiled, Reader], bytes]) -> None:
        self._make = make
        self._stop: tuple[Result, str] | None = None
        self._tried = True
        self._retry_after: float | None = None
        self.waiting: deque[Message] = deque()
        self.left = 0

    def add(self, mail: Mail, sender: str, into: list[Outcome], *, deadline: float) -> None:
        """Put the messages of `mail` behind those in hand. What stopped the others stops none of these."""
        self._stop = None
        new = [
            Message(compiled, reader, sender=sender, into=into, deadline=deadline)
            for compiled, readers in mail
            for reader in readers
        ]
        self.waiting += new
        self.left += len(new)

    def drop_late(self) -> None:
        """Wait no longer with those that may not begin any more."""
        while self.waiting and self.waiting[0].late:
            self.settle_late(self.waiting.popleft())

    def next(self, *, utf8: bool) -> Message | None:
        """The next message to begin with, its octets made; `utf8` says whether any address can go (RFC 6531)."""
        while self.waiting and self._stop is None:
            message = self.waiting.popleft()
            if message.late:
                self.settle_late(message)
                continue
            if not utf8 and not message.reader.address.isascii():
                reply = "The address is not supported by this route: it needs SMTPUTF8."
                self.settle(message, Result.REFUSED, reply, tried=False)
                continue
            try:
                self._fill_in(message)
            except ValueError as error:
                self.settle(message, Result.REFUSED, str(error), tried=False)
                continue
            return message
        return None

    def make_ahead(self, count: int) -> None:
        """Make the octets of the next `count` messages already, so that none is made while a connection waits for it.

        Where there is no message to make, `next` says so when its turn comes.
        """
        for message in islice(self.waiting, count):
            with suppress(ValueError):
                self._fill_in(message)

    def _fill_in(self, message: Message) -> None:
        message.octets = message.octets or self._make(message.compiled, message.reader)

    def settle(
        self, message: Message, result: Result, reply: str, *, tried: bool = True, retry_after: float | None = None
    ) -> None:
        """Note what became of `message`; an outcome is final."""
        assert not message.settled, "one outcome each"  # noqa: S101
        message.settled = True
        said = one_line(reply, message.reader.address)
        message.into.append(Outcome(message.reader.delivery_id, result, said, tried=tried, retry_after=retry_after))
        message.octets = b""
        self.left -= 1

    def settle_late(self, message: Message) -> None:
        """Its time is over, and nothing of it has left."""
        self.settle(message, Result.LATER, TOO_LATE, tried=False)

    def put_back(self, message: Message, reply: str, *, blamed: bool) -> None:
        """`message` certainly was not sent: let it wait again, in front.

        `blamed` says that the connection was lost when this one was due and may be the reason: then only TRIES times.
        """
        message.losses += blamed
        if message.losses >= TRIES:
            self.settle(message, Result.LATER, reply)
        elif self._stop is not None:
            self._settle_stopped(message)
        else:
            self.waiting.appendleft(message)

    def stop(self, result: Result, reply: str, *, tried: bool = False, retry_after: float | None = None) -> None:
        """Begin no other message: all that wait come to `result`."""
        self._stop = (result, reply)
        self._tried, self._retry_after = tried, retry_after
        while self.waiting:
            self._settle_stopped(self.waiting.popleft())

    def _settle_stopped(self, message: Message) -> None:
        assert self._stop is not None, "only after stop()"  # noqa: S101
        self.settle(message, *self._stop, tried=self._tried, retry_after=self._retry_after)
