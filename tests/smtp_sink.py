"""A mail server for tests that keeps what it is given and misbehaves as it is told.

In a test:

    with SmtpSink() as sink:
        ...  # hand over to sink.url
        assert sink.count("ada@example.org") == 1

As a program, for tests that kill things (`journal` is then the record; read it with `read_journal`):

    python tests/smtp_sink.py --journal FILE [--port N] [--delay SECONDS] [--gate FILE]

It prints `listening on smtp://127.0.0.1:PORT` and ends with SIGTERM.

How a mail is treated may stand in the local part of its recipient, whatever follows the hyphen:

    refuse550-   that 5xx or 4xx reply to RCPT (later451- is the same)
    data554-     that reply to DATA or BDAT
    final451-    that reply to the finished message
    close421-    421 to RCPT, then the connection is closed
    drop-at-rcpt-, drop-at-data-     the connection is closed without an answer to that command
    drop-before-dot-     the connection is closed while the message is read. A message that fits the buffers in between
                 has left by then, so a sender cannot tell: use drop-at-data- where it should be able to
    drop-after-dot-     the message is kept, but the connection is closed without an answer
    lose-after-dot-     the message is not kept, and the connection is closed without an answer
    slow-        the answer to the finished message comes after `delay` seconds
    gated-       as slow-, and the answer is 451 as long as there is a file `gate`
    once-        before any of these: only the first time this recipient is seen

How every mail is treated: `answers` maps a step (connect EHLO HELO STARTTLS AUTH MAIL RCPT DATA message) to a reply,
to HANG_UP, or to a function of the `Session` that gives one of them or None (as usual). A function may also wait.
HANG_UP as the answer to `message` keeps it. `extensions` is what EHLO offers (CHUNKING among them makes BDAT work);
STARTTLS and AUTH are added where `tls` or `credentials` are given. With `cut_at` the first connection is closed once so
many octets were read of it. The sink is strict: lines without CRLF, lines over 998 octets and messages without a
recipient get a 5xx, and after a BDAT that failed its envelope stands until RSET (RFC 3030).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import email
import json
import re
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from typing import IO

HANG_UP = "hang up"
EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES")
WITH_CHUNKING = (*EXTENSIONS, "CHUNKING")
_TREATMENT = re.compile(
    r"(?P<once>once-)?(?:(?P<step>refuse|later|data|final)(?P<code>\d{3})-|"
    r"(?P<special>close421|drop-at-rcpt|drop-at-data|drop-before-dot|drop-after-dot|lose-after-dot|slow|gated)-)"
)


@dataclass(frozen=True)
class Received:
    """A message the sink kept. `answered` says whether its 250 was sent; `at` is seconds since 1970."""

    rcpt: str
    sender: str
    message_id: str
    at: float
    answered: bool
    raw: bytes

    def parsed(self) -> EmailMessage:
        """The message as Python's parser reads it."""
        parsed = email.message_from_bytes(self.raw, policy=default_policy)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class Session:
    """One connection: `number` counts from 1; `kept` the messages kept on it; `commands` all it was sent."""

    number: int
    name: str = ""
    sender: str | None = None
    rcpt: str | None = None
    kept: int = 0
    signed_in: bool = False
    secured: bool = False
    commands: list[str] = field(default_factory=list)


Answer = str | Callable[[Session], str | None]


class _HungUp(Exception):
    """This connection is to be closed at once."""


