"""Whose events are taken, and what proves that a call is theirs.

django-anymail checks a provider's own signature where there is one, and the user and password of WEBHOOK_SECRET (in the
URL that the provider calls, RFC 7617) wherever that is set. One of the two has to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

PASSWORD = 16  # characters that WEBHOOK_SECRET has at the least


@dataclass(frozen=True)
class Provider:
    """`view` is the class in `anymail.webhooks.<name>` that knows its events; `key` the entry of ANYMAIL that its
    signature is checked by, empty where it signs nothing that django-anymail can check, and `header` the one that the
    signature stands in, empty where it stands in the body."""

    view: str
    key: str = ""
    header: str = ""
    asks_by_get: bool = False


# All that django-anymail 15 has events of (a test compares).
PROVIDERS: Mapping[str, Provider] = {
    # Amazon's own signature under SNS is not checked by django-anymail.
    "amazon_ses": Provider("AmazonSESTrackingWebhookView"),
    "brevo": Provider("BrevoTrackingWebhookView"),
    "mailersend": Provider("MailerSendTrackingWebhookView", "MAILERSEND_SIGNING_SECRET", "Signature"),
    "mailgun": Provider("MailgunTrackingWebhookView", "MAILGUN_WEBHOOK_SIGNING_KEY"),
    "mailjet": Provider("MailjetTrackingWebhookView"),
    "mailtrap": Provider("MailtrapTrackingWebhookView", "MAILTRAP_TRACKING_SECRET", "Mailtrap-Signature"),
    "mandrill": Provider("MandrillCombinedWebhookView", "MANDRILL_WEBHOOK_KEY", "X-Mandrill-Signature"),
    "postal": Provider("PostalTrackingWebhookView", "POSTAL_WEBHOOK_KEY", "X-Postal-Signature"),
    "postmark": Provider("PostmarkTrackingWebhookView"),
    "resend": Provider("ResendTrackingWebhookView", "RESEND_SIGNING_SECRET", "svix-signature"),
    "sendgrid": Provider(
        "SendGridTrackingWebhookView",
        "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY",
        "X-Twilio-Email-Event-Webhook-Signature",
    ),
    "sparkpost": Provider("SparkPostTrackingWebhookView"),
    # Signs with its API key, without which nothing could be sent.
    "unisender_go": Provider("UnisenderGoTrackingWebhookView", "UNISENDER_GO_API_KEY", asks_by_get=True),
}
# Their calls cannot be read without their key, whatever else is set.
KEY_IS_NEEDED = frozenset({"mailersend", "mailgun", "mandrill", "postal", "unisender_go"})


def expected() -> str:
    """The name of the provider whose events are taken; empty where mail goes to a relay that tells nothing."""
    return settings.ENV.events_from or settings.ENV.provider


def is_checked(name: str) -> bool:
    """Whether something proves that a call is `name`'s. Nothing is taken where nothing does."""
    # A Mailgun account from before signing keys signs with its API key.
    keys = [PROVIDERS[name].key, *(["MAILGUN_API_KEY"] if name == "mailgun" else [])]
    return bool(_secrets()) or any(key and settings.ANYMAIL.get(key) for key in keys)


def unknown() -> list[tuple[str, str]]:
    """That EVENTS_FROM names nobody, where it does: a sentence, and what to do."""
    if not settings.ENV.events_from or settings.ENV.events_from in PROVIDERS:
        return []
    problem = f"EVENTS_FROM is “{settings.ENV.events_from}”, which is none of: {', '.join(sorted(PROVIDERS))}."
    return [(problem, "Set EVENTS_FROM to one of these, or to nothing.")]


def problems() -> list[tuple[str, str]]:
    """What keeps events of the expected provider from being taken, or makes them easy to forge: sentences, each with
    what to do about it."""
    name = expected()
    if name not in PROVIDERS:
        return []  # a relay, or a provider that django-anymail has no events of
    secrets, key = _secrets(), PROVIDERS[name].key
    found = [
        (
            f"WEBHOOK_SECRET in ANYMAIL is not user:password with at least {PASSWORD} characters of password.",
            "Choose a user name and a long random password, without any of : @ / in them, and put them into the URL "
            "that the provider calls as well.",
        )
        for secret in secrets
        if not _is_long_enough(secret)
    ]
    if name in KEY_IS_NEEDED and not settings.ANYMAIL.get(key):
        found.append((f"Events of {name} cannot be checked: {key} is not set.", _put(name, key)))
    elif not secrets and not (key and settings.ANYMAIL.get(key)):
        choice = f"{key} or WEBHOOK_SECRET" if key else "WEBHOOK_SECRET"
        found.append((f"Anybody could send events in {name}'s name: {choice} is not set.", _put(name, choice)))
    return found


def _put(name: str, choice: str) -> str:
    return f"Put {choice} into ANYMAIL; docs/provider-events.md says what {name} calls it."


def _secrets() -> list[str]:
    secret: Any = settings.ANYMAIL.get("WEBHOOK_SECRET") or []
    return [secret] if isinstance(secret, str) else [str(each) for each in secret]


def _is_long_enough(secret: str) -> bool:
    user, _, password = secret.partition(":")
    return bool(user) and len(password) >= PASSWORD
