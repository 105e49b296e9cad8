"""A mailbox by IMAP (RFC 3501), by Python's own client: what is needed is one folder, one mail at a time."""

from __future__ import annotations

import contextlib
import imaplib
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from newsletter.fetching.place import MOST, Line, Place, TooMuch, Trouble, Unreadable

T = TypeVar("T")

WINDOW = 20_000  # mails asked for at once: a line with their numbers stays far below what the client takes
_FAULTS = (imaplib.IMAP4.error, OSError, EOFError, ValueError)  # ValueError: an answer that is no IMAP


class _Client(imaplib.IMAP4):
    """Python's client, but that it takes no more than was asked for: a server says itself how long its answer is, and
    how many there are."""

    def __init__(self, place: Place, line: Line, timeout: float) -> None:
        self._place, self._line = place, line
        self.taken = 0  # octets of the answer to one command
        super().__init__(place.host, place.port, timeout=timeout)

    def _create_socket(self, timeout: float) -> socket.socket:
        return self._line.connect(self._place, timeout)

    def read(self, size: int) -> bytes:
        """`size` octets of an answer."""
        self._take(size)
        return super().read(size)

    def readline(self) -> bytes:
        """A line of an answer."""
        line = super().readline()
        self._take(len(line))
        return line

    def _take(self, size: int) -> None:
        self.taken += size
        if self.taken > MOST:
            raise TooMuch(f"it sends over {MOST} octets at once")


class ImapBox:
    """A folder. Every method raises Trouble where the server or the way to it fails."""

    def __init__(self, place: Place, *, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._line = Line()
        self._imap: _Client | None = None

    def open(self) -> None:
        """Connect, sign in and open the folder."""
        try:
            self._imap = _Client(self._place, self._line, self._timeout)
            self._open(self._imap)
        except _FAULTS as error:
            raise Trouble(f"{self._place.host} cannot be read: {self._place.said(error)}.") from error

    def _open(self, imap: imaplib.IMAP4) -> None:
        place = self._place
        if place.security == "starttls":
            imap.starttls(ssl_context=place.tls)
        if "AUTH=PLAIN" in imap.capabilities:
            imap.authenticate("PLAIN", lambda _: f"\0{place.user}\0{place.password}".encode())
        else:
            imap.login(_quoted(place.user), place.password)
        _, offered = imap.capability()  # many offer more after signing in
        self._can_expunge_one = "UIDPLUS" in _text(offered).upper().split()
        said, data = imap.select(_quoted(place.folder))
        if said != "OK":
            raise imaplib.IMAP4.error(f"there is no folder {place.folder} ({_text(data)})")
        self._count = int(data[0] or b"0")
        self.validity = "".join(_numbers(imap.response("UIDVALIDITY")[1]))

    def ids(self) -> list[str]:
        """The UIDs of all mails that nobody has deleted, the oldest first; good for this `validity`."""
        found: list[str] = []
        for first in range(1, self._count + 1, WINDOW):
            last = min(first + WINDOW - 1, self._count)
            said, data = self._do(lambda imap, first=first, last=last: imap.uid("SEARCH", f"{first}:{last} UNDELETED"))  # type: ignore[misc]
            if said != "OK":
                raise Trouble(f"{self._place.host} does not list its mails: {_text(data)}.")
            found += _numbers(data)
        return found

    def fetch(self, uid: str, limit: int) -> bytes | None:
        """The first `limit` octets of a mail, None where it is gone; it stays unread. Raises Unreadable."""
        said, data = self._do(lambda imap: imap.uid("FETCH", uid, f"(BODY.PEEK[]<0.{limit}>)"))
        if said != "OK":
            raise Unreadable(f"the server does not give it: {_text(data)}")
        if data == [None]:
            return None
        for part in data:
            if isinstance(part, tuple):
                return bytes(part[1])
        raise Unreadable("the server gives it in a form that is not known here")

    def delete(self, uid: str) -> None:
        """Delete a mail, for good."""
        said, data = self._do(lambda imap: imap.uid("STORE", uid, r"+FLAGS.SILENT (\Deleted)"))
        if said == "OK":
            said, data = self._do(lambda imap: imap.uid("EXPUNGE", uid) if self._can_expunge_one else imap.expunge())
        if said != "OK":
            raise Trouble(f"{self._place.host} does not delete mails: {_text(data)}.")

    def close(self) -> None:
        """Take leave."""
        self._do(lambda imap: imap.logout())

    def cut(self) -> None:
        """End the conversation from another thread."""
        self._line.cut()

    def drop(self) -> None:
        """Let the connection go without a word."""
        self._line.close()
        if self._imap is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._imap.shutdown()

    def _do(self, what: Callable[[imaplib.IMAP4], T]) -> T:
        assert self._imap is not None, "only an open folder is asked"  # noqa: S101
        self._imap.taken = 0
        try:
            return what(self._imap)
        except _FAULTS as error:
            raise Trouble(f"{self._place.host} was lost: {self._place.said(error)}.") from error


def _quoted(text: str) -> str:
    """A quoted string (RFC 3501 section 4.3); the client does not quote by itself."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(data: Any) -> str:
    """What the server said, in one line."""
    return " ".join(part.decode("ascii", "replace") for part in data or () if isinstance(part, bytes))


def _numbers(data: Any) -> list[str]:
    """The numbers in what the server said, and nothing else that it may say."""
    return [word for word in _text(data).split() if word.isdecimal()]
