"""django-anymail's backends, made quick enough for whole chunks.

Three quarters of the time of a call with many readers went into parsing addresses that we had just written, and into
quoting a form.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import requests
from anymail.backends.base import BasePayload  # type: ignore[import-untyped]
from anymail.utils import EmailAddress, parse_address_list  # type: ignore[import-untyped]
from django.conf import settings

from newsletter.transports.provider import forms
from newsletter.transports.provider.merging import BATCHES

if TYPE_CHECKING:
    from anymail.backends.base import AnymailBaseBackend


def make(name: str) -> AnymailBaseBackend:
    """The backend of provider `name`, not opened. Raises AnymailConfigurationError where ANYMAIL lacks something."""
    module = import_module(f"anymail.backends.{name}")
    options: dict[str, Any] = {}
    if name == "amazon_ses":
        # boto3 would repeat a call that got no answer, and a reader could get two mails.
        given = settings.ANYMAIL.get("AMAZON_SES_CLIENT_PARAMS", {})
        once = {"retries": {"total_max_attempts": 1}, "read_timeout": settings.EMAIL_TIMEOUT}
        options["client_params"] = {**given, "config": {**given.get("config", {}), **once}}
    kind = _for_batches(module) if name in BATCHES else module.EmailBackend
    backend: AnymailBaseBackend = kind(**options)
    return backend


def _for_batches(module: ModuleType) -> type[AnymailBaseBackend]:
    """The module's backend, with a payload that takes `to` as parsed addresses, and forms sent as multipart."""
    payload: Any
    (payload,) = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BasePayload) and each.__module__ == module.__name__
    ]
    attrs = tuple(
        (attr, combiner, _addresses if attr == "to" else converter)
        for attr, combiner, converter in payload.base_message_attrs
    )
    quick = type(payload.__name__, (payload,), {"base_message_attrs": attrs})

    def build_message_payload(self: AnymailBaseBackend, message: Any, defaults: Any) -> Any:
        return quick(message, defaults, self)

    def create_session(self: AnymailBaseBackend) -> requests.Session:
        session: requests.Session = module.EmailBackend.create_session(self)
        return forms.like(session)

    own = {"build_message_payload": build_message_payload, "create_session": create_session}
    return type("EmailBackend", (module.EmailBackend,), own)


def _addresses(values: list[Any], field: str = "to") -> list[EmailAddress]:
    if all(isinstance(value, EmailAddress) for value in values):
        return values
    return list(parse_address_list(values, field=field))
