"""What an e-mail provider tells of sent mail: its webhooks become notices, which a worker writes down.

    take(name, request)    in the request: all of a call is kept before the answer, or none of it is
    note(event, …)         the receiver of django-anymail's `tracking` signal, which every event goes through

    providers    whose events are taken, and what proves that they are theirs
    hearing      a call into django-anymail's events
    noticing     an event into a notice
    meanings     what each provider's own words say of a failure

Everything comes more than once and in any order: a notice has the same key each time, and `newsletter.feedback` ends in
the same rows whatever came first.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from anymail.signals import tracking  # type: ignore[import-untyped]
from django.http import HttpRequest

from newsletter import intake
from newsletter.bounces.redaction import without_addresses
from newsletter.incoming import hearing, noticing
from newsletter.incoming.hearing import Refused, TooLarge, Unreadable, Unsized
from newsletter.incoming.providers import PROVIDERS, expected, is_checked, problems, unknown
from newsletter.intake import Channel

if TYPE_CHECKING:
    from anymail.signals import AnymailTrackingEvent

__all__ = [
    "PROVIDERS",
    "Refused",
    "TooLarge",
    "Unreadable",
    "Unsized",
    "Untold",
    "expected",
    "is_checked",
    "listen",
    "problems",
    "take",
    "unknown",
]

logger = logging.getLogger(__name__)


class Untold(Exception):
    """A mistake of ours: an event was not noted, and has to come again. The others of its call are kept."""


def listen() -> None:
    """Connect `note`; Django calls it when it starts."""
    tracking.connect(note, dispatch_uid="newsletter.incoming")


def take(name: str, request: HttpRequest) -> int:
    """Keep what `request` of provider `name` tells until it is written down; how many notices it was.

    Raises Refused, Unsized, TooLarge and Unreadable, Untold, `intake.NotKept`, and ImproperlyConfigured where ANYMAIL
    lacks something.
    """
    heard = hearing.hear(name, request)
    entries: list[dict[str, Any]] = []
    failed = sum(_tell(heard.view, event, entries) for event in heard.events)
    intake.put(Channel.NOTICE, entries)
    if failed:
        raise Untold(f"{failed} of {len(heard.events)} events from {name} were not noted.")
    return len(entries)


def note(event: AnymailTrackingEvent, esp_name: str, entries: list[dict[str, Any]] | None = None, **_: object) -> None:
    """Add what `event` tells to `entries`, or keep it at once where there are none: other code sent the signal."""
    name = esp_name.lower().replace(" ", "_")
    try:
        notice = noticing.notice_of(event, name, dt.datetime.now(dt.UTC))
    except noticing.Nameless as error:
        logger.info("%s from %s is left out: %s", event.event_type, name, error)
        return
    if notice is None:
        logger.debug("%s from %s is left out: nothing follows from it.", event.event_type, name)
    elif entries is None:
        intake.put(Channel.NOTICE, [notice.as_json()])
    else:
        entries.append(notice.as_json())


def _tell(view: Any, event: AnymailTrackingEvent, entries: list[dict[str, Any]]) -> bool:
    """Send the signal; whether a receiver failed, which keeps no other from being told."""
    answers: Iterable[tuple[Any, Any]] = tracking.send_robust(
        sender=view, event=event, esp_name=view.esp_name, entries=entries
    )
    failures = [answer for _, answer in answers if isinstance(answer, Exception)]
    for failure in failures:
        logger.error("An event was not noted: %s", without_addresses(f"{type(failure).__name__}: {failure}"))
    return bool(failures)
