"""What a provider's own words for a failed mail mean, where the receiving server's say less.

Each provider sorts failures under words of its own, in fields of its own. `words` finds them; the tables say what they
mean, as each provider's documents explain them. A word that only says "permanent" is weak: of permanent failures two
thirds are no hard bounces (`newsletter.bounces.statuses`), so it counts where nothing else says anything. What may end
by itself is not hard, though a provider gives up on it: a hard bounce suppresses the address at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from newsletter.bounces import Cause
from newsletter.models import Event

Kind = Event.Kind

LONGEST = 4000  # characters of what a provider says: a receiving server needs a few hundred

# What says why.
CAUSES: Mapping[str, Mapping[str, Cause]] = {
    "amazon_ses": {
        "permanent/noemail": Cause.NO_MAILBOX,
        "permanent/suppressed": Cause.NO_MAILBOX,
        "transient/mailboxfull": Cause.FULL,
        "transient/messagetoolarge": Cause.SIZE,
        "transient/contentrejected": Cause.CONTENT,
        "transient/attachmentrejected": Cause.CONTENT,
    },
    "brevo": {"invalid_email": Cause.NO_MAILBOX, "blocked": Cause.POLICY},
    "mailgun": {
        "suppress-bounce": Cause.NO_MAILBOX,
        "old": Cause.EXPIRED,
        "espblock": Cause.REPUTATION,
    },
    "mailjet": {
        "user-unknown": Cause.NO_MAILBOX,
        "invalid-domain": Cause.NO_DOMAIN,
        "no-mail-host": Cause.NETWORK,  # "nobody answers": that may end
        "typofix": Cause.NO_DOMAIN,
        "mailbox-inactive": Cause.DISABLED,
        "quota-exceeded": Cause.FULL,
        "greylisted": Cause.TRY_LATER,
        "relay/access-denied": Cause.RELAY,
        "sender-blocked": Cause.SENDER,
        "content-blocked": Cause.CONTENT,
        "error-in-template-language": Cause.CONTENT,
        "policy-issue": Cause.POLICY,
        "preblocked": Cause.UNCLEAR,  # it bounced "recently or repeatedly", hard or not
        "blacklisted": Cause.POLICY,
        "duplicate-in-campaign": Cause.POLICY,
        "system-issue": Cause.SYSTEM,
        "protocol-issue": Cause.PROTOCOL,
        "connection-issue": Cause.NETWORK,
    },
    # The categories of PowerMTA, which it shows as they are.
    "mailtrap": {
        "bad-mailbox": Cause.NO_MAILBOX,
        "bad-domain": Cause.NO_DOMAIN,
        "inactive-mailbox": Cause.DISABLED,
        "quota-issues": Cause.FULL,
        "spam": Cause.SPAM,
        "spam-related": Cause.SPAM,
        "virus-related": Cause.CONTENT,
        "content-related": Cause.CONTENT,
        "policy-related": Cause.POLICY,
        "relaying-issues": Cause.RELAY,
        "routing-errors": Cause.NETWORK,
        "no-answer-from-host": Cause.NETWORK,
        "bad-connection": Cause.NETWORK,
        "message-expired": Cause.EXPIRED,
        "protocol-errors": Cause.PROTOCOL,
    },
    "mandrill": {
        "bad_mailbox": Cause.NO_MAILBOX,
        "invalid_domain": Cause.NO_DOMAIN,
        "mailbox_full": Cause.FULL,
        "message_too_large": Cause.SIZE,
        "timeout": Cause.EXPIRED,
        "reject/invalid": Cause.NO_MAILBOX,
        "reject/hard-bounce": Cause.NO_MAILBOX,
        "reject/soft-bounce": Cause.UNCLEAR,
        "reject/invalid-sender": Cause.SENDER,
        "reject/unsigned": Cause.SENDER,
    },
    "postmark": {
        "bademailaddress": Cause.NO_MAILBOX,
        "spamnotification": Cause.SPAM,
        "virusnotification": Cause.CONTENT,
        "dmarcpolicy": Cause.AUTHENTICATION,
        "blocked": Cause.REPUTATION,
        "manuallydeactivated": Cause.POLICY,
        "templaterenderingfailed": Cause.CONTENT,
        "smtpapierror": Cause.PROTOCOL,
    },
    "sendgrid": {
        "bounced-address": Cause.NO_MAILBOX,
        "invalid": Cause.NO_MAILBOX,
        "invalid-address": Cause.NO_MAILBOX,
        "mailbox-unavailable": Cause.DISABLED,
        "content": Cause.CONTENT,
        "spam-content": Cause.SPAM,
        "technical": Cause.SYSTEM,
        "reputation": Cause.REPUTATION,
        "frequency-or-volume-too-high": Cause.RATE,
        "expired": Cause.EXPIRED,
    },
    # Its bounce classes, by number.
    "sparkpost": {
        "10": Cause.NO_MAILBOX,
        "21": Cause.NETWORK,
        "22": Cause.FULL,
        "23": Cause.SIZE,
        "24": Cause.EXPIRED,
        "25": Cause.POLICY,
        "50": Cause.REPUTATION,
        "51": Cause.REPUTATION,
        "52": Cause.SPAM,
        "53": Cause.CONTENT,
        "54": Cause.RELAY,
        "70": Cause.TRY_LATER,
    },
    "unisender_go": {
        "err_user_unknown": Cause.NO_MAILBOX,
        "err_mailbox_discarded": Cause.NO_MAILBOX,  # deleted
        "err_domain_inactive": Cause.NETWORK,  # no such domain, or one that takes no mail just now
        "err_user_inactive": Cause.DISABLED,
        "err_mailbox_full": Cause.FULL,
        "skip_dup_mailbox_full": Cause.FULL,
        "err_spam_rejected": Cause.SPAM,
        "err_spam_skipped": Cause.SPAM,
        "err_spam_removed": Cause.SPAM,
        "ok_spam_folder": Cause.SPAM,
        "err_blacklisted": Cause.REPUTATION,
        "err_too_large": Cause.SIZE,
        "err_unreachable": Cause.NETWORK,
        "err_destination_misconfigured": Cause.SYSTEM,
        "err_lost": Cause.SYSTEM,
    },
}
CAUSES = {**CAUSES, "resend": {**CAUSES["amazon_ses"], "email.failed": Cause.POLICY}}

# What says no more than that further mail is not worth trying, or that the mail or its sender was not wanted.
_AMAZON = {"permanent/general": Cause.NO_MAILBOX, "permanent/onaccountsuppressionlist": Cause.NO_MAILBOX}
WEAK: Mapping[str, Mapping[str, Cause]] = {
    "amazon_ses": _AMAZON,
    "brevo": {"hard_bounce": Cause.NO_MAILBOX},
    "mailersend": {"hard_bounced": Cause.NO_MAILBOX},
    "mandrill": {"hard_bounce": Cause.NO_MAILBOX},
    "postmark": {"hardbounce": Cause.NO_MAILBOX},
    "resend": {**_AMAZON, "email.suppressed": Cause.NO_MAILBOX},
    "sendgrid": {"blocked": Cause.POLICY},
    "sparkpost": {"30": Cause.NO_MAILBOX},
}

# Events that are something else than they seem: mail that is not sent because of what the reader did before, and what
# django-anymail does not know. Nothing follows from None.
KINDS: Mapping[str, Mapping[str, Event.Kind | None]] = {
    "mailgun": {"suppress-complaint": Kind.COMPLAINT, "suppress-unsubscribe": Kind.UNSUBSCRIBE},
    "mailjet": {"spam-reporter": Kind.COMPLAINT},
    "mandrill": {"reject/spam": Kind.COMPLAINT, "reject/unsub": Kind.UNSUBSCRIBE},
    # The receiving server took the mail for spam; no reader said so.
    # Of a bounce it tells twice, the second time without a reason.
    "postmark": {"spamnotification": Kind.BOUNCE, "subscriptionchange/hardbounce": None},
    "resend": {"email.suppressed": Kind.BOUNCE, "email.failed": Kind.BOUNCE},
    "sendgrid": {"spam-reporting-address": Kind.COMPLAINT, "unsubscribed-address": Kind.UNSUBSCRIBE},
    # Of the spam folder it is the same; what a reader says is "ok_fbl".
    "unisender_go": {"err_unsubscribed": Kind.UNSUBSCRIBE, "ok_spam_folder": Kind.BOUNCE},
}


def words(name: str, event: Any) -> list[str]:
    """The words, in lower case and the most telling first, that provider `name` sorts its `event` under."""
    return [word.lower().replace(" ", "-") for word in _WORDS[name](event) if word] if name in _WORDS else []


def status(name: str, event: Any) -> str:
    """An enhanced status code (RFC 3463) that a field of the provider's `event` is for; "" without."""
    return _text(event, *_STATUS[name]) if name in _STATUS else ""


