"""From a provider's call to django-anymail's events, once it is known that the provider made it.

A call may carry a thousand events. One that cannot be read is left out and logged; the others are told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from importlib import import_module
from typing import Any

from anymail.exceptions import AnymailError, AnymailWebhookValidationFailure  # type: ignore[import-untyped]
from anymail.signals import AnymailTrackingEvent  # type: ignore[import-untyped]
from anymail.webhooks.base import AnymailBaseWebhookView, AnymailBasicAuthMixin  # type: ignore[import-untyped]
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError

from newsletter.bounces.redaction import without_addresses
from newsletter.incoming.providers import PROVIDERS

logger = logging.getLogger(__name__)

# What reading something else than it was made for ends in. A mistake of django-anymail's looks no other, and a provider
# that were to repeat what will never be read would hold back what comes after it: so the log has an error that says
# what is left out. django-anymail says by ImproperlyConfigured that an event belongs to another of its pages.
STRANGE: tuple[type[Exception], ...] = (
    LookupError, TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, OSError, AnymailError,
    ImproperlyConfigured, RecursionError, SuspiciousOperation, MultiPartParserError,
)  # fmt: skip
# A thousand events with all their fields are about 2 MB, and as a form up to twice as many.
BODY_BYTES = 8 * 1024 * 1024
SAID_CHARACTERS = 2000  # of an error: some repeat all that they could not read
# Amazon is asked to confirm a subscription while it waits for our answer.
ONCE = {"connect_timeout": 5, "read_timeout": 5, "retries": {"total_max_attempts": 1}}


class Refused(Exception):
    """Nothing proves that the provider made this call. `ask`: it may try again with the password in its URL."""

    def __init__(self, reason: str, *, ask: bool = False) -> None:
        super().__init__(reason)
        self.ask = ask


class Unreadable(Exception):
    """The provider's call, and nothing in it can be read; says why, without an address."""


class Unsized(Exception):
    """A call that does not say how long it is, or says nonsense."""


class TooLarge(Exception):
    """A call of more than BODY_BYTES."""


@dataclass
class Heard:
    """`events` of a call, and the view (a class of django-anymail) that read them."""

    view: type[AnymailBaseWebhookView]
    events: list[AnymailTrackingEvent]


@dataclass
class _Strange:
    """What one call has that cannot be read."""

    count: int = 0
    first: str = ""
    fields: list[str] = field(default_factory=list)

    def note(self, error: BaseException, event: object) -> None:
        self.count += 1
        if self.count == 1:
            self.first = said(error)
            names = list(event)[:30] if isinstance(event, Mapping) else []
            self.fields = [without_addresses(str(name)[:40]) for name in names]


def hear(name: str, request: HttpRequest) -> Heard:
    """The events that `request` of provider `name` tells. Raises Refused, Unsized, TooLarge and Unreadable.

    Raises ImproperlyConfigured where ANYMAIL lacks what is needed to check it.
    """
    kind = _view(name)
    view = kind(**_options(name))
    view.strange = strange = _Strange()
    _check_headers(view, name, request)
    # Django holds back what is larger than a form should be.
    request._body = _read(request)
    _check(view, request)
    try:
        events = [event for event in view.parse_events(request) if event is not None]
    except STRANGE as error:
        raise Unreadable(said(error)) from error
    if strange.count and not events:
        raise Unreadable(f"{strange.first}; it has: {', '.join(strange.fields)}")
    if strange.count:
        logger.error(
            "%s of %s events from %s could not be read and are left out. The first: %s; it has: %s",
            strange.count, strange.count + len(events), name, strange.first, ", ".join(strange.fields),
        )  # fmt: skip
    return Heard(kind, events)


def said(error: BaseException) -> str:
    """What an error says, on one line, without addresses."""
    return without_addresses(f"{type(error).__name__}: {error}"[:SAID_CHARACTERS])


def _check_headers(view: AnymailBaseWebhookView, name: str, request: HttpRequest) -> None:
    """All that can be known before the body is read, which strangers may make as long as they like: the password, and
    whether there is a signature where one will be asked for."""
    try:
        AnymailBasicAuthMixin.validate_request(view, request)
    except AnymailWebhookValidationFailure as error:
        raise Refused(str(error), ask=True) from error
    provider = PROVIDERS[name]
    if provider.header and settings.ANYMAIL.get(provider.key) and provider.header not in request.headers:
        raise Refused(f"It has no {provider.header}.")


def _read(request: HttpRequest) -> bytes:
    """The body. Raises Unsized and TooLarge, and Refused where it breaks off."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdecimal()):
        raise Unsized("There is no Content-Length, or it is no number.")
    if len(length.lstrip("0")) > len(str(BODY_BYTES)) or int(length) > BODY_BYTES:
        raise TooLarge(f"It has over {BODY_BYTES} bytes.")
    try:
        return request.read(int(length))
    except UnreadablePostError as error:
        raise Refused("It broke off.") from error


def _check(view: AnymailBaseWebhookView, request: HttpRequest) -> None:
    try:
        view.run_validators(request)
    except ImproperlyConfigured:
        raise
    except AnymailWebhookValidationFailure as error:
        raise Refused(str(error)) from error
    except STRANGE as error:
        if view.basic_auth:
            raise Unreadable(said(error)) from error
        raise Refused(said(error)) from error  # what cannot be read carries no signature either


def _options(name: str) -> dict[str, Any]:
    if name != "amazon_ses":
        return {}
    given = settings.ANYMAIL.get("AMAZON_SES_CLIENT_PARAMS", {})
    return {"client_params": {**given, "config": {**given.get("config", {}), **ONCE}}}


@lru_cache
def _view(name: str) -> type[AnymailBaseWebhookView]:
    """django-anymail's view of `name`, whose events fail one by one."""
    kind: Any = getattr(import_module(f"anymail.webhooks.{name}"), PROVIDERS[name].view)
    # By what it reads one event, and what takes the place of one that it cannot read.
    readers: dict[str, Callable[[Any], Any]] = {
        "esp_to_anymail_event": lambda _: None,
        "esp_to_anymail_events": lambda _: [],
        "unwrap_event": lambda event: (None, None, event),
    }
    own = {
        method: _one_by_one(getattr(kind, method), instead)
        for method, instead in readers.items()
        if hasattr(kind, method)
    }
    return type(kind.__name__, (kind,), own)


def _one_by_one(read: Callable[..., Any], instead: Callable[[Any], Any]) -> Callable[..., Any]:
    @wraps(read)
    def reading(view: Any, *arguments: Any) -> Any:
        try:
            return read(view, *arguments)
        except STRANGE as error:
            view.strange.note(error, arguments[0])
            return instead(arguments[0])

    return reading
