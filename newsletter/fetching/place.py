"""Where the mailbox for bounces is and how to reach it: what BOUNCE_MAILBOX says."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, urlsplit

from newsletter.content import clean_line

MOST = 16 * 1024 * 1024  # octets of one answer: some times what is asked for of a mail

DEFAULT_PORTS = {"imap": 143, "imaps": 993, "imap+starttls": 143, "pop3": 110, "pop3s": 995, "pop3+starttls": 110}
EXAMPLE = "imaps://user:password@mail.example.org/INBOX"


class Trouble(Exception):
    """The mailbox cannot be read now; the message is a sentence without the password."""


class TooMuch(ValueError):
    """A server sends more than it was asked for."""


class Unreadable(Exception):
    """One mail in it cannot be read, whatever the others do; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where and how to connect. `security` is "" (none), "tls" (from the first byte) or "starttls" (required)."""

    protocol: str
    security: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    folder: str = "INBOX"

    @classmethod
    def from_url(cls, url: str) -> Place:
        """The place of a URL with one of the schemes of DEFAULT_PORTS, all its parts percent-decoded.

        Raises ValueError, with a sentence, where it is none of these.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in DEFAULT_PORTS or not (parts.hostname and parts.username and parts.password):
            raise ValueError(f"BOUNCE_MAILBOX must be written like {EXAMPLE}, with one of: {', '.join(DEFAULT_PORTS)}.")
        protocol, _, security = parts.scheme.partition("+")
        folder = unquote(parts.path.strip("/"))
        if protocol.startswith("pop3") and folder:
            raise ValueError("BOUNCE_MAILBOX names a folder, and POP3 has none: leave it out, or use IMAP.")
        if not folder.isascii():
            raise ValueError("BOUNCE_MAILBOX names a folder that is not ASCII: write it as the server lists it.")
        return cls(
            protocol=protocol.removesuffix("s"),
            security="tls" if protocol.endswith("s") else security,
            host=parts.hostname,
            port=port or DEFAULT_PORTS[parts.scheme],
            user=unquote(parts.username),
            password=unquote(parts.password),
            folder=folder or "INBOX",
        )

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What it takes to trust the server: the system's certificates and the right name."""
        return ssl.create_default_context()

    @property
    def name(self) -> str:
        """Which mailbox it is, without the password: what its row is found by."""
        return f"{self.protocol}://{self.user}@{self.host}:{self.port}/{self.folder}"[:300]

    def said(self, error: Exception) -> str:
        """What went wrong, on one short line, never with the password."""
        parts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in error.args]
        line = clean_line(" ".join(parts)) or type(error).__name__
        if isinstance(error, ssl.SSLCertVerificationError):
            line = f"its certificate cannot be trusted: {error.verify_message}"
        elif isinstance(error, TimeoutError):
            line = "it did not answer in time"
        elif isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
            line = error.strerror
        return line.replace(self.password, "(password)")[:300].rstrip(".")


class Line:
    """The connection to a mailbox, which another thread may cut whatever is being waited for: the greeting, the secret
    or a mail. It holds a second handle of it: TLS takes the first one away."""

    def __init__(self) -> None:
        self._handle: socket.socket | None = None
        self._is_cut = False
        self._lock = threading.Lock()

    def connect(self, place: Place, timeout: float) -> socket.socket:
        """A connection to `place`, by TLS where it begins so."""
        opened = socket.create_connection((place.host, place.port), timeout)
        with self._lock:
            if not self._is_cut:
                self._handle = opened.dup()
        if self._handle is None:
            opened.close()
            raise TimeoutError
        return place.tls.wrap_socket(opened, server_hostname=place.host) if place.security == "tls" else opened

    def cut(self) -> None:
        """End it: who reads it gets an end instead of an answer, and who is about to connect does not."""
        with self._lock:
            self._is_cut = True
            if self._handle is not None:
                with contextlib.suppress(OSError):  # it may have ended by itself
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let it go."""
        self.cut()
        if self._handle is not None:
            self._handle.close()


def problems(url: str) -> list[str]:
    """What is wrong with `url` as BOUNCE_MAILBOX, a sentence each; empty when it can be used, or there is none."""
    if not url:
        return []
    try:
        place = Place.from_url(url)
    except ValueError as error:
        return [str(error)]
    if not place.security and not _is_this_machine(place.host):
        return [f"BOUNCE_MAILBOX would send its password in the clear: write {place.protocol}s:// or +starttls://."]
    return []


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
