"""Where the mailbox for bounces is and how to reach it: what BOUNCE_MAILBOX says."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, urlsplit

from newsletter.content import clean_line

DEFAULT_PORTS = {"imap": 143, "imaps": 993, "imap+starttls": 143, "pop3": 110, "pop3s": 995, "pop3+starttls": 110}
EXAMPLE = "imaps://user:password@mail.example.org/INBOX"


class Trouble(Exception):
    """The mailbox cannot be read now; the message is a sentence without the password."""


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


def shut(line: socket.socket) -> None:
    """End a connection that another thread reads: it gets an end instead of an answer."""
    with contextlib.suppress(OSError):  # it may have ended by itself
        socket.socket.shutdown(line, socket.SHUT_RDWR)  # an SSLSocket's own would first say goodbye


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
