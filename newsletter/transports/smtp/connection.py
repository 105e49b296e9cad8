"""One connection to the relay that never waits: it writes and reads what it can and says what it has to wait for.

Whatever goes wrong does not raise but is noted in `lost`: what had come before it is read and counts.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import time

from newsletter.transports.smtp.relay import Relay
from newsletter.transports.smtp.replies import Replies, Reply

_ROOM = 65536
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """A connection to `relay`, under way as soon as it is made.

    `given` counts the octets it was given to write, `sent` those that the system took: they may have left, the others
    did not. `lost` says why it is of no more use, or is ""; `ended` that nothing more will come; `distrusted` that its
    certificate is not good. `number` counts the sockets it had, `active` is when something last went on, on the clock
    of `time.monotonic`.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
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
        self.active = time.monotonic()
        try:
            self._places = socket.getaddrinfo(relay.host, relay.port, type=socket.SOCK_STREAM)
        except OSError as error:
            self._places = []
            self.lost = str(error)
        else:
            self._connect("the relay has no address")

    def fileno(self) -> int:
        """The number of the socket that is in use at the moment, -1 without one."""
        return self._socket.fileno() if self._socket else -1

    @property
    def waits_for(self) -> int:
        """What there is to wait for: `selectors.EVENT_READ`, `EVENT_WRITE` or both."""
        if not self._open:
            return self._waits_for
        return selectors.EVENT_READ | selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ

    @property
    def unsent(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unsent)

    @property
    def talkative(self) -> bool:
        """Whether part of a reply is there already."""
        return self._replies.begun

    def write(self, octets: bytes) -> None:
        """Write `octets`, once all is written that was given before; what the system does not take now waits."""
        self.given += len(octets)
        if self._unsent or not self._open:
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
            self.active = time.monotonic()
        self.lost = self.lost or self._replies.fault
        return found

    def flush(self) -> None:
        """Write what waits, as far as the system takes it."""
        if self._unsent and self._open:
            self._unsent = self._unsent[self._send(self._unsent) :]

    def secure(self) -> None:
        """Begin to encrypt; what is written from now on waits until that is done."""
        assert self._socket is not None, "only what is connected can be encrypted"  # noqa: S101
        self._open = False
        self._socket = self._relay.tls.wrap_socket(
            self._socket, server_hostname=self._relay.host, do_handshake_on_connect=False
        )
        self._shake_hands()

    def close(self, *, politely: bool = False) -> None:
        """Close; `politely` says QUIT first."""
        if politely and self._open and not self._unsent:
            self._send(b"QUIT\r\n")
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
        self.active = time.monotonic()
        return taken

    def _connect(self, trouble: str) -> None:
        """Begin to connect to the next of the relay's addresses; `trouble` is what is lost where there is none."""
        self.close()
        self._socket = None
        while self._places:
            family, kind, protocol, _, place = self._places.pop(0)
            try:
                made = socket.socket(family, kind, protocol)
            except OSError as error:  # an address of a kind that this machine does not have
                trouble = _said(error)
                continue
            made.setblocking(False)
            # Else a message's last piece waits for the acknowledgement of the one before.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = made.connect_ex(place)
            if number in {0, errno.EINPROGRESS, errno.EWOULDBLOCK}:
                self._socket = made
                self.number += 1
                return
            made.close()
            trouble = os.strerror(number)
        self.lost = trouble

    def _go_on(self) -> bool:
        """Whether the connection is open now."""
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
            self.active = time.monotonic()
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
        except ssl.SSLCertVerificationError as error:
            self.distrusted = True
            self.lost = f"the certificate of {self._relay.host} cannot be trusted: {error.verify_message}"
        except OSError as error:
            self.lost = _said(error)
        else:
            self._open = True
            self.active = time.monotonic()
            self.flush()


def _said(error: OSError) -> str:
    """What went wrong, in the system's words and without its number."""
    if error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
