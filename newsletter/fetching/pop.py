"""A mailbox by POP3 (RFC 1939), by Python's own client, but for the mails: it refuses lines over 2,048 octets, and
mails have such lines."""

from __future__ import annotations

import contextlib
import poplib
from collections.abc import Callable
from typing import TypeVar

from newsletter.fetching.place import Place, Trouble, Unreadable, shut

T = TypeVar("T")

ROOM = 64 * 1024
_FAULTS = (poplib.error_proto, OSError, EOFError, ValueError)


class PopBox:
    """A mailbox, which is ours alone from `open` until it is closed; only then are deleted mails gone."""

    validity = ""  # what UIDL gives is good for ever

    def __init__(self, place: Place, *, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._numbers: dict[str, str] = {}
        self._pop: poplib.POP3 | None = None

    def open(self) -> None:
        """Connect, sign in and ask which mails there are."""
        place = self._place
        try:
            if place.security == "tls":
                self._pop = poplib.POP3_SSL(place.host, place.port, timeout=self._timeout, context=place.tls)
            else:
                self._pop = poplib.POP3(place.host, place.port, timeout=self._timeout)
            if place.security == "starttls":
                self._pop.stls(context=place.tls)
            self._pop.user(place.user)
            self._pop.pass_(place.password)
            _, lines, _ = self._pop.uidl()
        except _FAULTS as error:
            raise Trouble(f"{place.host} cannot be read: {place.said(error)}.") from error
        for line in lines:
            number, _, unique = line.decode("ascii", "replace").partition(" ")
            self._numbers[unique.strip()] = number

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
        if self._pop is not None:
            shut(self._pop.sock)

    def drop(self) -> None:
        """Let the connection go without a word."""
        if self._pop is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._pop.close()

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
