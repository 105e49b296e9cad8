"""E-mail addresses: as given, as compared, and as hashed for suppression."""

from __future__ import annotations

import hmac
import unicodedata
from dataclasses import dataclass

from django.conf import settings
from email_validator import EmailNotValidError, validate_email


class AddressError(ValueError):
    """Not an address that mail can be sent to; the message says why."""


@dataclass(frozen=True)
class Address:
    """`given` is kept for sending; `key` decides whether two addresses are the same person's."""

    given: str
    key: str


def parse(text: str) -> Address:
    """The address in `text`. Dots and plus tags are kept: only the owner knows what they mean.

    Raises AddressError for anything mail cannot be sent to.
    """
    text = unicodedata.normalize("NFC", text.strip())
    try:
        valid = validate_email(text, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise AddressError(f"“{text[:100]}” is not an e-mail address: {error}") from error
    domain = (valid.ascii_domain or valid.domain).lower()
    return Address(given=f"{valid.local_part}@{domain}", key=f"{valid.local_part.lower()}@{domain}")


def fingerprint(key: str) -> str:
    """A keyed hash of an address key: enough to recognise an address again, nothing to read it from."""
    return hmac.digest(settings.ADDRESS_HASH_KEY.encode(), key.encode(), "sha256").hex()[:40]
