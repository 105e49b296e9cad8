"""Where the relay is and how to reach it: what SMTP_URL says."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, urlsplit

DEFAULT_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}


@dataclass(frozen=True)
class Relay:
    """Where and how to connect. `security` is "" (none), "tls" (from the first byte) or "starttls" (required)."""

    host: str
    port: int
    security: str
    user: str
    password: str = field(repr=False)

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


def problems(url: str) -> list[str]:
    """What is wrong with `url` as SMTP_URL, a sentence each; empty when it can be used."""
    try:
        relay = Relay.from_url(url)
    except ValueError as error:
        return [str(error)]
    if relay.user and not relay.security and not _is_this_machine(relay.host):
        return ["SMTP_URL would send its password in the clear: write smtps:// or smtp+starttls://."]
    return []


def greeting_name(domain: str) -> str:
    """`domain` as EHLO wants it (RFC 5321 section 4.1.3): a name, or an address literal."""
    try:
        address = ipaddress.ip_address(domain)
    except ValueError:
        return domain.encode("idna").decode("ascii")
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
