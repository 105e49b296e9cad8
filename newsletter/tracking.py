"""Signed tokens and links that lead back: who a hit, a click, an unsubscribe or a bounce belongs to.

Pure: settings only, no database, so that a redirect works while the database is away. Tokens stand in sent mail for
ever. Each begins with the number of its key in TOKEN_KEYS (the highest signs, all verify) and ends with 96 bits of
HMAC-SHA256 over its purpose and body, so that a token made for one purpose is worth nothing for another. Each has one
spelling: what decodes to the same bytes but is written differently is refused.

    reader     key 1 | subscriber 8 | newsletter 4 | delivery 6 | MAC 12   42 characters   /u/ /p/ /i/
    delivery   key 1 | delivery 6 | MAC 12                                 26 characters   /o/…, /c/…/…
    message    key 1 | delivery 6 | MAC 12                                 26 characters   Message-ID
    dispatch   key 1 | dispatch 6 | MAC 12                                 26 characters   /o/d/
    confirm    key 1 | consent record 6 | MAC 12                           26 characters   /y/
    click      key 1 | dispatch 6 | URL in UTF-8 | MAC 12                                  /c/

Two stand in the local part of an address, which some systems put into lower case on its way: these are written in
base32, and read back in any case. Beside a BOUNCE_ADDRESS of 13 octets and a plus sign they fit into 64 octets
(RFC 5321 section 4.5.3.1.1).

    bounce     key 1 | delivery 6 | MAC 12                                 31 characters   bounces+…@ (VERP)
    leave      key 1 | subscriber 8 | newsletter 4 | delivery 6 | MAC 12   50 characters   bounces+…@ (mailto:)
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b32decode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.encoding import punycode

MAC_BYTES = 12
ID_BYTES = 6
SUBSCRIBER_BYTES = 8
NEWSLETTER_BYTES = 4
READER_BYTES = SUBSCRIBER_BYTES + NEWSLETTER_BYTES + ID_BYTES
# A redirect of the longest URL still fits into the 8 kB that servers and proxies take as a request line.
URL_BYTES = 4096

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
# RFC 2104 section 2: what the key is mixed with before each of the two hashes.
_INNER, _OUTER = (bytes(octet ^ pad for octet in range(256)) for pad in (0x36, 0x5C))
_CONTROLS = re.compile("[\x00-\x1f\x7f]")
# What may stand before a token in a local part: our own name with whatever sign the mail system puts between them, and
# the tags that others add in front (BATV: prvs=…=). The signature says whether it is one.
_IN_ADDRESS = re.compile(r"(?<![A-Za-z0-9])(?:[A-Za-z2-7]{50}|[A-Za-z2-7]{31})(?![A-Za-z0-9])")


class BadToken(ValueError):
    """A token that this site did not make, or not for this purpose."""


@dataclass(frozen=True)
class ReaderToken:
    """Whom the weak link of a mail belongs to; `delivery_id` is None in mail that belongs to no delivery."""

    subscriber_public_id: int
    newsletter_public_id: int
    delivery_id: int | None


def _mac(key_number: int, purpose: bytes, body: bytes) -> bytes:
    key = settings.TOKEN_KEYS[key_number].encode()
    return hmac.digest(key, purpose + b"\0" + bytes([key_number]) + body, "sha256")[:MAC_BYTES]


@cache
def _threes() -> list[str]:
    return ["".join(three) for three in product(_ALPHABET, repeat=3)]


def _base32(raw: bytes) -> str:
    """`raw` in base32 (RFC 4648), small letters, no padding: what `b32encode` gives in a fraction of its time, which
    every mail takes twice."""
    unused = -8 * len(raw) % 15
    number, threes = int.from_bytes(raw, "big") << unused, _threes()
    written = "".join([threes[number >> shift & 0x7FFF] for shift in range(8 * len(raw) + unused - 15, -1, -15)])
    return written[: -(-8 * len(raw) // 5)]


class _Key:
    """The key to sign with.

    `_mac` again, in less than half of its time, which every mail takes up to five times: the two hashes that it
    consists of are begun once for each purpose (RFC 2104 section 4).
    """

    def __init__(self) -> None:
        number = max(settings.TOKEN_KEYS)
        key = settings.TOKEN_KEYS[number].encode()
        sha256 = hashlib.sha256
        key = (sha256(key).digest() if len(key) > sha256().block_size else key).ljust(sha256().block_size, b"\0")
        self._number = bytes([number])
        self._inner = sha256(key.translate(_INNER))
        self._outer = sha256(key.translate(_OUTER))
        self._begun: dict[bytes, Any] = {}

    def sign(self, purpose: bytes, body: bytes) -> str:
        return urlsafe_b64encode(self._signed(purpose, body)).rstrip(b"=").decode("ascii")

    def sign_for_address(self, purpose: bytes, body: bytes) -> str:
        return _base32(self._signed(purpose, body))

    def _signed(self, purpose: bytes, body: bytes) -> bytes:
        if purpose not in self._begun:
            begun = self._inner.copy()
            begun.update(purpose + b"\0" + self._number)
            self._begun[purpose] = begun
        inner = self._begun[purpose].copy()
        inner.update(body)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return b"%b%b%b" % (self._number, body, outer.digest()[:MAC_BYTES])


def _sign(purpose: bytes, body: bytes) -> str:
    return _Key().sign(purpose, body)


def _read(purpose: bytes, token: str, *, longest: int, shortest: int) -> bytes:
    """The body signed for `purpose`, of `shortest` to `longest` bytes."""
    try:
        written = token.encode("ascii")
        raw = urlsafe_b64decode(written + b"=" * (-len(written) % 4))
    except (UnicodeEncodeError, binascii.Error) as error:
        raise BadToken("The token is not base64.") from error
    # Decoders skip foreign characters and ignore the last, unused bits.
    if urlsafe_b64encode(raw).rstrip(b"=") != written:
        raise BadToken("The token is not written the way this site writes it.")
    return _verified(purpose, raw, longest=longest, shortest=shortest)


def _verified(purpose: bytes, raw: bytes, *, longest: int, shortest: int) -> bytes:
    """The body of `raw`, a token's bytes, where its signature is right."""
    number, body, mac = raw[:1], raw[1:-MAC_BYTES], raw[-MAC_BYTES:]
    if not shortest <= len(body) <= longest or number[0] not in settings.TOKEN_KEYS:
        raise BadToken("The token is too short or too long, or its key is unknown.")
    if not hmac.compare_digest(mac, _mac(number[0], purpose, body)):
        raise BadToken("The token's signature is wrong.")
    return body


