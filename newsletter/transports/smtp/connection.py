"""One connection to the relay that never waits: it writes and reads what it can and says what it has to wait for.

Whatever goes wrong does not raise but is noted in `lost`: what had come before it is read and counts.
"""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import ssl

from newsletter import clock
from newsletter.transports.smtp.places import Lookup, Place, Places
from newsletter.transports.smtp.relay import Relay
from newsletter.transports.smtp.replies import Replies, Reply

_ROOM = 65536
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class Connection:
    """A connection to `relay`, at one of `places`, under way as soon as it is made; `timeout` is in seconds.

    `given` counts the octets it was given to write, `sent` those that the system took: they may have left, the others
    did not. `lost` says why it is of no more use, or is "": from then on nothing is written; `ended` that nothing more
    will come; `distrusted` that its certificate or its encryption is not good. `number` counts the sockets it had,
    `active` is when something last went on and `turn_ends` when to try the next address, on the clock of `clock.now`.
    """

    def __init__(self, relay: Relay, places: Places, *, timeout: float) -> None:
        self._relay = relay
        self._places = places
        self._replies = Replies()
        self._unsent: memoryview | bytes = b""
        self._open = False  # connected and, where it is to be, encrypted
        self._connecting = True
        self._waits_for = selectors.EVENT_WRITE
        self._socket: socket.socket | None = None
        self.given = self.sent = self.number = 0
        self.lost = ""
        self.ended = False
        self.distrusted = False
        self.active = clock.now()
        self._ends = self.active + timeout  # of connecting, whichever address it is
        self.turn_ends = math.inf
        self._left: list[Place] = []  # addresses that were not tried yet
        self._place: Place | None = None  # where it is connected to, until it is known whether that serves
        self._lookup: Lookup | None = places.ask()
        self._take_places()

    def fileno(self) -> int:
        """The number of the socket that is in use at the moment, -1 without one."""
        used = self._lookup or self._socket
        return used.fileno() if used else -1

    @property
    def waits_for(self) -> int:
        """What there is to wait for: `selectors.EVENT_READ`, `EVENT_WRITE` or both."""
        if self._lookup:
            return selectors.EVENT_READ
        if not self._open:
            return self._waits_for
        return selectors.EVENT_READ | selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ

    @property
    def unsent(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unsent)

    @property
    def talkative(self) -> bool:
        """Whether more is there already than the replies that were read."""
        return self._replies.begun or bool(self._replies.fault)

    def write(self, octets: bytes) -> None:
        """Write `octets`, once all is written that was given before; what the system does not take now waits."""
        self.given += len(octets)
        if self._unsent or not self._open or self.lost:
            self._unsent = bytes(self._unsent) + octets
            return
        taken = self._send(octets)
        if taken < len(octets):
            self._unsent = memoryview(octets)[taken:]

    def read(self) -> list[Reply]:
        """Go on with connecting or encrypting, and return the replies that have come."""
        if not self._open and (self.lost or not self._go_on()):
            return []
        assert self._socket is not None, "an open connection has a socket"  # noqa: S101
        found: list[Reply] = []
        while not self.ended and not self._replies.fault:
            try:
                octets = self._socket.recv(_ROOM)
            except _WAITS:
                break
            except OSError as error:
                self.ended = True
                self.lost = self.lost or _said(error)
                break
            if not octets:
                self.ended = True
                self.lost = self.lost or "the relay hung up"
                break
            found += self._replies.read(octets)
            if len(octets) < _ROOM and self._relay.security == "":
                break  # an encrypted connection may hold octets back that no selector knows of
        if found:
            self.active = clock.now()
        self.lost = self.lost or self._replies.fault
        return found

    def flush(self) -> None:
        """Write what waits, as far as the system takes it."""
        if self._unsent and self._open and not self.lost:
            self._unsent = self._unsent[self._send(self._unsent) :]

    def secure(self) -> None:
        """Begin to encrypt; what is written from now on waits until that is done."""
        assert self._socket is not None, "only what is connected can be encrypted"  # noqa: S101
        self._open = False
        try:
            self._socket = self._relay.tls.wrap_socket(
                self._socket, server_hostname=self._relay.host, do_handshake_on_connect=False
            )
        except OSError as error:
            self._note_no_handshake(error)
        else:
            self._shake_hands()

    def note_serves(self) -> None:
        """The relay takes mail here: this address is the first to be tried next time."""
        if self._place:
            self._places.note(self._place, serves=True)
            self._place = None

    def moves_on(self) -> bool:
        """Whether it was waiting for an address while there are others; then the next one has its turn."""
        if not self._left:
            return False
        self._connect("")
        return True

    def close(self, *, politely: bool = False) -> None:
        """Close; `politely` says QUIT first."""
        if politely and self._open and not self._unsent:
            self._send(b"QUIT\r\n")
        if self._lookup:
            self._places.give_back(self._lookup)
            self._lookup = None
        if self._place:
            self._places.note(self._place, serves=False)
            self._place = None
        if self._socket is not None:
            self._socket.close()

    def _send(self, octets: memoryview | bytes) -> int:
        assert self._socket is not None, "only an open connection is written to"  # noqa: S101
        try:
            taken = self._socket.send(octets)
        except _WAITS:
            return 0
        except OSError as error:
            self.lost = self.lost or _said(error)
            return 0
        self.sent += taken
        self.active = clock.now()
        return taken

    def _take_places(self) -> None:
        """Go on with what the resolver says, once it has."""
        assert self._lookup, "asked when it was made"  # noqa: S101
        if self._lookup.answered:
            self._lookup.close()
            self._left, trouble = self._places.in_order(self._lookup.found), self._lookup.trouble
            self._lookup = None
            self._connect(trouble or "the relay has no address")

    def _connect(self, trouble: str) -> None:
        """Begin to connect to the next of the relay's addresses; `trouble` is what is lost where there is none."""
        self.close()
        self._socket = None
        self.turn_ends = math.inf
        while self._left:
            place = self._left.pop(0)
            try:
                made = socket.socket(*place[:3])
            except OSError as error:  # an address of a kind that this machine does not have
                trouble = _said(error)
                continue
            made.setblocking(False)
            # Else a message's last piece waits for the acknowledgement of the one before.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = made.connect_ex(place[4])
            if number in {0, errno.EINPROGRESS, errno.EWOULDBLOCK}:
                self._socket, self._place = made, place
                self.number += 1
                now = clock.now()
                self.turn_ends = now + (self._ends - now) / (len(self._left) + 1)
                return
            self._places.note(place, serves=False)
            made.close()
            trouble = os.strerror(number)
        self.lost = trouble

    def _go_on(self) -> bool:
        """Whether the connection is open now."""
        if self._lookup:
            self._take_places()
            return False
        if self._socket is None:
            return False
        if self._connecting:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self._connect(os.strerror(number))
                return False
            try:
                self._socket.getpeername()
            except OSError:
                return False  # not yet
            self._connecting = False
            self._left, self.turn_ends = [], math.inf
            self.active = clock.now()
            if self._relay.security == "tls":
                self.secure()
                return self._open
            self._open = True
            self.flush()
            return True
        self._shake_hands()
        return self._open

    def _shake_hands(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket), "secure() made it one"  # noqa: S101
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._waits_for = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            self._waits_for = selectors.EVENT_WRITE
        except OSError as error:
            self._note_no_handshake(error)
        else:
            self._open = True
            self.active = clock.now()
            self.flush()

    def _note_no_handshake(self, error: OSError) -> None:
        """Tell a relay that went away from one that cannot be trusted: what is no TLS may come from a stranger."""
        host = self._relay.host
        if isinstance(error, _HUNG_UP):
            self.lost = "the relay hung up"
            return
        if not isinstance(error, ssl.SSLError):
            self.lost = _said(error)
            return
        self.distrusted = True
        reason = (error.reason or "").replace("_", " ").lower()
        if isinstance(error, ssl.SSLCertVerificationError):
            self.lost = f"the certificate of {host} cannot be trusted: {error.verify_message}"
        elif "alert" in reason:
            self.lost = f"{host} agrees to no encryption with us: {reason}"
        else:
            self.lost = (
                f"what {host} says where encryption is due is no TLS: the port is a wrong one, or somebody stands in"
                f" between and tampers with it ({reason})"
            )


def _said(error: OSError) -> str:
    """What went wrong, in the system's words and without its number."""
    if error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
