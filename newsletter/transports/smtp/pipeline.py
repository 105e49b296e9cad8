"""Messages on one connection, as many under way at once as the relay allows; answers are matched strictly by order.

Three ways, by what the relay offers:

    CHUNKING and PIPELINING (RFC 3030)   whole messages follow each other, up to DEPTH unanswered:
                                         MAIL RCPT BDAT octets | RSET MAIL RCPT BDAT octets | …
    PIPELINING (RFC 2920)                the next envelope rides behind the message before it, one message unanswered:
                                         MAIL RCPT DATA | octets . MAIL RCPT DATA | octets . …
    neither                              a command, an answer, a command, an answer

RSET stands before each message that is sent before the one in front of it was answered: should that one fail, its
envelope must not be what this one is added to.
"""

from __future__ import annotations

from collections import deque

from newsletter import clock
from newsletter.transports.outcomes import Result
from newsletter.transports.smtp.connection import Connection
from newsletter.transports.smtp.load import TOO_LATE, Load, Message
from newsletter.transports.smtp.opening import NotNow, Refused, asking_again, opening
from newsletter.transports.smtp.places import Places
from newsletter.transports.smtp.relay import Relay
from newsletter.transports.smtp.replies import Reply

DEPTH = 5  # unanswered messages on a connection, which is what its loss can leave in doubt
SLOW = "the relay did not answer in time"
OUT_OF_STEP = "the relay's answers are out of step"
IDLE = 5.0  # seconds; a connection that was idle for longer is asked first whether it still serves

_FAR = 1e12

_ENVELOPE = ("MAIL", "RCPT", "DATA", "message")
_CHUNK = ("MAIL", "RCPT", "message")
_NO_NEWS = frozenset({"RSET", "MAIL", "RCPT"})
_WORDS = {"dot": b".\r\n", "RSET": b"RSET\r\n", "DATA": b"DATA\r\n"}


