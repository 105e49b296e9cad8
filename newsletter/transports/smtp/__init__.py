"""Hands messages to a relay by SMTP, over a few connections that are kept open and driven by one thread.

One transaction per reader. What an error means depends on how far the message had got: until its last byte was given to
the system nothing was sent and another try is safe; after that only the relay's answer tells. What happens on one
connection is in `pipeline`; here is which connections there are, and when the relay itself needs a rest.
"""

from __future__ import annotations

import selectors
import uuid
from collections.abc import Sequence

from newsletter import clock, message
from newsletter.message import Compiled, Mail, Reader, Sender, dkim
from newsletter.transports.outcomes import Outcome, Result
from newsletter.transports.resting import Rest
from newsletter.transports.smtp.load import TOO_LATE, Load
from newsletter.transports.smtp.pipeline import DEPTH, Pipeline
from newsletter.transports.smtp.places import Places
from newsletter.transports.smtp.relay import Relay, greeting_name, problems

__all__ = ["DEPTH", "GIVE_UP_AFTER", "SmtpTransport", "problems"]

# Connections lost one after the other; then the rest of a chunk waits, or it would wait out a timeout per reader.
GIVE_UP_AFTER = 3
SHARE = 5  # waiting messages for each connection there is that make one more worth its opening
HOLD = 30.0  # seconds without another connection, once the relay did not take one beside those it has


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
        self._relay = Relay.from_url(url)
        self._places = Places(self._relay.host, self._relay.port)
        self._signers = signers
        self._timeout = timeout
        self._most = connections
        self._messages_per_connection = messages_per_connection
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Pipeline, tuple[int, ...]] = {}  # what the selector knows of each
        self._serves = False  # whether the last that was heard of the relay was an answer to a message
        self._lost_in_a_row = 0
        self._rest = Rest()
        self._holds_until = 0.0
        self._all_may_begin = True  # not only those that something was heard of
        self._next_look = 0.0  # when to see whether one waits for too long

    def hand_over(
        self,
        mail: Mail,
        sender: Sender,
        into: list[Outcome],
        *,
        deadline: float,
        idempotency_key: uuid.UUID | None = None,
    ) -> None:
        """See `transports.Transport.hand_over`."""
        load = Load(self._make, sender.address, mail, into, deadline=deadline)
        name = greeting_name(sender.domain)
        self._lost_in_a_row = 0
        self._all_may_begin, self._next_look = True, 0.0
        try:
            for pipeline in self._watched:
                pipeline.wake(load)
            while load.left:
                self._turn(load, name)
        except BaseException:
            self.close()  # what is under way belongs to no load any more
            raise

    def rests(self) -> float:
        """See `transports.Transport.rests`."""
        return self._rest.left

    def close(self) -> None:
        """Say QUIT and let the connections go; the next `hand_over` opens others."""
        for pipeline in list(self._watched):
            self._forget(pipeline)
            pipeline.connection.close(politely=pipeline.idle)
        self._places.close()
        self._selector.close()
        self._selector = selectors.DefaultSelector()

    def _make(self, compiled: Compiled, reader: Reader) -> bytes:
        octets = message.assemble(compiled, reader)
        return dkim.signed(octets, self._signers, reader.date) if self._signers else octets

    def _turn(self, load: Load, name: str) -> None:
        """Begin what there is room for, wait for something to happen, and act on it."""
        if load.waiting:
            if load.late:
                load.stop(Result.LATER, TOO_LATE)
            elif rest := self._rest.left:
                load.stop(Result.LATER, self._rest.reason, retry_after=rest)
            elif self._all_may_begin:
                self._all_may_begin = False
                for pipeline in self._watched:
                    if pipeline.ready:
                        pipeline.fill(load)
                self._next_look = 0.0
            self._open_more(load, name)
            load.make_ahead(len(self._watched))
        wait = max(self._next_look - clock.now(), 0) if load.left else 0
        events = self._selector.select(wait)
        for key, _ in events:
            pipeline = key.data
            pipeline.advance(load)
            if load.waiting and pipeline.ready:
                pipeline.fill(load)
            self._look_at(pipeline, load)
        if clock.now() >= self._next_look:
            self._look_at_all(load)

    def _look_at(self, pipeline: Pipeline, load: Load) -> None:
        """Act on what became of a connection."""
        if pipeline.over or pipeline.spent:
            self._let_go(pipeline, load)
            self._all_may_begin = True
        else:
            if pipeline.answered:
                self._serves, self._lost_in_a_row = True, 0
                self._rest.served()
            self._watch(pipeline)

    def _look_at_all(self, load: Load) -> None:
        """Find those that waited too long; done no more often than one can have begun to wait since."""
        now = clock.now()
        for pipeline in list(self._watched):
            if pipeline.until <= now:
                # It may be this worker that was away: what came meanwhile is an answer in time.
                pipeline.advance(load)
                self._all_may_begin = True
            if pipeline.until <= now:
                pipeline.give_up_waiting()
            self._look_at(pipeline, load)
        self._next_look = min([now + self._timeout / 8, *(pipeline.until for pipeline in self._watched)])

    def _open_more(self, load: Load, name: str) -> None:
        """Open as many connections as the messages that wait are worth."""
        while len(self._watched) < self._most and load.waiting:
            others = len(self._watched)
            # The first shows whether the relay takes any.
            if others and (not self._serves or len(load.waiting) < SHARE * others or clock.now() < self._holds_until):
                return
            pipeline = Pipeline(
                self._relay, self._places, name=name, timeout=self._timeout, most=self._messages_per_connection
            )
            self._watched[pipeline] = (-1, 0, 0)
            self._watch(pipeline)
            self._next_look = 0.0

    def _watch(self, pipeline: Pipeline) -> None:
        """See to it that the selector waits for what `pipeline` waits for."""
        connection = pipeline.connection
        wanted = (connection.fileno(), connection.waits_for, connection.number)
        if (before := self._watched[pipeline]) != wanted:
            if before[0] >= 0:
                self._selector.unregister(before[0])
            if wanted[0] >= 0:
                self._selector.register(*wanted[:2], pipeline)
            self._watched[pipeline] = wanted

    def _forget(self, pipeline: Pipeline) -> None:
        number = self._watched.pop(pipeline)[0]
        if number >= 0:
            self._selector.unregister(number)

    def _let_go(self, pipeline: Pipeline, load: Load) -> None:
        """The end of a connection: was it its time, its own trouble, or the relay's?"""
        self._forget(pipeline)
        reason = pipeline.over
        pipeline.let_go(load)
        if pipeline.answered:
            return
        if self._serves and self._watched:
            self._holds_until = clock.now() + HOLD
            return
        self._serves = False
        self._lost_in_a_row += 1
        if pipeline.refusal:
            load.stop(Result.SENDER_REFUSED, pipeline.refusal)
        elif not pipeline.opened:
            self._leave_in_peace(load, reason)
        elif self._lost_in_a_row >= GIVE_UP_AFTER:
            self._leave_in_peace(
                load, f"Not tried: the relay was lost {GIVE_UP_AFTER} times running, the last time: {reason}"
            )

    def _leave_in_peace(self, load: Load, reason: str) -> None:
        """What waits waits as long as the relay rests, and loses no try by it."""
        self._rest.begin(reason)
        load.stop(Result.LATER, reason, retry_after=self._rest.left)
