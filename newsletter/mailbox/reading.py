"""A mail taken apart for reading. Any bytes at all give a `Letter`: what is broken is shown as well as it can be."""

from __future__ import annotations

import email
import email.header
import email.message
import re
from dataclasses import dataclass

from newsletter.content import clean_line, clean_text
from newsletter.security import origin

_URI = re.compile(r"<([^<>]*)>")


@dataclass(frozen=True)
class Attachment:
    """A part that is neither the text nor the HTML: `index` is its place among all parts, `content` is decoded."""

    index: int
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Letter:
    """A mail in readable form: every text is free of control characters, `html` is None where there is no such part."""

    subject: str
    sender: str
    to: str
    headers: tuple[tuple[str, str], ...]
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    unsubscribe_url: str  # where RFC 8058's one-click POST goes; empty where the mail offers none


def read(raw: bytes) -> Letter:
    """The letter in `raw`, the bytes of a mail as they came after DATA. Never raises, whatever they are."""
    try:
        mail = email.message_from_bytes(raw)
        parts = list(mail.walk())
    except RecursionError:  # parts nested some hundred deep: the headers are all there is to show
        mail = email.message_from_bytes(re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0])
        mail.set_type("text/plain")
        parts = []
    headers = tuple((clean_line(name), header_text(value)) for name, value in mail.raw_items())
    text: str | None = None
    html: str | None = None
    attachments = []
    for index, part in enumerate(parts):
        if part.is_multipart():
            continue
        kind = part.get_content_type()
        attached = part.get_content_disposition() == "attachment" or part.get_filename() is not None
        if kind == "text/plain" and text is None and not attached:
            text = clean_text(_decoded(part))
        elif kind == "text/html" and html is None and not attached:
            html = _decoded(part)
        else:
            name = clean_line(header_text(part.get_filename() or "")) or f"part {index}"
            attachments.append(Attachment(index, name, kind, _payload(part)))
    return Letter(
        subject=_first(headers, "subject"),
        sender=_first(headers, "from"),
        to=_first(headers, "to"),
        headers=headers,
        text=text,
        html=html,
        attachments=tuple(attachments),
        unsubscribe_url=_one_click_url(headers),
    )


def header_text(value: str) -> str:
    """A header's value as one line of text: unfolded, encoded words (RFC 2047) decoded, raw 8-bit bytes as UTF-8.

    `value` is as the parser left it: bytes above 127 stand in it as lone surrogates.
    """
    unfolded = re.sub(r"\r?\n(?=[ \t])", "", value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if "=?" not in unfolded:
        return clean_line(unfolded)
    try:
        pieces = [
            piece if isinstance(piece, str) else _text(piece, charset or "latin-1")
            for piece, charset in email.header.decode_header(unfolded)
        ]
    except (email.errors.HeaderParseError, ValueError):  # such as base64 that is none: better shown as it stands
        return clean_line(unfolded)
    return clean_line("".join(pieces))


def _one_click_url(headers: tuple[tuple[str, str], ...]) -> str:
    """The first http(s) address of List-Unsubscribe, where List-Unsubscribe-Post allows one click (RFC 8058, 3.1)."""
    if _first(headers, "list-unsubscribe-post").replace(" ", "").lower() != "list-unsubscribe=one-click":
        return ""
    # A folded header may break inside the angle brackets; white space there means nothing (RFC 2369, section 2).
    found = ("".join(uri.split()) for uri in _URI.findall(_first(headers, "list-unsubscribe")))
    return next((uri for uri in found if origin(uri)), "")


def _first(headers: tuple[tuple[str, str], ...], name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


def _payload(part: email.message.Message) -> bytes:
    """The part's bytes with the transfer encoding undone, or as they stand where that cannot be done."""
    try:
        content = part.get_payload(decode=True)
    except (ValueError, LookupError):
        content = None
    if isinstance(content, bytes):
        return content
    return str(part.get_payload()).encode("utf-8", "surrogateescape")


def _decoded(part: email.message.Message) -> str:
    return _text(_payload(part), part.get_content_charset() or "utf-8")


def _text(content: bytes, charset: str) -> str:
    """`content` as text: in the charset it names, else as UTF-8, with replacement characters where all fails."""
    try:
        return content.decode(charset)
    except (ValueError, LookupError):
        return content.decode("utf-8", "replace")