class Pipeline:
    """One connection to `relay`, at one of `places`, and those of `load` that are under way on it.

    `timeout` is in seconds and for each step, `most` the messages before another connection is due. `over` says why it
    is of no more use, or is ""; `refusal` is the relay's word where it takes no mail from this sender at all.
    """

    def __init__(self, relay: Relay, places: Places, load: Load, *, name: str, timeout: float, most: int) -> None:
        self.connection = Connection(relay, places, timeout=timeout)
        self.extensions: dict[str, str] = {}
        self.in_flight: deque[Message] = deque()
        self.answered = 0
        self.refusal = ""
        self._load = load
        self._timeout = timeout
        self._most = most
        self._begun = 0
        self._over = ""
        self._timed_out = False
        self._closing = ""  # the 421 after which nothing new begins
        self._to_forget = False  # an envelope without its message: RSET is due
        self._to_end = False  # DATA was taken though nobody is to get the message: a lone dot is due
        self._opening = opening(relay, name, self.extensions)
        self._opens = True
        self.opened = False  # whether it ever was ready
        next(self._opening)

    @property
    def over(self) -> str:
        """Why nothing more can be done here, or ""."""
        return self._over or self.connection.lost or (not self.in_flight and self._closing) or ""

    @property
    def idle(self) -> bool:
        """Whether it waits for nothing."""
        return not self._opens and not self.in_flight

    @property
    def ready(self) -> bool:
        """Whether it can take messages."""
        return not self._opens and not self.over

    @property
    def spent(self) -> bool:
        """Whether it carried as many messages as one connection may, and all are answered."""
        return self._begun >= self._most and not self.in_flight

    @property
    def until(self) -> float:
        """When to wait no longer, on the clock of `clock.now`."""
        if self.over or self.spent:
            return 0.0
        if self.idle:
            return _FAR
        patience = min(self.connection.active + self._timeout, self.connection.turn_ends)
        if self.in_flight and self.in_flight[0].begun:
            return min(patience, self.in_flight[0].begun + 2 * self._timeout)
        return patience

    def wake(self) -> None:
        """Before new messages: see whether the relay has closed an idle connection meanwhile, since what is written to
        such a one is in doubt; where it was idle for a while, ask whether it still serves."""
        if self.idle:
            self._listen()
        if self.idle and not self.over and clock.now() - self.connection.active > IDLE:
            self._opening, self._opens = asking_again(), True
            self.connection.write(next(self._opening) or b"")

    def advance(self) -> None:
        """Act on the answers that have come, and write what waits."""
        self._listen()
        if self.connection.unsent:
            # A worker that was frozen in the middle of a message must not bring it to its end long after.
            if clock.now() < self.until:
                self.connection.flush()
            else:
                self.give_up_waiting()

    def give_up_waiting(self) -> None:
        """The relay is too slow, at any of its addresses."""
        if not self.over and not self.spent and not self.connection.moves_on():
            self._over, self._timed_out = SLOW, True

    def fill(self) -> None:
        """Begin as many of the messages that wait as there is room for."""
        if "PIPELINING" in self.extensions and "CHUNKING" in self.extensions:
            # A connection has to show first that it answers: a relay that is ill leaves few doubts.
            while (
                len(self.in_flight) < DEPTH
                and len(self.in_flight) <= self.answered
                and not self.connection.unsent
                and (message := self._next())
            ):
                self._send_chunk(message)
        elif not self.in_flight and (message := self._next()):
            self.connection.write(self._envelope(message))

    def let_go(self) -> None:
        """Close, and say of each message under way what became of it."""
        # What a connection that broke while it was written to still holds was said before it broke.
        while self.connection.lost and not self.connection.ended and self._listen():
            pass
        self.connection.close(politely=not self.in_flight and not self.over)
        # 421 is an answer to all that stands behind it too: the relay closed without reading that.
        spared = self._closing and self.connection.ended
        reason = self._closing or self.over
        for number, message in enumerate(self.in_flight):
            if message.refused is not None:
                self._refuse(message)
            elif message.doubt_from is not None and self.connection.sent > message.doubt_from and not spared:
                self._load.settle(message, Result.UNKNOWN, f"No answer after the message was written: {reason}")
            elif number == 0 and self._timed_out:
                self._load.settle(message, Result.LATER, reason)
            else:
                self._load.put_back(message, reason, blamed=number == 0 and not self._closing)
        self.in_flight.clear()

    def _listen(self) -> bool:
        """Act on the answers that have come; whether there were any."""
        replies = self.connection.read()
        for number, reply in enumerate(replies, 1):
            if self._over:
                break
            if self._opens:
                self._open(reply, alone=number == len(replies) and not self.connection.talkative)
            elif self.in_flight:
                self._take(reply)
            else:
                self._over = str(reply) if reply.closes else OUT_OF_STEP
        if self.connection.distrusted:
            self.refusal = self.connection.lost
        return bool(replies)

    def _open(self, reply: Reply, *, alone: bool) -> None:
        try:
            said = self._opening.send(reply)
            if said is None:
                if not alone:  # said before the encryption, to be read after it: someone stands in between
                    raise Refused("the relay went on talking in the clear after STARTTLS")
                self.connection.secure()
                said = next(self._opening)
        except StopIteration:
            self._opens, self.opened = False, True
            self.connection.note_serves()
        except Refused as error:
            self.refusal = self._over = str(error)
        except NotNow as error:
            self._over = str(error)
        else:
            self.connection.write(said or b"")

    def _next(self) -> Message | None:
        if self._begun >= self._most or self._closing or self.over:
            return None
        message = self._load.next(utf8={"SMTPUTF8", "8BITMIME"} <= self.extensions.keys())
        if message:
            self._begun += 1
        return message

    def _commands(self, message: Message) -> list[bytes]:
        """MAIL and RCPT."""
        address = message.reader.address
        size = b" SIZE=%d" % len(message.octets) if "SIZE" in self.extensions else b""
        options = b"" if address.isascii() else b" BODY=8BITMIME SMTPUTF8"  # RFC 6531 section 3.4
        sender = message.reader.return_address or message.sender
        mail = b"MAIL FROM:<%b>%b%b\r\n" % (sender.encode(), size, options)
        return [mail, b"RCPT TO:<%b>\r\n" % address.encode()]

    def _send_chunk(self, message: Message) -> None:
        reset = bool(self.in_flight) or self._to_forget
        self._to_forget = False
        message.start_over(("RSET", *_CHUNK) if reset else _CHUNK)
        head = b"".join([b"RSET\r\n" * reset, *self._commands(message), b"BDAT %d LAST\r\n" % len(message.octets)])
        octets = head + message.octets
        message.begun = clock.now()
        message.doubt_from = self.connection.given + len(octets) - 1
        self.in_flight.append(message)
        self.connection.write(octets)

    def _envelope(self, message: Message) -> bytes:
        """What stands before the message, as far as it is said at once; `message` is under way from here on."""
        before = [step for step, due in (("dot", self._to_end), ("RSET", self._to_forget)) if due]
        self._to_end = self._to_forget = False
        message.start_over((*before, *_ENVELOPE))
        self.in_flight.append(message)
        if "PIPELINING" in self.extensions:
            return b"".join([*map(_WORDS.__getitem__, before), *self._commands(message), _WORDS["DATA"]])
        return self._command(message)

    def _command(self, message: Message) -> bytes:
        """The one that is due, where the relay wants them one by one."""
        step = message.steps[message.at]
        mail, rcpt = self._commands(message)
        return {**_WORDS, "MAIL": mail, "RCPT": rcpt}[step]

    def _take(self, reply: Reply) -> None:
        """One answer to the message that is due."""
        message = self.in_flight[0]
        step = message.steps[message.at]
        message.at += 1
        if reply.code == 250 and step in _NO_NEWS and "PIPELINING" in self.extensions:
            return
        if reply.closes:
            self._closing = self._closing or str(reply)
        if step == "message":
            self._finish(message, reply)
            return
        if (step == "DATA" and reply.kind == 2) or (step in {"MAIL", "RCPT", "RSET"} and reply.kind == 3):
            self._over = OUT_OF_STEP
        elif step == "RSET" and reply.kind != 2:
            self._over = self._closing or "the relay did not take RSET"
        elif reply.kind >= 4 and step != "dot" and message.refused is None:
            message.refused, message.by_sender = reply, step == "MAIL"
        if self._over or message.doubt_from is not None:
            return  # the answer to BDAT tells
        if self._closing:
            # The message has not left, and the relay reads nothing more.
            self._over = self._closing
        elif step == "DATA":
            self._go_on_from_data(message, taken=reply.kind == 3)
        elif "PIPELINING" not in self.extensions:
            if message.refused is not None:
                self._go_on_from_data(message, taken=False)
            else:
                self.connection.write(self._command(message))

    def _go_on_from_data(self, message: Message, *, taken: bool) -> None:
        """The envelope is answered: send the message, or see to it that none is sent."""
        if message.refused is not None:
            self.in_flight.popleft()
            self._to_forget, self._to_end = True, taken
            self._refuse(message)
            self.answered += 1
            self.fill()
            if self._to_end:
                self._over = "closed in place of an empty message"
        elif message.late:
            self.in_flight.popleft()
            self._load.settle_late(message)
            self._over = TOO_LATE
        else:
            octets = message.octets + b".\r\n"
            message.begun = clock.now()
            # The dot, not the octet after it: some relays take a lone CR for the end of a line.
            message.doubt_from = self.connection.given + len(message.octets)
            if "PIPELINING" in self.extensions and (following := self._next()):
                octets += self._envelope(following)
            self.connection.write(octets)

    def _finish(self, message: Message, reply: Reply) -> None:
        """The answer to the message itself."""
        self.in_flight.popleft()
        if message.refused is not None:
            # Where only MAIL was refused and yet the message taken, nobody can tell to whom it goes.
            if reply.kind == 2 and message.by_sender:
                self._over = OUT_OF_STEP
                self._load.settle(message, Result.UNKNOWN, OUT_OF_STEP)
            else:
                self._refuse(message)
            self._to_forget = True
        elif reply.kind == 2:
            self._load.settle(message, Result.ACCEPTED, str(reply))
        elif reply.kind == 3:
            self._over = OUT_OF_STEP
            self._load.settle(message, Result.UNKNOWN, OUT_OF_STEP)
        else:
            message.refused = reply
            self._refuse(message)
            self._to_forget = True
        self.answered += not reply.closes
        if reply.closes and all(behind.doubt_from is None for behind in self.in_flight):
            self._over = self._closing

    def _refuse(self, message: Message) -> None:
        reply = message.refused
        assert reply is not None, "only what was refused"  # noqa: S101
        if reply.closes:
            self._load.put_back(message, str(reply), blamed=True)
        elif reply.refuses_sender or (message.by_sender and reply.kind == 5):
            self._load.settle(message, Result.SENDER_REFUSED, str(reply))
            self._load.stop(Result.SENDER_REFUSED, str(reply))
        else:
            self._load.settle(message, Result.REFUSED if reply.kind == 5 else Result.LATER, str(reply))