def code(name: str, event: Any) -> int | None:
    """An SMTP reply code that a field of the provider's `event` is for; None without."""
    found = _text(event, *_CODE[name]) if name in _CODE else ""
    return int(found) if len(found) == 3 and found.isdecimal() and found[0] in "45" else None


def feedback_type(name: str, event: Any) -> str:
    """The type of a report by a reader (RFC 5965) that a field of the provider's `event` is for; "" without."""
    return _text(event, *_FEEDBACK_TYPE[name]) if name in _FEEDBACK_TYPE else ""


def dig(event: Any, *path: str | int) -> Any:
    """What stands at `path` in the JSON value `event`; None where there is nothing of the kind."""
    for step in path:
        if isinstance(event, Mapping) and isinstance(step, str):
            event = event.get(step)
        elif isinstance(event, list) and isinstance(step, int) and step < len(event):
            event = event[step]
        else:
            return None
    return event


def text(value: Any) -> str:
    """What a provider gives as text, which may be a number; "" for all else. At most LONGEST characters, all of which a
    database takes."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    given = str(value)[:LONGEST]
    if not given.isascii() or "\0" in given:
        given = given.encode("utf-8", "replace").decode().replace("\0", " ")
    return given.strip()


def _text(event: Any, *path: str | int) -> str:
    return text(dig(event, *path))


def _amazon(bounce: Any) -> list[str]:
    """Resend hands on Amazon's words."""
    kind = _text(bounce, "bounceType") or _text(bounce, "type")
    return [f"{kind}/{_text(bounce, 'bounceSubType') or _text(bounce, 'subType') or 'General'}"]


