"""What a request says of a hit, cut down to what may be kept."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings

from newsletter.content import clean_line

if TYPE_CHECKING:
    from django.http import HttpRequest

AGENT_LENGTH = 300
NETWORK_BITS = {4: 24, 6: 48}

# Headers where a client says that it wants nobody to know whose request it is: Global Privacy Control
# (https://www.w3.org/TR/gpc/) and, older, Do Not Track.
_PRIVACY_HEADERS = ("HTTP_SEC_GPC", "HTTP_DNT")
# Headers where a client says that nobody asked yet, as the server hands them on.
_PREFETCH_HEADERS = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_MOZ")


@dataclass(frozen=True)
class Hit:
    """How a request came. `network` is the sender's /24 or /48, never an address; `prefetch`: nobody has asked yet."""

    method: str
    agent: str = ""
    network: str = ""
    prefetch: bool = False
    private: bool = False  # the client wants nobody to know whose request it is


def asks_for_privacy(request: HttpRequest) -> bool:
    """Whether the client sends Global Privacy Control or Do Not Track."""
    return any(request.META.get(name, "").strip() == "1" for name in _PRIVACY_HEADERS)


def hit_of(request: HttpRequest) -> Hit:
    """The hit that `request` is, cut down to what may be kept."""
    return Hit(
        method=str(request.method)[:7],
        agent=clean_line(request.META.get("HTTP_USER_AGENT", ""))[:AGENT_LENGTH],
        network=_network(request),
        prefetch=any("prefetch" in request.META.get(name, "").lower() for name in _PREFETCH_HEADERS),
        private=asks_for_privacy(request),
    )


def _network(request: HttpRequest) -> str:
    """The network of the reader's side, or "" where it cannot be told.

    Behind a proxy that is the last public address of X-Forwarded-For, or the one before those of PUBLIC_PROXIES: those
    further left are the sender's own words, those further right our own machines.
    """
    peer = _address(request.META.get("REMOTE_ADDR", ""))
    if settings.BEHIND_PROXY:
        hops = [_address(hop) for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        known = [hop for hop in reversed(hops) if hop is not None]
        public = [hop for hop in known if not hop.is_private]
        peer = next(iter(public[settings.PUBLIC_PROXIES :] or public[-1:] or known), peer)
    if peer is None:
        return ""
    bits = NETWORK_BITS[peer.version]
    rest = peer.max_prefixlen - bits
    return f"{type(peer)(int(peer) >> rest << rest)}/{bits}"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in `text`, which may carry a port or brackets."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
