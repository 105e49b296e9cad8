"""Hands messages to an e-mail provider by django-anymail: one call per reader, over a session that is kept open.

The provider builds the message itself from subject, text, HTML and headers. Its open and click tracking is switched off
where a call can do that; elsewhere it is off unless the provider's own settings turn it on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anymail.exceptions import AnymailError, AnymailRecipientsRefused  # type: ignore[import-untyped]
from anymail.message import AnymailMessage  # type: ignore[import-untyped]
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from newsletter import message
from newsletter.content import clean_line
from newsletter.message import Compiled, Reader, Sender
from newsletter.transports.outcomes import Outcome, Result, one_line
from newsletter.transports.provider import answers

if TYPE_CHECKING:
    from anymail.backends.base import AnymailBaseBackend  # type: ignore[import-untyped]

# What each provider's API can be told in a single call, as django-anymail 15 knows it (a test compares).
SWITCHES_TRACKING = frozenset({"mailersend", "mailgun", "mailjet", "mandrill", "postmark", "sparkpost", "unisender_go"})
CARRIES_METADATA = frozenset(
    {"amazon_ses", "brevo", "mailgun", "mailjet", "mailtrap", "mandrill", "postmark", "resend", "scaleway", "sparkpost"}
    | {"unisender_go"}
)
PROVIDERS = SWITCHES_TRACKING | CARRIES_METADATA | {"postal"}
# Headers of our own that a provider keeps; the others make their own Message-ID.
KEEPS_MESSAGE_ID: dict[str, dict[str, str]] = {"mailgun": {}, "postmark": {"X-PM-KeepID": "true"}}
# What begins a merge field even in a single call without merge data, by provider.
MERGE_SYNTAX = {
    "brevo": ("{{", "{%"),
    "mailersend": ("{{", "{%", "{$"),
    "mailgun": ("%recipient", "%unsubscribe_", "%tag_unsubscribe_", "%mailing_list_"),
    "mailjet": ("{{", "{%"),
    "mandrill": ("*|", "{{"),
    "sparkpost": ("{{",),
    "unisender_go": ("{{", "{%"),
}


GIVE_UP_AFTER = 3  # calls without an answer, one after the other; the rest of a chunk is then not tried


class ProviderTransport:
    """The provider `name` of django-anymail, with the settings in ANYMAIL. Not to be shared between threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._backend: AnymailBaseBackend | None = None

    def hand_over(
        self, compiled: Compiled, sender: Sender, readers: Sequence[Reader], *, deadline: float
    ) -> list[Outcome]:
        """See `transports.Transport.hand_over`."""
        outcomes: list[Outcome] = []
        for reader in readers:
            last = outcomes[-1] if outcomes else None
            doubtful = [each.result in {Result.LATER, Result.UNKNOWN} for each in outcomes[-GIVE_UP_AFTER:]]
            if time.monotonic() >= deadline:
                outcome = Outcome(
                    reader.delivery_id, Result.LATER, "The lease ran out before this message could leave."
                )
            elif last and (last.result == Result.SENDER_REFUSED or last.retry_after is not None):
                outcome = replace(last, delivery_id=reader.delivery_id)  # the others would be told the same
            elif len(doubtful) == GIVE_UP_AFTER and all(doubtful):
                reply = f"Not tried: the provider failed {GIVE_UP_AFTER} times running."
                outcome = Outcome(reader.delivery_id, Result.LATER, reply)
            else:
                outcome = self._deliver(compiled, sender, reader)
            outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """Let the session go; the next `hand_over` opens another."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _deliver(self, compiled: Compiled, sender: Sender, reader: Reader) -> Outcome:
        try:
            answer = self._send(_mail(self.name, compiled, sender, reader))
        except ValueError as error:  # from `message`: no address, or no link to unsubscribe
            answer = answers.Answer(Result.REFUSED, str(error))
        reply = one_line(answer.reply, reader.address)
        return Outcome(reader.delivery_id, answer.result, reply, answer.provider_id, answer.retry_after)

    def _send(self, mail: AnymailMessage) -> answers.Answer:
        try:
            if self._backend is None:
                backend = _backend(self.name)
                backend.open()
                self._backend = backend
            self._backend.send_messages([mail])
        except ImproperlyConfigured as error:
            return answers.Answer(Result.SENDER_REFUSED, answers.first_line(error))
        except AnymailRecipientsRefused:
            pass  # its status says the same
        except AnymailError as error:
            return answers.of_error(error)
        return answers.of_status(mail.anymail_status)


def problems(name: str) -> list[str]:
    """What is wrong with `name` as PROVIDER and with ANYMAIL, a sentence each; empty when it can be used."""
    if name not in PROVIDERS:
        return [f"PROVIDER is “{name}”, which is none of: {', '.join(sorted(PROVIDERS))}."]
    try:
        _backend(name)
    except ImproperlyConfigured as error:
        return [f"PROVIDER {name} cannot be used: {answers.first_line(error)}"]
    return []


def _backend(name: str) -> AnymailBaseBackend:
    if name not in PROVIDERS:
        raise ImproperlyConfigured(problems(name)[0])
    options: dict[str, Any] = {}
    if name == "amazon_ses":
        # boto3 would repeat a call that got no answer, and a reader could get two mails.
        given = settings.ANYMAIL.get("AMAZON_SES_CLIENT_PARAMS", {})
        once = {"retries": {"total_max_attempts": 1}, "read_timeout": settings.EMAIL_TIMEOUT}
        options["client_params"] = {**given, "config": {**given.get("config", {}), **once}}
    backend: AnymailBaseBackend = import_module(f"anymail.backends.{name}").EmailBackend(**options)
    return backend


def _mail(name: str, compiled: Compiled, sender: Sender, reader: Reader) -> AnymailMessage:
    """The message for one reader, in what the API of `name` can be told. Raises ValueError as `assemble` does."""
    # Some decode an encoded list name and send it raw, so one that is not ASCII is left out.
    ascii_sender = sender if sender.list_name.isascii() else replace(sender, list_name="")
    extra = {**message.list_headers(ascii_sender), **message.reader_headers(reader, bulk=sender.bulk)}
    extra = {key: value.replace("\r\n", "") for key, value in extra.items()}
    own = {key: extra.pop(key) for key in ("To", "Date", "Message-ID")}
    if name in KEEPS_MESSAGE_ID:
        extra |= {"Message-ID": own["Message-ID"], **KEEPS_MESSAGE_ID[name]}
    mail = AnymailMessage(
        subject=_unmerged(message.subject(compiled, reader), name),
        body=_unmerged(message.text(compiled, reader), name),
        from_email=_mailbox(sender.name, sender.address),
        to=[_mailbox(reader.name, reader.address)],
        reply_to=[sender.reply_to] if sender.reply_to else None,
        headers=extra,
    )
    if compiled.html is not None:
        mail.attach_alternative(_unmerged(message.html(compiled, reader), name, as_html=True), "text/html")
    if name in CARRIES_METADATA:
        mail.metadata = {"delivery_id": str(reader.delivery_id)}
    if name in SWITCHES_TRACKING:
        mail.track_opens = mail.track_clicks = False
    return mail


def _mailbox(display_name: str, address: str) -> str:
    cleaned = clean_line(display_name).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{cleaned}" <{address}>' if cleaned else address


def _unmerged(text: str, name: str, *, as_html: bool = False) -> str:
    """`text` with the provider's own merge syntax broken up, invisibly: what an author writes is not a template."""
    for opening in MERGE_SYNTAX.get(name, ()):
        first, rest = opening[0], opening[1:]
        text = text.replace(opening, f"&#{ord(first)};{rest}" if as_html else f"{first}\N{WORD JOINER}{rest}")
    return text
