"""The parts of a report that are made for machines: RFC 3464, RFC 5965, and the JSON that Amazon SES sends by SNS."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

_FIELD = re.compile(r"^\s{0,3}([A-Za-z][A-Za-z-]{2,40}):[ \t]*(.*)$")
_PER_RECIPIENT = frozenset({"final-recipient", "original-recipient", "action", "status", "diagnostic-code"})


@dataclass
class Recipient:
    """One recipient of a delivery report, as the reporter filled in the fields."""

    address: str = ""
    action: str = ""
    status: str = ""
    diagnostic: str = ""
    fields: dict[str, str] = field(default_factory=dict)


def recipients_in(text: str) -> list[Recipient]:
    """The recipients of a message/delivery-status, however its blocks are parted; [] where it names none."""
    found: list[Recipient] = []
    fresh = True
    for name, value in _fields(text):
        if not name:
            fresh = True
            continue
        if name not in _PER_RECIPIENT and not (found and not fresh):
            continue
        if not found or fresh or (name == "final-recipient" and name in found[-1].fields):
            # A block without a recipient continues the one before.
            if not found or name in {"final-recipient", "original-recipient", "action"} or name in found[-1].fields:
                found.append(Recipient())
            fresh = False
        _fill(found[-1], name, value)
    return [recipient for recipient in found if recipient.fields]


def feedback_in(text: str) -> dict[str, str]:
    """The fields of a message/feedback-report, names in lower case."""
    return {name: value for name, value in reversed(list(_fields(text))) if name}


def notification_in(text: str) -> dict[str, Any] | None:
    """What Amazon SES tells in `text` (eventType or notificationType), bare or wrapped by SNS, or None."""
    start = text.find("{")
    if start < 0 or not re.search("notificationType|eventType", text):
        return None
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text[start:])
        if isinstance(found, dict) and isinstance(found.get("Message"), str):
            found = json.loads(found["Message"], strict=False)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and isinstance(found.get("notificationType") or found.get("eventType"), str):
        return found
    return None


def address_in(value: str) -> str:
    """The address in a field such as `rfc822; reader@example.org`, or ""."""
    match = re.search(r"[^\s<>;,\"()]{1,64}@[^\s<>;,\"()]{1,255}", value)
    return match[0] if match else ""


def _fields(text: str) -> list[tuple[str, str]]:
    """Names in lower case with unfolded values; ("", "") for a blank line."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        match = _FIELD.match(line)
        if not line.strip():
            found.append(("", ""))
        elif match:
            found.append((match[1].lower(), match[2].strip()))
        elif found and found[-1][0]:
            name, value = found[-1]
            found[-1] = (name, f"{value} {line.strip()}")
    return found


def _fill(recipient: Recipient, name: str, value: str) -> None:
    recipient.fields[name] = value
    if name in {"final-recipient", "original-recipient", "x-actual-recipient"}:
        # What was written on the mail is what we know; the final one may be a forward's.
        if name == "original-recipient" or not recipient.address:
            recipient.address = address_in(value) or recipient.address
    elif name == "action":
        recipient.action = value.lower().split("(")[0].strip(" ;.")
    elif name == "status":
        recipient.status = value
    elif name == "diagnostic-code":
        recipient.diagnostic = re.sub(r"^\s*(?:x-)?[\w-]{2,20}\s*;\s*", "", value)
