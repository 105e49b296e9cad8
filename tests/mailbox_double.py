"""A mail server for tests that a mailbox is read from, by IMAP or POP3, and that misbehaves as it is told.

    with MailboxDouble("imap") as box:
        box.put(raw)
        ...  # read box.url
        assert box.mails == {}

`refuse_login` (in the words of `refusal`), `refuse` (ids that are not given), `drop_at` (ids in the middle of which
the connection is lost), `silent_at` (ids that no answer comes for), `drip_at` (ids that come an octet at a time, each
within any patience), `swell_at` (ids said to be a thousand million octets long, by IMAP), `quote_at` (ids given as a
quoted string, by IMAP), `drip_first` (the greeting, or what TLS begins with, comes an octet at a time), `endless_list`
(the list of mails does not end) and `drop_at_end` (the connection is lost in place of the answer to QUIT or LOGOUT) are
each one way to misbehave. It knows what our client
says and nothing more, and keeps all commands.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
from dataclasses import dataclass, field
from urllib.parse import quote

USER, PASSWORD = "bounces@news.example.org", "a p@ss/word"


class _Dropped(Exception):
    """This connection is to be closed at once."""


@dataclass
class MailboxDouble:
    """See the module."""

    protocol: str = "imap"
    capabilities: str = "AUTH=PLAIN"
    capabilities_inside: str = "UIDPLUS"  # once signed in
    tls: ssl.SSLContext | None = None
    starttls: bool = False
    validity: int | str = 1
    refuse_login: bool = False
    refusal: str = "not"
    drop_at_end: bool = False
    drip_first: bool = False
    endless_list: bool = False
    refuse: set[str] = field(default_factory=set)
    drop_at: set[str] = field(default_factory=set)
    silent_at: set[str] = field(default_factory=set)
    drip_at: set[str] = field(default_factory=set)
    swell_at: set[str] = field(default_factory=set)
    quote_at: set[str] = field(default_factory=set)
    mails: dict[str, bytes] = field(default_factory=dict)
    flagged: set[str] = field(default_factory=set)
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next = 1
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What to set as BOUNCE_MAILBOX."""
        security = "" if not self.tls else "+starttls" if self.starttls else "s"
        path = "/INBOX" if self.protocol == "imap" else ""
        return (
            f"{self.protocol}{security}://{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}{path}"
        )

    def put(self, raw: bytes) -> str:
        """Let a mail arrive; its id."""
        identifier = str(self._next) if self.protocol == "imap" else f"unique-{self._next}"
        self._next += 1
        self.mails[identifier] = raw
        return identifier

    def fetched(self) -> int:
        """How many mails were asked for."""
        return sum("BODY.PEEK" in command or command.startswith("RETR") for command in self.commands)

    def __enter__(self) -> MailboxDouble:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _drip(self, connection: socket.socket, octets: bytes) -> None:
        for octet in octets:
            connection.sendall(bytes([octet]))
            if self._stopping.wait(0.01):
                raise _Dropped

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, _Dropped):
            if self.drip_first:
                greeting = {"imap": b"* OK ", "pop3": b"+OK "}[self.protocol]
                record = b"\x16\x03\x03\x40\x00"  # a handshake of 16 kB
                self._drip(connection, (record if self.tls else greeting) + b"x" * 10_000)
            if self.tls and not self.starttls:
                connection = self._secured(connection)
            session = _Imap(self, connection) if self.protocol == "imap" else _Pop(self, connection)
            session.run()
        with contextlib.suppress(OSError):  # what was read from it by lines keeps a closed socket open
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _secured(self, connection: socket.socket) -> socket.socket:
        assert self.tls
        secured = self.tls.wrap_socket(connection, server_side=True)
        self._connections.append(secured)
        return secured