def _sign_id(purpose: bytes, number: int) -> str:
    return _sign(purpose, number.to_bytes(ID_BYTES, "big"))


def _read_id(purpose: bytes, token: str) -> int:
    return int.from_bytes(_read(purpose, token, longest=ID_BYTES, shortest=ID_BYTES), "big")


def reader_token(subscriber_public_id: int, newsletter_public_id: int, delivery_id: int = 0) -> str:
    """The token of a reader's own links, 42 characters. Public ids, so that it works after deliveries are deleted."""
    return _sign(
        b"reader",
        subscriber_public_id.to_bytes(SUBSCRIBER_BYTES, "big")
        + newsletter_public_id.to_bytes(NEWSLETTER_BYTES, "big")
        + delivery_id.to_bytes(ID_BYTES, "big"),
    )


def read_reader_token(token: str) -> ReaderToken:
    """What `reader_token` wrote. Raises BadToken."""
    return _reader_in(_read(b"reader", token, longest=READER_BYTES, shortest=READER_BYTES))


def _reader_in(body: bytes) -> ReaderToken:
    return ReaderToken(
        subscriber_public_id=int.from_bytes(body[:SUBSCRIBER_BYTES], "big"),
        newsletter_public_id=int.from_bytes(body[SUBSCRIBER_BYTES:-ID_BYTES], "big"),
        delivery_id=int.from_bytes(body[-ID_BYTES:], "big") or None,
    )


def read_address(address: str) -> int | ReaderToken | None:
    """What an address of ours says: the delivery's id that a return address carries, or who leaves what by writing to
    an unsubscribe address. None where there is no token in it.

    Any case is read back, and any sign between the parts. Raises BadToken where this site did not make the token.
    """
    found = _IN_ADDRESS.search(re.sub("%2b", "+", address.rpartition("@")[0], flags=re.IGNORECASE))
    if found is None:
        return None
    written = found[0].upper()
    raw = b32decode(written + "=" * (-len(written) % 8))
    if _base32(raw).upper() != written:  # decoders ignore the last, unused bits
        raise BadToken("The token is not written the way this site writes it.")
    if len(raw) == 1 + READER_BYTES + MAC_BYTES:
        return _reader_in(_verified(b"leave", raw, longest=READER_BYTES, shortest=READER_BYTES))
    return int.from_bytes(_verified(b"bounce", raw, longest=ID_BYTES, shortest=ID_BYTES), "big")


def delivery_token(delivery_id: int) -> str:
    """The one token of a delivery's pixel and links, 26 characters, which stands at their end."""
    return _sign_id(b"delivery", delivery_id)


def read_delivery_token(token: str) -> int:
    """The delivery's id that `delivery_token` wrote. Raises BadToken."""
    return _read_id(b"delivery", token)


def read_dispatch_token(token: str) -> int:
    """The dispatch's id that an anonymous `pixel_url` carries. Raises BadToken."""
    return _read_id(b"dispatch", token)


def confirm_url(consent_record_id: int) -> str:
    """The link by which a person confirms what that record says somebody asked for. How long it works is for the one
    who reads the record to say."""
    return f"{settings.SITE_URL}/y/{_sign_id(b'confirm', consent_record_id)}"


def read_confirm_token(token: str) -> int:
    """The consent record's id that `confirm_url` carries. Raises BadToken."""
    return _read_id(b"confirm", token)


def trackable(url: str) -> bool:
    """Whether `url` may stand in a redirect: http or https with a host, no control characters, not over URL_BYTES."""
    try:
        parts = urlsplit(url)
        size = len(url.encode())
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"} and bool(parts.hostname) and size <= URL_BYTES and not _CONTROLS.search(url)
    )


