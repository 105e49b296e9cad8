"""Hands messages to a relay by SMTP, over a few connections that are kept open and driven by a thread of their own.

One transaction per reader. What an error means depends on how far the message had got: until its last byte was given to
the system nothing was sent and another try is safe; after that only the relay's answer tells. Which connections there
are is said in `connections`, what happens on one of them in `pipeline`.
"""

from __future__ import annotations

import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

from newsletter import clock, message
from newsletter.message import Compiled, Mail, Reader, Sender, dkim
from newsletter.transports.outcomes import Outcome
from newsletter.transports.resting import Rest
from newsletter.transports.smtp.connections import GIVE_UP_AFTER, Connections
from newsletter.transports.smtp.load import Load
from newsletter.transports.smtp.pipeline import DEPTH
from newsletter.transports.smtp.relay import Relay, greeting_name, problems

__all__ = ["DEPTH", "GIVE_UP_AFTER", "SmtpTransport", "problems"]

AHEAD = 4  # a relay far away still has this part of a chunk to answer for when the next is asked for


class SmtpTransport:
    """At most `connections` to the relay of `url`, opened when needed, each for `messages_per_connection`.

    `timeout` is in seconds and for each step. Not to be shared between threads. Raises ValueError where `url` is not
    the address of a relay. With `signers` every message is signed by each.
    """

    name = "smtp"

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        connections: int = 1,
        messages_per_connection: int = 100,
        signers: Sequence[dkim.Signer] = (),
    ) -> None:
        self._signers = signers
        self._rest = Rest()
        self._open = partial(
            Connections,
            Relay.from_url(url),
            timeout=timeout,
            most=connections,
            messages_per_connection=messages_per_connection,
        )
        self._driver: _Driver | None = None

    def hand_over(
        self,
        mail: Mail,
        sender: Sender,
        into: list[Outcome],
        *,
        deadline: float,
        idempotency_key: uuid.UUID | None = None,
    ) -> None:
        """See `transports.Transport.hand_over`.

        It returns before the end where the connections mostly wait, as they do for a relay far away: they go on
        meanwhile, and with the next chunk in time they are never without a message.
        """
        if self._driver is None:
            self._driver = _Driver(self._open, Load(self._make), self._rest)
        with self._closed_on_error():
            self._driver.give(_Given(mail, sender, into, deadline))
            self._driver.wait(leave=sum(len(readers) for _, readers in mail) // AHEAD)

    def finish(self) -> None:
        """See `transports.Transport.finish`."""
        if self._driver:
            with self._closed_on_error():
                self._driver.wait(leave=0)

    def rests(self) -> float:
        """See `transports.Transport.rests`."""
        if self._driver:
            with self._closed_on_error():
                self._driver.check()
        return self._rest.left

    def close(self) -> None:
        """Say QUIT and let the connections go; the next `hand_over` opens others."""
        driver, self._driver = self._driver, None
        if driver:
            driver.close()

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """What is under way when something raises is nobody's any more: its answers would be taken for another's."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _make(self, compiled: Compiled, reader: Reader) -> bytes:
        octets = message.assemble(compiled, reader)
        return dkim.signed(octets, self._signers, reader.date) if self._signers else octets


class _Given(NamedTuple):
    """What one `hand_over` hands over."""

    mail: Mail
    sender: Sender
    into: list[Outcome]
    deadline: float


class _Driver(threading.Thread):
    """Keeps the connections at work, whatever the one who gives it mail does meanwhile."""

    def __init__(self, connections: Callable[..., Connections], load: Load, rest: Rest) -> None:
        super().__init__(name="smtp", daemon=True)
        self._load = load
        self._given: deque[_Given] = deque()
        self._changed = threading.Condition()  # what `wait` or the thread itself waits for
        self._leave = 0
        self._far = False  # whether it waited for more than half of the time since it was last given something
        self._ends = False
        self._fault: BaseException | None = None
        self._bell, self._heard = socket.socketpair()
        for each in (self._bell, self._heard):
            each.setblocking(False)
        self._connections = connections(load, rest, self._heard)
        self.start()

    def give(self, given: _Given) -> None:
        """Put this behind what it has in hand."""
        self._given.append(given)
        self._ring()

    def wait(self, *, leave: int) -> None:
        """Return once all is answered for, but of a relay far away `leave` messages. Raises as `check` does."""
        with self._changed:
            self._leave = leave
            self._changed.wait_for(lambda: self._fault or self._enough)
        self.check()

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._fault:
            raise self._fault

    def close(self) -> None:
        """End it, whatever is under way."""
        self._ends = True
        self._ring()
        self.join()
        self._bell.close()
        self._heard.close()

    def run(self) -> None:
        """The thread."""
        try:
            while not self._ends:
                self._work()
        except BaseException as error:  # `wait` raises it where somebody hears it
            self._fault = error
        finally:
            try:
                self._connections.close()
            finally:
                with self._changed:
                    self._changed.notify_all()

    def _work(self) -> None:
        """Wait for mail, and be at work until there is other mail or nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._given or self._load.left or self._ends)
            while self._given:
                mail, sender, into, deadline = self._given.popleft()
                self._load.add(mail, sender.address, into, deadline=deadline)
                self._connections.wake(greeting_name(sender.domain))
            self._far = False
        began, waited = clock.now(), self._connections.waited
        while self._load.left and not self._given and not self._ends:
            self._connections.turn()
            self._far = 2 * (self._connections.waited - waited) > clock.now() - began
            self._tell_if_enough()
        self._tell_if_enough()

    def _tell_if_enough(self) -> None:
        if self._enough:
            with self._changed:
                self._changed.notify_all()

    @property
    def _enough(self) -> bool:
        return not self._given and self._load.left <= (self._leave if self._far else 0)

    def _ring(self) -> None:
        with self._changed:
            self._changed.notify_all()
        with suppress(BlockingIOError):  # it was rung often, and is still to be heard
            self._bell.send(b"!")
