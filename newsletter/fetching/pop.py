"""A mailbox by POP3 (RFC 1939), by Python's own client, but for the mails: it refuses lines over 2,048 octets, and
mails have such lines."""

from __future__ import annotations

import contextlib
import logging
import poplib
import re
import socket
from collections.abc import Callable
from typing import TypeVar

from newsletter.fetching.place import MOST, Line, Place, TooMuch, Trouble, Unreadable

logger = logging.getLogger(__name__)

T = TypeVar("T")

ROOM = 64 * 1024
# "The number of a mail, and its unique id" (RFC 1939 section 7), which some make longer than the 70 characters there.
_LISTED = re.compile(rb"([0-9]{1,10}) +([!-~]{1,200})")
_FAULTS = (poplib.error_proto, OSError, EOFError, ValueError)


class _Client(poplib.POP3):
    """Python's client, over a line of ours."""

    def __init__(self, place: Place, line: Line, timeout: float) -> None:
        self._place, self._line = place, line
        super().__init__(place.host, place.port, timeout=timeout)

    def _create_socket(self, timeout: float) -> socket.socket:
        return self._line.connect(self._place, timeout)


class PopBox:
    """A mailbox, which is ours alone from `open` until it is closed; only then are deleted mails gone."""

    validity = ""  # what UIDL gives is good for ever

    def __init__(self, place: Place, *, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._numbers: dict[str, str] = {}
        self._line = Line()
        self._pop: _Client | None = None

    def open(self) -> None:
        """Connect, sign in and ask which mails there are."""
        place = self._place
        try:
            self._pop = _Client(place, self._line, self._timeout)
            if place.security == "starttls":
                self._pop.stls(context=place.tls)
            self._pop.user(place.user)
            self._pop.pass_(place.password)
            lines = self._list(self._pop)
        except _FAULTS as error:
            raise Trouble(f"{place.host} cannot be read: {place.said(error)}.") from error
        for line in lines:
            if listed := _LISTED.fullmatch(line):
                self._numbers[listed[2].decode("ascii")] = listed[1].decode("ascii")
        if unnamed := len(lines) - len(self._numbers):
            logger.warning(
                "%s mails of the mailbox for bounces are left there: the server gives them no id of their own.", unnamed
            )

    def ids(self) -> list[str]:
        """What UIDL calls the mails, the oldest first."""
        return list(self._numbers)

    def fetch(self, unique: str, limit: int) -> bytes | None:
        """The first `limit` octets of a mail. Raises Unreadable."""
        command = f"RETR {self._numbers[unique]}\r\n".encode()
        return self._do(lambda pop: self._retrieve(pop, command, limit))

    def delete(self, unique: str) -> None:
        """Delete a mail, once the mailbox is closed."""
        self._do(lambda pop: pop.dele(self._numbers[unique]))

    def close(self) -> None:
        """Take leave: now what was deleted goes."""
        self._do(lambda pop: pop.quit())

    def cut(self) -> None:
        """End the conversation from another thread."""
        self._line.cut()

    def drop(self) -> None:
        """Let the connection go without a word."""
        self._line.close()
        if self._pop is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._pop.close()

    def _list(self, pop: poplib.POP3) -> list[bytes]:
        """What UIDL says, line by line."""
        pop.sock.sendall(b"UIDL\r\n")
        answer = pop.file.readline(ROOM)
        if not answer.startswith(b"+OK"):
            raise poplib.error_proto(answer.strip() or "the connection was closed")
        lines: list[bytes] = []
        taken = 0
        while line := pop.file.readline(ROOM):
            if line in (b".\r\n", b".\n"):
                return lines
            taken += len(line)
            if taken > MOST:
                raise TooMuch("its list of mails has no end")
            lines.append(line.rstrip())
        raise EOFError("the connection was closed in the middle of the list of mails")

    def _retrieve(self, pop: poplib.POP3, command: bytes, limit: int) -> bytes:
        pop.sock.sendall(command)
        answer = pop.file.readline(ROOM)
        if not answer.startswith(b"+OK"):
            if not answer:
                raise EOFError("the connection was closed")
            raise Unreadable(f"the server does not give it: {answer.decode('ascii', 'replace').strip()}")
        kept = bytearray()
        begins = True
        while line := pop.file.readline(ROOM):
            if begins and line in (b".\r\n", b".\n"):
                return bytes(kept[:limit])
            if len(kept) < limit:
                kept += line[1:] if begins and line.startswith(b".") else line
            begins = line.endswith(b"\n")
        raise EOFError("the connection was closed in the middle of a mail")

    def _do(self, what: Callable[[poplib.POP3], T]) -> T:
        assert self._pop is not None, "only an open mailbox is asked"  # noqa: S101
        try:
            return what(self._pop)
        except _FAULTS as error:
            raise Trouble(f"{self._place.host} was lost: {self._place.said(error)}.") from error
