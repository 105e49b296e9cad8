"""The connections to a relay: which there are, what each has to do next, and when the relay itself needs a rest.

They are driven by one thread, that of the transport. What happens on one of them is in `pipeline`.
"""

from __future__ import annotations

import selectors
import socket

from newsletter import clock
from newsletter.transports.outcomes import Result
from newsletter.transports.resting import Rest
from newsletter.transports.smtp.load import Load
from newsletter.transports.smtp.pipeline import Pipeline
from newsletter.transports.smtp.places import Places
from newsletter.transports.smtp.relay import Relay

# Connections lost one after the other; then the rest of a chunk waits, or it would wait out a timeout per reader.
GIVE_UP_AFTER = 3
SHARE = 5  # waiting messages for each connection there is that make one more worth its opening
HOLD = 30.0  # seconds without another connection, once the relay did not take one beside those it has
_ROOM = 4096
_UNWATCHED = (-1, 0, 0)


class Connections:
    """At most `most` connections to `relay` for what is in `load`, opened when needed, each for
    `messages_per_connection`.

    `timeout` is in seconds and for each step. `bell` is a socket that does not block: what comes by it ends a turn's
    wait. `waited` are the seconds that turns waited, all together.
    """

    def __init__(
        self,
        relay: Relay,
        load: Load,
        rest: Rest,
        bell: socket.socket,
        *,
        timeout: float,
        most: int,
        messages_per_connection: int,
    ) -> None:
        self._relay = relay
        self._places = Places(relay.host, relay.port)
        self._load = load
        self._timeout = timeout
        self._most = most
        self._messages_per_connection = messages_per_connection
        self._selector = selectors.DefaultSelector()
        self._bell = bell
        self._selector.register(bell, selectors.EVENT_READ)
        self._watched: dict[Pipeline, tuple[int, ...]] = {}  # what the selector knows of each
        self._serves = False  # whether the last that was heard of the relay was an answer to a message
        self._lost_in_a_row = 0
        self._rest = rest
        self._holds_until = 0.0
        self._all_may_begin = True  # not only those that something was heard of
        self._next_look = 0.0  # when to see whether one waits for too long
        self._greeting_name = ""
        self.waited = 0.0

    def wake(self, name: str) -> None:
        """There is more to do; the relay is greeted by `name`."""
        self._greeting_name = name
        self._lost_in_a_row = 0
        self._all_may_begin, self._next_look = True, 0.0
        for pipeline in self._watched:
            pipeline.wake()

    def close(self) -> None:
        """Say QUIT and let the connections go."""
        for pipeline in list(self._watched):
            self._forget(pipeline)
            pipeline.connection.close(politely=pipeline.idle)
        self._places.close()
        self._selector.close()

    def turn(self) -> None:
        """Begin what there is room for, wait for something to happen, and act on it."""
        load = self._load
        load.drop_late()
        if load.waiting:
            if rest := self._rest.left:
                load.stop(Result.LATER, self._rest.reason, retry_after=rest)
            elif self._all_may_begin:
                self._all_may_begin = False
                for pipeline in self._watched:
                    if pipeline.ready:
                        pipeline.fill()
                self._next_look = 0.0
            self._open_more()
            load.make_ahead(len(self._watched))
        before = clock.now()
        events = self._selector.select(max(self._next_look - before, 0) if load.left else 0)
        self.waited += clock.now() - before
        for key, _ in events:
            pipeline = key.data
            if pipeline is None:
                self._bell.recv(_ROOM)
                continue
            pipeline.advance()
            if load.waiting and pipeline.ready:
                pipeline.fill()
            self._look_at(pipeline)
        if clock.now() >= self._next_look:
            self._look_at_all()

    def _look_at(self, pipeline: Pipeline) -> None:
        """Act on what became of a connection."""
        if pipeline.over or pipeline.spent:
            self._let_go(pipeline)
            self._all_may_begin = True
        else:
            if pipeline.answered:
                self._serves, self._lost_in_a_row = True, 0
                self._rest.served()
            self._watch(pipeline)

    def _look_at_all(self) -> None:
        """Find those that waited too long; done no more often than one can have begun to wait since."""
        now = clock.now()
        for pipeline in list(self._watched):
            if pipeline.until <= now:
                # It may be this worker that was away: what came meanwhile is an answer in time.
                pipeline.advance()
                self._all_may_begin = True
            if pipeline.until <= now:
                pipeline.give_up_waiting()
            self._look_at(pipeline)
        self._next_look = min([now + self._timeout / 8, *(pipeline.until for pipeline in self._watched)])

    def _open_more(self) -> None:
        """Open as many connections as the messages that wait are worth."""
        waiting = self._load.waiting
        while len(self._watched) < self._most and waiting:
            others = len(self._watched)
            # The first shows whether the relay takes any.
            if others and (not self._serves or len(waiting) < SHARE * others or clock.now() < self._holds_until):
                return
            pipeline = Pipeline(
                self._relay,
                self._places,
                self._load,
                name=self._greeting_name,
                timeout=self._timeout,
                most=self._messages_per_connection,
            )
            self._watched[pipeline] = _UNWATCHED
            self._watch(pipeline)
            self._next_look = 0.0

    def _watch(self, pipeline: Pipeline) -> None:
        """See to it that the selector waits for what `pipeline` waits for."""
        connection = pipeline.connection
        wanted = (connection.fileno(), connection.waits_for, connection.number)
        if (before := self._watched[pipeline]) != wanted:
            if before[0] >= 0:
                self._selector.unregister(before[0])
                self._watched[pipeline] = _UNWATCHED
            if wanted[0] >= 0:
                self._selector.register(*wanted[:2], pipeline)
            self._watched[pipeline] = wanted

    def _forget(self, pipeline: Pipeline) -> None:
        number = self._watched.pop(pipeline)[0]
        if number >= 0:
            self._selector.unregister(number)

    def _let_go(self, pipeline: Pipeline) -> None:
        """The end of a connection: was it its time, its own trouble, or the relay's?"""
        self._forget(pipeline)
        reason = pipeline.over
        pipeline.let_go()
        if pipeline.answered:
            return
        if self._serves and self._watched:
            self._holds_until = clock.now() + HOLD
            return
        self._serves = False
        self._lost_in_a_row += 1
        if pipeline.refusal:
            self._load.stop(Result.SENDER_REFUSED, pipeline.refusal)
        elif not pipeline.opened:
            self._leave_in_peace(reason)
        elif self._lost_in_a_row >= GIVE_UP_AFTER:
            self._leave_in_peace(
                f"Not tried: the relay was lost {GIVE_UP_AFTER} times running, the last time: {reason}"
            )

    def _leave_in_peace(self, reason: str) -> None:
        """What waits waits as long as the relay rests, and loses no try by it."""
        self._rest.begin(reason)
        self._load.stop(Result.LATER, reason, retry_after=self._rest.left)
