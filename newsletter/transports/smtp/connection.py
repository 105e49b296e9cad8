"""One connection to a relay: opened, secured, signed in, then commands and replies (RFC 5321).

Whatever goes wrong with the network is an OSError; a reply that ends the connection's use is `Refused` (5xx) or
`NotNow` (4xx), which is an OSError too: nothing was sent and another try may work.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

DEFAULT_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_MOST_LINE_OCTETS = 64 * 1024
_MOST_REPLY_LINES = 1000
_NEEDS_SIGN_IN = frozenset({530, 534, 535, 538})  # RFC 4954 section 6: at whatever step, it is about the sender


class Reply(NamedTuple):
    """What the relay answered: the code, and the text of each line."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([str(self.code), *self.lines]).rstrip()

    @property
    def kind(self) -> int:
        """2 done, 3 go on, 4 not now, 5 never."""
        return self.code // 100

    @property
    def refuses_sender(self) -> bool:
        """Whether it asks for a sign-in or refuses one."""
        return self.code in _NEEDS_SIGN_IN


class Refused(Exception):
    """The relay takes no mail from this sender; the message is its reply or the reason."""


class NotNow(ConnectionError):
    """The relay takes no mail for the moment; the message is its reply."""


@dataclass(frozen=True)
class Relay:
    """Where and how to connect. `security` is "" (none), "tls" (from the first byte) or "starttls" (required)."""

    host: str
    port: int
    security: str
    user: str
    password: str

    @classmethod
    def from_url(cls, url: str) -> Relay:
        """The relay of `smtp://`, `smtps://` or `smtp+starttls://`, user and password percent-decoded.

        Raises ValueError where it is none of these.
        """
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("SMTP_URL must be written like smtp+starttls://user:password@mail.example.org:587.")
        return cls(
            host=parts.hostname,
            port=parts.port or DEFAULT_PORTS[parts.scheme],
            security={"smtp": "", "smtps": "tls", "smtp+starttls": "starttls"}[parts.scheme],
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What it takes to trust the relay: the system's certificates and the right name. Slow to make, so kept."""
        return ssl.create_default_context()


class Connection:
    """A connection ready for MAIL.

    `extensions` holds what the relay offers, by keyword in capitals; `answered` counts the transactions it brought to
    an end; `in_transaction` says that the last one was not.
    """

    def __init__(self, relay: Relay, *, name: str, timeout: float) -> None:
        """Connect to `relay`, greeting it as `name`; each step may take `timeout` seconds.

        Raises Refused, or OSError (NotNow among them) where the connection did not come about.
        """
        self._timeout = timeout
        self._buffer = bytearray()
        self.extensions: dict[str, str] = {}
        self.answered = 0
        self.in_transaction = False
        self._socket = socket.create_connection((relay.host, relay.port), timeout)
        try:
            # Else a message's last piece waits for the acknowledgement of the one before.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if relay.security == "tls":
                self._secure(relay)
            _require(self.reply())
            self._greet(name)
            if relay.security == "starttls":
                self._start_tls(relay)
                self._greet(name)
            if relay.user:
                self._sign_in(relay.user, relay.password)
        except BaseException:
            self.close()
            raise

    def send(self, octets: bytes) -> None:
        """Write all of `octets`. Where it raises OSError, the last of them was not given to the system."""
        self._socket.settimeout(self._timeout)
        self._socket.sendall(octets)

    def reply(self) -> Reply:
        """The next reply. Raises OSError where none comes within the timeout, or what comes is none."""
        deadline = time.monotonic() + self._timeout
        lines: list[str] = []
        while True:
            found = _REPLY_LINE.fullmatch(self._line(deadline))
            if found is None:
                raise ConnectionError("the relay's answer is not SMTP")
            lines.append((found[3] or b"").decode("utf-8", "replace").strip())
            if found[2] != b"-":
                return Reply(int(found[1]), tuple(lines))
            if len(lines) > _MOST_REPLY_LINES:
                raise ConnectionError("the relay's answer has no end")

    def command(self, line: str) -> Reply:
        """Send one command and wait for its reply."""
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def close(self, *, politely: bool = False) -> None:
        """Close; `politely` says QUIT first."""
        if politely:
            with contextlib.suppress(OSError):  # it went before us
                self.send(b"QUIT\r\n")
        self._socket.close()

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MOST_LINE_OCTETS:
                raise ConnectionError("the relay's answer has no end")
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                octets = self._socket.recv(65536)
            except TimeoutError as error:
                raise TimeoutError("the relay did not answer in time") from error
            if not octets:
                raise ConnectionError("the relay hung up")
            self._buffer += octets
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    def _greet(self, name: str) -> None:
        reply = self.command(f"EHLO {name}")
        if reply.kind == 5:  # a relay from before 1995, or one made to look like it: RFC 5321 section 3.2
            _require(self.command(f"HELO {name}"))
            self.extensions = {}
            return
        _require(reply)
        # Some write AUTH=LOGIN, as drafts of RFC 2554 did.
        words = [line.replace("=", " ", 1).split(" ", 1) for line in reply.lines[1:]]
        self.extensions = {word[0].upper(): "".join(word[1:]).strip() for word in words}

    def _secure(self, relay: Relay) -> None:
        self._socket.settimeout(self._timeout)
        try:
            self._socket = relay.tls.wrap_socket(self._socket, server_hostname=relay.host)
        except ssl.SSLCertVerificationError as error:
            raise Refused(f"the certificate of {relay.host} cannot be trusted: {error.verify_message}") from error

    def _start_tls(self, relay: Relay) -> None:
        if "STARTTLS" not in self.extensions:
            raise Refused(f"{relay.host} does not offer STARTTLS, which SMTP_URL asks for")
        _require(self.command("STARTTLS"))
        if self._buffer:  # said before the encryption, to be read after it: someone stands in between
            raise Refused(f"{relay.host} went on talking in the clear after STARTTLS")
        self._secure(relay)

    def _sign_in(self, user: str, password: str) -> None:
        methods = self.extensions.get("AUTH", "").upper().split()
        if "PLAIN" in methods:
            secret = b64encode(f"\0{user}\0{password}".encode()).decode("ascii")
            _require(self.command(f"AUTH PLAIN {secret}"))
        elif "LOGIN" in methods:
            reply = self.command("AUTH LOGIN")
            for secret in (user, password):
                _require(reply, wanted=3)
                reply = self.command(b64encode(secret.encode()).decode("ascii"))
            _require(reply)
        else:
            raise Refused("the relay offers no sign-in by AUTH PLAIN or LOGIN, and SMTP_URL has a user")


def _require(reply: Reply, *, wanted: int = 2) -> None:
    if reply.kind == wanted:
        return
    if reply.kind == 5:
        raise Refused(str(reply))
    raise NotNow(str(reply))
