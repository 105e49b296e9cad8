"""Messages as the providers' APIs are told them by django-anymail: for one reader, or for many in one call."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from anymail.message import AnymailMessage  # type: ignore[import-untyped]
from anymail.utils import EmailAddress  # type: ignore[import-untyped]

from newsletter import message, tracking
from newsletter.content import clean_line
from newsletter.message import Compiled, Reader, Sender
from newsletter.transports.provider.merging import Merged, plain

# What each provider's API can be told, as django-anymail 15 knows it (a test compares).
SWITCHES_TRACKING = frozenset({"mailersend", "mailgun", "mailjet", "mandrill", "postmark", "sparkpost", "unisender_go"})
CARRIES_METADATA = frozenset(
    {"amazon_ses", "brevo", "mailgun", "mailjet", "mailtrap", "mandrill", "postmark", "resend", "scaleway", "sparkpost"}
    | {"unisender_go"}
)
# Providers that tell each message's bounces to an address of its own; the others allow a domain at most, or one address
# for all readers of a call, and tell them by webhooks.
FORWARDS_BOUNCES = frozenset({"amazon_ses"})
# The metadata by which a provider's events name our delivery: its token, since other systems may send through the same
# account and number their mail too.
DELIVERY = "delivery"
# Headers of our own that a provider keeps in a single call; the others make their own Message-ID.
KEEPS_MESSAGE_ID: dict[str, dict[str, str]] = {"mailgun": {}, "postmark": {"X-PM-KeepID": "true"}}
# Made by the provider for every message, or of no use to it.
_OWN = ("To", "Date", "Message-ID")


def for_one(
    name: str, compiled: Compiled, sender: Sender, reader: Reader, own: Mapping[str, str], key: uuid.UUID | None
) -> AnymailMessage:
    """The message for one reader, finished; `own` is what `own_headers` made for them."""
    extra = {**_headers(sender), **own}
    if name in KEEPS_MESSAGE_ID:
        extra |= {"Message-ID": f"<{reader.message_id}>", **KEEPS_MESSAGE_ID[name]}
    mail = _mail(
        name,
        sender,
        subject=plain(message.subject(compiled, reader), name, as_html=False),
        body=plain(message.text(compiled, reader), name, as_html=False),
        to=[_mailbox(reader.name, reader.address)],
        headers=extra | _idempotency(name, key),
    )
    if compiled.html is not None:
        mail.attach_alternative(plain(message.html(compiled, reader), name, as_html=True), "text/html")
    if name in CARRIES_METADATA:
        mail.metadata = _metadata(reader)
    if name in FORWARDS_BOUNCES and reader.return_address:
        mail.envelope_sender = reader.return_address
    return mail


def for_many(
    merged: Merged,
    sender: Sender,
    readers: Sequence[Reader],
    headers: Mapping[int, dict[str, str]],
    key: uuid.UUID | None,
) -> AnymailMessage:
    """The message for `readers`, for the provider to merge with their values and `headers`, both by delivery."""
    common: dict[str, str] = _headers(sender)
    shared: dict[str, str] = {}
    if merged.batch.whole_headers:
        common, shared = {}, common
    mail = _mail(
        merged.name,
        sender,
        subject=merged.subject,
        body=merged.text,
        to=[_address(reader) for reader in readers],
        headers=common | _idempotency(merged.name, key),
    )
    if merged.html is not None:
        mail.attach_alternative(merged.html, "text/html")
    mail.merge_data = {reader.address: merged.values[reader.delivery_id] for reader in readers}
    mail.merge_headers = {reader.address: shared | headers[reader.delivery_id] for reader in readers}
    mail.merge_metadata = {reader.address: _metadata(reader) for reader in readers}
    if merged.batch.extra:
        mail.esp_extra = merged.batch.extra
    return mail


def own_headers(sender: Sender, reader: Reader) -> dict[str, str]:
    """The headers of one reader that a provider does not make itself. Raises ValueError as `message.assemble` does."""
    own = message.reader_headers(reader, bulk=sender.bulk)
    return {name: value.replace("\r\n", "") for name, value in own.items() if name not in _OWN}


def _metadata(reader: Reader) -> dict[str, str]:
    return {DELIVERY: tracking.delivery_token(reader.delivery_id)}


def _headers(sender: Sender) -> dict[str, str]:
    # Some decode an encoded list name and send it raw, so one that is not ASCII is left out.
    ascii_sender = sender if sender.list_name.isascii() else replace(sender, list_name="")
    return {name: value.replace("\r\n", "") for name, value in message.list_headers(ascii_sender).items()}


def _idempotency(name: str, key: uuid.UUID | None) -> dict[str, str]:
    """Brevo reads its key among the message's headers and keeps it to itself (half an hour)."""
    return {"idempotencyKey": str(key)} if name == "brevo" and key else {}


def _mail(
    name: str, sender: Sender, *, subject: str, body: str, to: list[Any], headers: dict[str, str]
) -> AnymailMessage:
    mail = AnymailMessage(
        subject=subject,
        body=body,
        from_email=_mailbox(sender.name, sender.address),
        to=to,
        reply_to=[sender.reply_to] if sender.reply_to else None,
        headers=headers,
    )
    if name in SWITCHES_TRACKING:
        mail.track_opens = mail.track_clicks = False
    return mail


def _address(reader: Reader) -> EmailAddress:
    """What `_mailbox` writes, parsed; `own_headers` has seen to it that it is an address."""
    username, _, domain = reader.address.rpartition("@")
    return EmailAddress(clean_line(reader.name), username=username, domain=domain)


def _mailbox(display_name: str, address: str) -> str:
    cleaned = clean_line(display_name).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{cleaned}" <{address}>' if cleaned else address