class SmtpSink:
    """See the module. Threads, one per connection; safe to ask from any thread."""

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        journal: Path | None = None,
        delay: float = 1.0,
        gate: Path | None = None,
        answers: Mapping[str, Answer] | None = None,
        extensions: Sequence[str] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        credentials: tuple[str, str] | None = None,
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN"),
        cut_at: int | None = None,
    ) -> None:
        self.answers = dict(answers or {})
        self.extensions = list(extensions)
        self.sessions: list[Session] = []
        self._tls, self._implicit_tls = tls, implicit_tls
        self._credentials, self._mechanisms = credentials, mechanisms
        self._cut_at = cut_at
        self._delay, self._gate = delay, gate
        self._journal: IO[bytes] | None = journal.open("ab", buffering=0) if journal else None
        self._received: list[Received] = list(read_journal(journal)) if journal else []
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._stopping = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=200)
        self.host, self.port = host, int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True, name="smtp-sink")
        self._thread.start()

    @property
    def url(self) -> str:
        """What to set as SMTP_URL, without user and password."""
        scheme = "smtps" if self._implicit_tls else "smtp+starttls" if self._tls else "smtp"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def messages(self, rcpt: str | None = None) -> list[Received]:
        """What was kept, in order: everything, or what went to `rcpt`."""
        with self._lock:
            return [each for each in self._received if rcpt in (None, each.rcpt)]

    def count(self, rcpt: str | None = None) -> int:
        """How many messages were kept."""
        return len(self.messages(rcpt))

    def hang_up(self) -> None:
        """Close every open connection, as a relay does that restarts."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Close the port and every connection."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self._thread.join(5)
        if self._journal:
            self._journal.close()

    def __enter__(self) -> SmtpSink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.add(connection)
                session = Session(number=len(self.sessions) + 1)
                self.sessions.append(session)
            threading.Thread(target=self._serve, args=(connection, session), daemon=True).start()

    def _serve(self, connection: socket.socket, session: Session) -> None:
        conversation = _Conversation(self, connection, session)
        try:
            if self._implicit_tls:
                conversation.secure()
            conversation.run()
        except (_HungUp, OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            conversation.close()

    def _treatment(self, rcpt: str) -> tuple[str, str]:
        """The step at which `rcpt` is treated specially, and how; or two empty strings."""
        found = _TREATMENT.match(rcpt)
        with self._lock:
            self._seen[rcpt] += 1
            if not found or (found["once"] and self._seen[rcpt] > 1):
                return "", ""
        if found["step"]:
            return {"data": "DATA", "final": "message"}.get(found["step"], "RCPT"), f"{found['code']} as {rcpt} asks"
        return found["special"], ""

    def _keep(self, session: Session, raw: bytes, *, answered: bool) -> None:
        message_id = re.search(rb"^Message-ID:\s*<([^>]*)>", raw, re.IGNORECASE | re.MULTILINE)
        received = Received(
            rcpt=session.rcpt or "",
            sender=session.sender or "",
            message_id=message_id[1].decode("ascii", "replace") if message_id else "",
            at=time.time(),
            answered=answered,
            raw=raw,
        )
        with self._lock:
            if self._journal:
                line = {**vars(received), "raw": base64.b64encode(raw).decode("ascii")}
                # Written, it outlives a kill. Forcing it to the disk as well can take longer than a sender waits.
                self._journal.write(json.dumps(line).encode() + b"\n")
            self._received.append(received)
        session.kept += 1


class _Conversation:
    """What is said on one connection."""

    def __init__(self, sink: SmtpSink, connection: socket.socket, session: Session) -> None:
        self._sink, self._session = sink, session
        self._use(connection)
        self._special = ("", "")
        self._octets = 0
        self._chunks = b""

    def _use(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb", buffering=65536)

    def _read(self, size: int = -1) -> bytes:
        """So many octets, or a line; less where the connection ends or is cut."""
        octets = self._file.readline() if size < 0 else self._file.read(size)
        self._octets += len(octets)
        if self._sink._cut_at is not None and self._session.number == 1 and self._octets > self._sink._cut_at:
            raise _HungUp
        return octets

    def secure(self) -> None:
        """Go on encrypted."""
        assert self._sink._tls
        self._use(self._sink._tls.wrap_socket(self._socket, server_side=True))
        self._session.secured = True

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def run(self) -> None:
        """Answer until QUIT or the end of the connection."""
        self._say("220 sink ESMTP", step="connect")
        while line := self._read():
            command = line.decode("utf-8", "replace").rstrip("\r\n")
            self._session.commands.append(command)
            verb, _, rest = command.partition(" ")
            step = getattr(self, f"_on_{verb.lower()}", None)
            if step is None:
                self._say("500 5.5.1 what?")
            elif not line.endswith(b"\r\n"):
                self._say("500 5.5.2 a line ends with CRLF")
            else:
                step(rest)
                if verb.upper() == "QUIT":
                    return

    def _say(self, usual: str, *, step: str = "") -> bool:
        """Answer as usual or as told; whether it was a 2xx or 3xx."""
        told = self._sink.answers.get(step)
        reply = (told(self._session) if callable(told) else told) or usual
        if reply == HANG_UP:
            raise _HungUp
        self._answer(reply)
        return reply[0] in "23"

    def _on_ehlo(self, name: str) -> None:
        offered = list(self._sink.extensions)
        if self._sink._tls and not self._session.secured:
            offered.append("STARTTLS")
        if self._sink._credentials:
            offered.append(f"AUTH {' '.join(self._sink._mechanisms)}")
        lines = [f"sink greets {name}", *offered]
        self._session.name = name
        self._say("\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]), step="EHLO")

    def _on_helo(self, name: str) -> None:
        self._session.name = name
        self._say("250 sink", step="HELO")

    def _on_starttls(self, _: str) -> None:
        if self._say("220 2.0.0 go ahead", step="STARTTLS"):
            self.secure()

    def _on_auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        if mechanism.upper() == "PLAIN":
            _, user, password = base64.b64decode(initial).decode().split("\0")
        else:
            user, password = (self._ask(word) for word in ("Username:", "Password:"))
        self._session.signed_in = (user, password) == self._sink._credentials
        right, wrong = "235 2.7.0 welcome", f"535 5.7.8 {user} is not known by this password"
        self._say(right if self._session.signed_in else wrong, step="AUTH")

    def _ask(self, word: str) -> str:
        self._say(f"334 {base64.b64encode(word.encode()).decode()}")
        return base64.b64decode(self._read()).decode()

    def _on_mail(self, rest: str) -> None:
        session = self._session
        found = re.fullmatch(r"FROM:<([^>]*)>(.*)", rest, re.IGNORECASE)
        if self._sink._credentials and not session.signed_in:
            self._say("530 5.7.0 sign in first")
        elif session.sender is not None:
            self._say("503 5.5.1 one MAIL at a time")
        elif not found:
            self._say("501 5.5.4 MAIL FROM:<address>")
        elif self._say("250 2.1.0 sender fine", step="MAIL"):
            session.sender, session.rcpt = found[1], None

    def _on_rcpt(self, rest: str) -> None:
        session = self._session
        found = re.fullmatch(r"TO:<([^>]+)>", rest, re.IGNORECASE)
        if session.sender is None:
            self._say("503 5.5.1 MAIL first")
            return
        if not found:
            self._say("501 5.5.4 RCPT TO:<address>")
            return
        special = self._sink._treatment(found[1])
        if special[0] == "drop-at-rcpt":
            raise _HungUp
        usual = "250 2.1.5 reader fine"
        if special[0] == "RCPT":
            usual = special[1]
        elif special[0] == "close421":
            usual = "421 4.3.2 closing"
        if self._say(usual, step="RCPT"):
            session.rcpt, self._special = found[1], special

    def _on_data(self, _: str) -> None:
        # Answers 354 without a recipient where told to, as RFC 2920 allows: then nothing may follow but the dot.
        usual = "354 go on" if self._session.rcpt else "503 5.5.1 RCPT first"
        if self._special[0] == "drop-at-data":
            raise _HungUp
        if self._special[0] == "DATA":
            usual = self._special[1]
        if self._say(usual, step="DATA"):
            self._read_message()

    def _read_message(self) -> None:
        lines: list[bytes] = []
        fault = "" if self._session.rcpt else "554 5.5.1 no valid recipients"
        while (line := self._read()) != b".\r\n":
            if not line or self._special[0] == "drop-before-dot":
                raise _HungUp
            if not line.endswith(b"\r\n") or b"\r" in line[:-2] or len(line) > 1000:
                fault = "550 5.6.0 a line without CRLF or too long"
            lines.append(line[1:] if line.startswith(b".") else line)
        try:
            self._finish(b"".join(lines), fault)
        finally:
            self._forget()

    def _on_bdat(self, rest: str) -> None:
        if "CHUNKING" not in self._sink.extensions:
            self._say("502 5.5.1 no BDAT here")
            raise _HungUp
        size, _, last = rest.partition(" ")
        if self._special[0] == "drop-at-data":
            raise _HungUp
        octets = self._read(1 if self._special[0] == "drop-before-dot" else int(size))
        if self._special[0] == "drop-before-dot" or len(octets) < int(size):
            raise _HungUp
        self._chunks += octets
        if not self._session.rcpt:
            self._say("503 5.5.1 RCPT first")
        elif self._special[0] == "DATA":
            self._say(self._special[1])
        elif not last:
            self._say("250 2.0.0 go on")
        elif self._finish(self._chunks, ""):
            self._forget()

    def _finish(self, raw: bytes, fault: str) -> bool:
        """Answer to a whole message; whether it was taken."""
        session, special = self._session, self._special
        if special[0] == "lose-after-dot":
            raise _HungUp
        if special[0] in {"slow", "gated"}:
            time.sleep(self._sink._delay)
        if special[0] == "gated" and self._sink._gate and self._sink._gate.exists():
            fault = "451 4.3.0 the gate is shut"
        if special[0] == "message":
            fault = special[1]
        told = self._sink.answers.get("message")
        reply = (told(session) if callable(told) else told) or fault or "250 2.0.0 kept"
        silent = special[0] == "drop-after-dot" or reply == HANG_UP
        if silent or reply.startswith("2"):
            self._sink._keep(session, raw, answered=not silent)
        if silent:
            raise _HungUp
        self._answer(reply)
        return reply.startswith("2")

    def _answer(self, reply: str) -> None:
        self._socket.sendall(reply.encode() + b"\r\n")
        if reply.startswith("421"):
            # Closed with something unread, the connection is reset, and a reset may overtake the answer.
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(5)
            while self._socket.recv(65536):
                pass
            raise _HungUp

    def _forget(self) -> None:
        self._session.sender = self._session.rcpt = None
        self._special, self._chunks = ("", ""), b""

    def _on_rset(self, _: str) -> None:
        self._forget()
        self._say("250 2.0.0 forgotten")

    def _on_noop(self, _: str) -> None:
        self._say("250 2.0.0 still here")

    def _on_quit(self, _: str) -> None:
        self._say("221 2.0.0 bye")


def read_journal(path: Path) -> list[Received]:
    """What a sink wrote to its journal, in order; a last line that is not finished is left out."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [Received(**{**line, "raw": base64.b64decode(line["raw"])}) for line in lines]


def main() -> None:
    """Run one sink until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, required=True, help="file of JSON lines, one per message kept")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=1.0, help="seconds that slow- answers take")
    parser.add_argument("--gate", type=Path, help="file whose presence puts gated- recipients off")
    parser.add_argument("--chunking", action="store_true", help="offer CHUNKING, so that whole messages are pipelined")
    chosen = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with SmtpSink(
        port=chosen.port,
        journal=chosen.journal,
        delay=chosen.delay,
        gate=chosen.gate,
        extensions=WITH_CHUNKING if chosen.chunking else EXTENSIONS,
    ) as sink:
        print(f"listening on {sink.url}", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