def click_url(dispatch_id: int, url: str) -> str:
    """The redirect to `url`, the same for every reader: no open redirect, since the URL inside is signed.

    In individual tracking, "/" and the delivery's token follow. Raises ValueError where `url` is not `trackable`.
    """
    if not trackable(url):
        raise ValueError(
            f"The link {url[:100]!r} cannot be tracked: write an http or https URL of at most {URL_BYTES} bytes."
        )
    return f"{settings.SITE_URL}/c/{_sign(b'click', dispatch_id.to_bytes(ID_BYTES, 'big') + url.encode())}"


def read_click(static: str) -> tuple[int, str]:
    """The dispatch's id and the URL that `click_url` wrote. Raises BadToken."""
    body = _read(b"click", static, longest=ID_BYTES + URL_BYTES, shortest=ID_BYTES + 1)
    return int.from_bytes(body[:ID_BYTES], "big"), body[ID_BYTES:].decode()


def pixel_url(dispatch_id: int, *, individual: bool) -> str:
    """The open pixel: whole for anonymous tracking; for individual tracking the delivery's token is to follow."""
    return f"{settings.SITE_URL}/o/" + ("" if individual else f"d/{_sign_id(b'dispatch', dispatch_id)}")


class Links:
    """What leads back from the mails of one dispatch: made once, asked for each reader.

    Without an `upgrade_url` of the newsletter, readers are led to their preferences.
    """

    def __init__(self, newsletter_public_id: int, upgrade_url: str = "") -> None:
        self._key = _Key()
        self._newsletter = newsletter_public_id.to_bytes(NEWSLETTER_BYTES, "big")
        self._upgrade_url = upgrade_url
        self._site = settings.SITE_URL
        self._host = _message_id_host()
        self._bounces, _, self._bounce_domain = settings.BOUNCE_ADDRESS.rpartition("@")

    def delivery_token(self, delivery_id: int) -> str:
        """See `delivery_token`."""
        return self._key.sign(b"delivery", delivery_id.to_bytes(ID_BYTES, "big"))

    def message_id(self, delivery_id: int) -> str:
        """See `message_id`."""
        return f"{self._key.sign(b'message', delivery_id.to_bytes(ID_BYTES, 'big'))}@{self._host}"

    def return_address(self, delivery_id: int) -> str:
        """Where mail that cannot be delivered comes back to: an address of this delivery's own (VERP), or "" without
        BOUNCE_ADDRESS."""
        if not self._bounces:
            return ""
        token = self._key.sign_for_address(b"bounce", delivery_id.to_bytes(ID_BYTES, "big"))
        return f"{self._bounces}+{token}@{self._bounce_domain}"

    def unsubscribe_address(self, subscriber_public_id: int, delivery_id: int) -> str:
        """Where any message unsubscribes this reader, or "" without BOUNCE_ADDRESS."""
        if not self._bounces:
            return ""
        subscriber = subscriber_public_id.to_bytes(SUBSCRIBER_BYTES, "big")
        body = subscriber + self._newsletter + delivery_id.to_bytes(ID_BYTES, "big")
        return f"{self._bounces}+{self._key.sign_for_address(b'leave', body)}@{self._bounce_domain}"

    def urls(self, subscriber_public_id: int, delivery_id: int) -> dict[str, str]:
        """A reader's links, by the names of their merge fields."""
        subscriber, delivery = (
            subscriber_public_id.to_bytes(SUBSCRIBER_BYTES, "big"),
            delivery_id.to_bytes(ID_BYTES, "big"),
        )
        token = self._key.sign(b"reader", subscriber + self._newsletter + delivery)
        site, preferences = self._site, f"{self._site}/p/{token}"
        return {
            "unsubscribe_url": f"{site}/u/{token}",
            "preferences_url": preferences,
            "web_url": f"{site}/i/{token}",
            "upgrade_url": self._upgrade_url or preferences,
        }


def reader_urls(
    subscriber_public_id: int, newsletter_public_id: int, delivery_id: int, upgrade_url: str = ""
) -> dict[str, str]:
    """One reader's links, by the names of their merge fields."""
    return Links(newsletter_public_id, upgrade_url).urls(subscriber_public_id, delivery_id)


def site_host() -> str:
    """The host name of this site, on the right of every Message-ID and at the end of every List-Id."""
    return urlsplit(settings.SITE_URL).hostname or "localhost"


def message_id(delivery_id: int) -> str:
    """The Message-ID of a delivery without its angle brackets: the same at every attempt, at this site's host.

    Its token is not that of the links: people show these to others, and whoever knows the Message-ID is believed to
    have the mail, so that a bounce or a complaint that names it counts.
    """
    return f"{_sign_id(b'message', delivery_id)}@{_message_id_host()}"


def _message_id_host() -> str:
    host = site_host()
    return f"[IPv6:{host}]" if ":" in host else punycode(host)


def delivery_of_message_id(text: str) -> int:
    """The delivery's id that a Message-ID, with or without angle brackets, names. Raises BadToken."""
    return _read_id(b"message", text.strip().removeprefix("<").partition("@")[0])
