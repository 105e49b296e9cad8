"""One door for whatever comes back: opens, clicks, unsubscribes.

Each hit is stored raw, as often as it comes; beside that a delivery notes its first open, click and unsubscribe once.
Opens and clicks are stored only as far as the newsletter's tracking and the reader's own choice allow now, whatever
they allowed when the mail was sent: not at all, without saying whose they are, or with the delivery.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from newsletter.content import clean_line
from newsletter.models import Delivery, Dispatch, Event, Newsletter
from subscribers.models import Subscriber

if TYPE_CHECKING:
    from django.http import HttpRequest

Kind = Event.Kind

AGENT_LENGTH = 300
NETWORK_BITS = {4: 24, 6: 48}

_FIRST = {Kind.OPEN: "opened_at", Kind.CLICK: "clicked_at", Kind.UNSUBSCRIBE: "unsubscribed_at"}
_PREFETCH_HEADERS = ("Sec-Purpose", "Purpose", "X-Moz")


@dataclass(frozen=True)
class Hit:
    """How a request came. `network` is the sender's /24 or /48, never an address; `prefetch`: nobody has asked yet."""

    method: str
    agent: str = ""
    network: str = ""
    prefetch: bool = False

    @property
    def by_a_person(self) -> bool:
        """Whether a person may have caused it. HEAD and prefetching are programs looking ahead."""
        return self.method != "HEAD" and not self.prefetch


def hit_of(request: HttpRequest) -> Hit:
    """The hit that `request` is, cut down to what may be kept."""
    return Hit(
        method=str(request.method)[:7],
        agent=clean_line(request.headers.get("User-Agent", ""))[:AGENT_LENGTH],
        network=_network(request),
        prefetch=any("prefetch" in request.headers.get(name, "").lower() for name in _PREFETCH_HEADERS),
    )


def _network(request: HttpRequest) -> str:
    """The network of the reader's side, or "" where it cannot be told.

    Behind a proxy that is the last public address of X-Forwarded-For: those further left are the sender's own words,
    those further right our own machines.
    """
    peer = _address(request.META.get("REMOTE_ADDR", ""))
    if settings.ENV.behind_proxy:
        hops = [_address(hop) for hop in request.headers.get("X-Forwarded-For", "").split(",")]
        known = [hop for hop in reversed(hops) if hop is not None]
        peer = next((hop for hop in known if not hop.is_private), known[0] if known else peer)
    if peer is None:
        return ""
    return str(ipaddress.ip_network((peer.packed, NETWORK_BITS[peer.version]), strict=False))


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


def record(
    kind: Event.Kind,
    *,
    delivery_id: int | None = None,
    dispatch_id: int | None = None,
    subscriber: Subscriber | None = None,
    newsletter: Newsletter | None = None,
    url: str = "",
    hit: Hit | None = None,
) -> bool:
    """Note one event, as far as it may be noted; True where a row was stored.

    Ids that no longer exist are no error: mail outlives deliveries, readers and dispatches. `hit` is None for what came
    otherwise than by a request.
    """
    delivery = (
        Delivery.objects.select_related("subscriber", "dispatch__newsletter").filter(pk=delivery_id).first()
        if delivery_id
        else None
    )
    dispatch = delivery.dispatch if delivery else _dispatch(dispatch_id)
    if dispatch:
        newsletter = dispatch.newsletter
    if delivery and delivery.subscriber:
        subscriber = delivery.subscriber
    by_a_person = hit is None or hit.by_a_person
    if kind != Kind.UNSUBSCRIBE:
        if newsletter is None or newsletter.tracking == Newsletter.Tracking.OFF:
            return False
        if subscriber and subscriber.tracking == Subscriber.Tracking.OFF:
            return False
        # An erased reader's hits count for the issue and say no more whose they are.
        if newsletter.tracking == Newsletter.Tracking.ANONYMOUS or subscriber is None:
            delivery = subscriber = None
    with transaction.atomic():
        Event.objects.create(
            kind=kind,
            newsletter=newsletter,
            dispatch=dispatch,
            delivery=delivery,
            subscriber=subscriber,
            url=url,
            method=hit.method if hit else "",
            agent=hit.agent if hit else "",
            network=hit.network if hit and subscriber else "",
        )
        if delivery and by_a_person:
            first = _FIRST[kind]
            Delivery.objects.filter(pk=delivery.pk, **{f"{first}__isnull": True}).update(**{first: Now()})
    return True


def take_back_unsubscribe(delivery_id: int) -> None:
    """The reader took back having left: the delivery no longer counts as one that made somebody leave. The raw event
    stays."""
    Delivery.objects.filter(pk=delivery_id).update(unsubscribed_at=None)


def _dispatch(dispatch_id: int | None) -> Dispatch | None:
    if not dispatch_id:
        return None
    return Dispatch.objects.select_related("newsletter").filter(pk=dispatch_id).first()
