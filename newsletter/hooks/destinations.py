"""Where a webhook may go: a public address, by https, and exactly the one that was checked.

A hook's URL is typed by staff and called by a server that stands inside; without this it would be a way to whatever
listens in there (SSRF). A name is resolved once; if any of its addresses is not public it is refused, and the
connection goes to an address that was looked at: a name that changes in between leads nowhere else (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from newsletter.settings import ENV

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

RESOLVE_SECONDS = 5.0
_PORTS = {"https": 443, "http": 80}
# Addresses that carry an IPv4 address in their last 32 bits: RFC 6052, and RFC 4291 section 2.5.5.1.
_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# For translation within a network (RFC 8215); older Pythons take it for global.
_LOCAL_TRANSLATION = ipaddress.IPv6Network("64:ff9b:1::/48")


class Refused(ValueError):
    """A URL that is not called; the message says why."""


class Unresolved(OSError):
    """A name that has no address now; it may have one later."""


@dataclass(frozen=True)
class Destination:
    """A URL taken apart: `host` is the name for SNI and certificate, `host_header` what `Host` says, `target` path and
    query."""

    secure: bool
    host: str
    port: int
    host_header: str
    target: str


def parse(url: str) -> Destination:
    """The parts of `url`. Raises Refused, in a sentence, for what is never called."""
    if any(character <= " " or character > "~" for character in url):
        raise Refused("Write the URL in plain ASCII without spaces: an international name in its xn-- form.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Refused("This is no URL: write it like https://example.org/hook.") from error
    if parts.scheme not in (("https", "http") if ENV.hooks_private else ("https",)):
        raise Refused("Write an https URL: what is told about readers must not be read on the way.")
    if not host or port == 0 or "\\" in url:
        raise Refused("This is no URL: write it like https://example.org/hook.")
    if parts.username is not None or parts.password is not None:
        raise Refused("A URL with a name or password in it is not called: verify the signature instead.")
    if parts.fragment:
        raise Refused("Leave away the part from # on: it would not be sent.")
    if "%" in host:
        raise Refused("An address with a zone is none that leads out.")
    named = f"[{host}]" if ":" in host else host
    standard = port is None or port == _PORTS[parts.scheme]
    return Destination(
        secure=parts.scheme == "https",
        host=host,
        port=port or _PORTS[parts.scheme],
        host_header=named if standard else f"{named}:{port}",
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


def addresses(destination: Destination) -> list[Address]:
    """The addresses behind the name, all of which may be called. Raises Refused, or Unresolved."""
    found = _resolve(destination.host, destination.port)
    if not all(is_public(address) or (ENV.hooks_private and is_inside(address)) for address in found):
        raise Refused(f"{destination.host} leads to an address that is not public, which is never called.")
    return found


def is_public(address: Address) -> bool:
    """Whether `address` belongs to the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if any(address in network for network in _EMBEDDING):
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
        if address.scope_id or address.is_site_local or address.teredo or address in _LOCAL_TRANSLATION:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_inside(address: Address) -> bool:
    """Whether `address` is this machine's or of a network of one's own. Link-local is neither: there clouds keep what a
    machine may know of itself (169.254.169.254)."""
    plain = address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
    none_of_ours = plain.is_link_local or plain.is_multicast or plain.is_unspecified or plain.is_reserved
    return plain.is_loopback or (plain.is_private and not none_of_ours)


def _resolve(host: str, port: int) -> list[Address]:
    """What the system says of `host`, within RESOLVE_SECONDS: its own limit may be half a minute."""
    answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([ipaddress.ip_address(str(entry[4][0])) for entry in found])
        except (OSError, UnicodeError) as error:  # a label of more than 63 characters cannot be encoded
            answers.put(OSError(str(error)))

    threading.Thread(target=ask, daemon=True, name="resolve").start()
    try:
        answer = answers.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        raise Unresolved(f"The name {host} was not resolved within {RESOLVE_SECONDS:g} seconds.") from None
    if isinstance(answer, OSError) or not answer:
        raise Unresolved(f"The name {host} has no address: {answer}.")
    return list(dict.fromkeys(answer))