def _postmark(event: Any) -> list[str]:
    reason = _text(event, "SuppressionReason")
    return [f"{_text(event, 'RecordType')}/{reason}" if reason else _text(event, "Type")]


def _mandrill(event: Any) -> list[str]:
    reason = _text(event, "reject", "reason") or _text(event, "msg", "reject", "reason")
    return [f"reject/{reason}", _text(event, "msg", "bounce_description"), _text(event, "event")]


_WORDS: Mapping[str, Callable[[Any], list[str]]] = {
    "amazon_ses": lambda event: _amazon(dig(event, "bounce")),
    "brevo": lambda event: [_text(event, "event")],
    "mailersend": lambda event: [_text(event, "data", "type")],
    "mailgun": lambda event: [_text(event, "event-data", "reason")],
    "mailjet": lambda event: [_text(event, "error")],
    "mailtrap": lambda event: [_text(event, "bounce_category").replace("_", "-")],
    "mandrill": _mandrill,
    "postmark": _postmark,
    "resend": lambda event: [*_amazon(dig(event, "data", "bounce")), _text(event, "type")],
    "sendgrid": lambda event: [_text(event, "reason"), _text(event, "bounce_classification"), _text(event, "type")],
    "sparkpost": lambda event: [
        _text(event, "msys", kind, "bounce_class") for kind in ("message_event", "gen_event", "unsubscribe_event")
    ],
    "unisender_go": lambda event: [_text(event, "delivery_info", "delivery_status")],
}
_STATUS: Mapping[str, tuple[str | int, ...]] = {
    "amazon_ses": ("bounce", "bouncedRecipients", 0, "status"),
    "mailgun": ("event-data", "delivery-status", "enhanced-code"),
    "sendgrid": ("status",),
}
_FEEDBACK_TYPE: Mapping[str, tuple[str | int, ...]] = {
    "amazon_ses": ("complaint", "complaintFeedbackType"),
    "sparkpost": ("msys", "message_event", "fbtype"),
}
_CODE: Mapping[str, tuple[str | int, ...]] = {
    "mailgun": ("event-data", "delivery-status", "code"),
    "mailtrap": ("response_code",),
    "sparkpost": ("msys", "message_event", "error_code"),
}