class _Session:
    """One connection."""

    def __init__(self, box: MailboxDouble, connection: socket.socket) -> None:
        self.box = box
        self.take(connection)
        self.deleted: set[str] = set()

    def take(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lines = connection.makefile("rb")

    def say(self, text: str) -> None:
        self.connection.sendall(text.encode() + b"\r\n")

    def give(self, identifier: str, octets: bytes) -> None:
        if identifier in self.box.silent_at:
            self.box._stopping.wait(30)
            raise _Dropped
        if identifier in self.box.drop_at:
            self.connection.sendall(octets[: len(octets) // 2])
            raise _Dropped
        if identifier in self.box.drip_at:
            self.box._drip(self.connection, octets)
            return
        self.connection.sendall(octets)

    def list_for_ever(self, line: bytes) -> None:
        while True:
            self.connection.sendall(line * 1000)

    def run(self) -> None:
        self.greet()
        while line := self.lines.readline():
            command = line.decode().rstrip("\r\n")
            self.box.commands.append(command)
            if not self.answer(command):
                return

    def greet(self) -> None:
        raise NotImplementedError

    def answer(self, command: str) -> bool:
        raise NotImplementedError

    def leave(self) -> None:
        if self.box.drop_at_end:
            raise _Dropped


class _Imap(_Session):
    inside = False

    def greet(self) -> None:
        self.say("* OK here")

    def answer(self, command: str) -> bool:
        tag, _, rest = command.partition(" ")
        word, _, rest = rest.partition(" ")
        if word == "UID":
            word, _, rest = rest.partition(" ")
            word = f"UID {word}"
        said = getattr(self, f"do_{word.lower().replace(' ', '_')}")(rest)
        self.say(f"{tag} {said or 'OK done'}")
        if word == "STARTTLS":
            self.take(self.box._secured(self.connection))
        return word != "LOGOUT"

    def do_capability(self, _: str) -> None:
        offered = self.box.capabilities_inside if self.inside else self.box.capabilities
        self.say(f"* CAPABILITY IMAP4rev1 STARTTLS {offered}")

    def do_starttls(self, _: str) -> None:
        pass

    def do_authenticate(self, rest: str) -> str:
        self.say("+ ")
        _, user, password = base64.b64decode(self.lines.readline()).decode().split("\0")
        return self.signed_in(user, password)

    def do_login(self, rest: str) -> str:
        user, password = re.findall(r'"((?:[^"\\]|\\.)*)"', rest)
        return self.signed_in(user, password)

    def signed_in(self, user: str, password: str) -> str:
        good = (user, password) == (USER, PASSWORD) and not self.box.refuse_login
        self.inside = good
        return "OK signed in" if good else f"NO [AUTHENTICATIONFAILED] {self.box.refusal} {user} with {password}"

    def do_select(self, rest: str) -> str:
        if rest != '"INBOX"':
            return "NO no such folder"
        self.say(f"* {len(self.box.mails)} EXISTS")
        self.say(f"* OK [UIDVALIDITY {self.box.validity}] good")
        return "OK [READ-WRITE] open"

    def do_uid_search(self, rest: str) -> None:
        if self.box.endless_list:
            self.list_for_ever(b"* SEARCH 1 2 3\r\n")
        first, last = map(int, rest.partition(" ")[0].split(":"))
        asked = list(self.box.mails)[first - 1 : last]
        self.say(" ".join(["* SEARCH", *(uid for uid in asked if uid not in self.box.flagged)]))

    def do_uid_fetch(self, rest: str) -> str | None:
        uid = rest.partition(" ")[0]
        limit = re.search(r"BODY\.PEEK\[\]<0\.(\d+)>", rest)
        assert limit, rest
        if uid in self.box.refuse:
            return "NO [SERVERBUG] it is broken"
        if uid in self.box.quote_at:
            self.say(f'* 1 FETCH (UID {uid} BODY[]<0> "mail")')
        elif uid in self.box.mails:
            octets = self.box.mails[uid][: int(limit[1])]
            size = 10**9 if uid in self.box.swell_at else len(octets)
            self.give(uid, f"* 1 FETCH (UID {uid} BODY[]<0> {{{size}}}\r\n".encode() + octets + b")\r\n")
        return None

    def do_uid_store(self, rest: str) -> None:
        assert rest.endswith(r"+FLAGS.SILENT (\Deleted)"), rest
        self.box.flagged.add(rest.partition(" ")[0])

    def do_uid_expunge(self, rest: str) -> None:
        assert rest in self.box.flagged
        self.box.mails.pop(rest, None)

    def do_expunge(self, _: str) -> None:
        for uid in self.box.flagged:
            self.box.mails.pop(uid, None)

    def do_logout(self, _: str) -> None:
        self.leave()
        self.say("* BYE")


class _Pop(_Session):
    def greet(self) -> None:
        self.say("+OK here")
        self.numbers = list(self.box.mails)

    def answer(self, command: str) -> bool:
        word, _, rest = command.partition(" ")
        getattr(self, f"do_{word.lower()}")(rest)
        if word == "STLS":
            self.take(self.box._secured(self.connection))
        return word != "QUIT"

    def do_capa(self, _: str) -> None:
        self.say("+OK\r\nSTLS\r\nUIDL\r\n.")

    def do_stls(self, _: str) -> None:
        self.say("+OK")

    def do_user(self, rest: str) -> None:
        self.user = rest
        self.say("+OK")

    def do_pass(self, rest: str) -> None:
        good = (self.user, rest) == (USER, PASSWORD) and not self.box.refuse_login
        self.say("+OK" if good else f"-ERR {self.box.refusal} {self.user} with {rest}")

    def do_uidl(self, _: str) -> None:
        if self.box.endless_list:
            self.say("+OK")
            self.list_for_ever(b"1 unique\r\n")
        self.say("\r\n".join(["+OK", *(f"{n} {uid}" for n, uid in enumerate(self.numbers, 1)), "."]))

    def do_retr(self, rest: str) -> None:
        uid = self.numbers[int(rest) - 1]
        if uid in self.box.refuse:
            self.say("-ERR it is broken")
            return
        self.say("+OK")
        lines = self.box.mails[uid].replace(b"\r\n", b"\n").split(b"\n")
        stuffed = [b"." + line if line.startswith(b".") else line for line in lines]
        self.give(uid, b"\r\n".join([*stuffed, b".", b""]))

    def do_dele(self, rest: str) -> None:
        self.deleted.add(self.numbers[int(rest) - 1])
        self.say("+OK")

    def do_quit(self, _: str) -> None:
        self.leave()
        for uid in self.deleted:
            self.box.mails.pop(uid, None)
        self.say("+OK")
