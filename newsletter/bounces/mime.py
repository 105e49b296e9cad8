"""A message of any bytes as parts with plain text. Nothing in it can raise: mail is whatever a stranger sends."""

from __future__ import annotations

import contextlib
import email
import email.header
import email.policy
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message as _Message
from typing import TypeAlias, cast

_Mime: TypeAlias = "_Message[str, str]"

# The report is at the top, the returned mail behind it; nobody needs the end of a returned attachment.
_LENGTH = 1_000_000
_PART_LENGTH = 200_000
_DEPTH = 12
# Anybody can write to the address for bounces, and the library's time grows with the square of a header's length, and
# with lines times boundaries: a mail of a megabyte could hold a worker for an hour.
_HEADER_LENGTH = 8_000
_BOUNDARIES = 40  # a report and the mail that it returns have two to ten

_FROM_LINE = re.compile(rb"\A(?:\s*\r?\n)?>?From [^\r\n:]*\r?\n")
_BOUNDARY = re.compile(rb"boundary\s*(?:\*[\d*\s]*)?=", re.IGNORECASE)  # in pieces, too: RFC 2231
_HEADER = re.compile(r"^([A-Za-z][\w-]{0,60}):[ \t]?(.*)$")
_SURROGATE = re.compile("[\ud800-\udfff]")  # some charsets decode to halves of characters, which no file can hold
# An address in angle brackets is no tag.
_TAG = re.compile(r"(<[a-zA-Z/!][^<>@]{0,2000}>)")
_TAG_NAME = re.compile(r"</?([a-zA-Z\d]{1,20})")
_BREAKS = frozenset({"br", "p", "div", "tr", "td", "li", "h1", "h2", "h3", "h4", "h5", "h6"})
_HIDDEN = frozenset({"style", "script", "head", "title"})


class _Bounded(email.policy.Compat32):
    """What a header has beyond _HEADER_LENGTH is cut off as it is read."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_HEADER_LENGTH]


_BOUNDED = _Bounded()


@dataclass(frozen=True)
class Part:
    """One leaf of a message. `type` is its media type in lower case; `inside` says that a returned mail has it."""

    type: str
    text: str
    inside: bool = False


@dataclass(frozen=True)
class Mail:
    """A message: its headers by lower-cased name, decoded, and its leaves in order."""

    headers: dict[str, list[str]] = field(default_factory=dict)
    type: str = "text/plain"
    report_type: str = ""
    parts: tuple[Part, ...] = ()

    def header(self, name: str) -> str:
        """The first header called `name` (lower case) on one line, or ""."""
        return self.headers.get(name, [""])[0]


def parse(raw: bytes) -> Mail:
    """The message in `raw`: RFC 5322, an mbox's first message, with any line ends. Never raises."""
    raw = _FROM_LINE.sub(b"", raw[:_LENGTH].lstrip(b"\xef\xbb\xbf"))
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")  # as old Macintosh mailboxes have it
    if len(_BOUNDARY.findall(raw)) > _BOUNDARIES:
        return _as_text(raw)
    try:
        return _mail(email.message_from_bytes(raw, policy=_BOUNDED))
    except Exception:  # the library raises what it likes on broken or very deep MIME; then it is text
        return _as_text(raw)


def decode(raw: bytes, charset: str = "") -> str:
    """`raw` as text: as declared, else ISO-2022-JP by its escapes, else UTF-8, else Windows-1252."""
    if not charset or charset.lower() in {"us-ascii", "ascii", "unknown-8bit", "unknown"}:
        charset = "iso-2022-jp" if b"\x1b$" in raw or b"\x1b(" in raw else "utf-8"
    for name in (charset, "utf-8"):
        with contextlib.suppress(LookupError, ValueError, UnicodeError):
            return _SURROGATE.sub("\ufffd", raw.decode(name))
    return raw.decode("cp1252", "replace")


def plain_from_html(text: str) -> str:
    """The words of `text`, a line for each block. Addresses in angle brackets are kept. Takes linear time."""
    words: list[str] = []
    hidden = ""
    for piece in _TAG.split(text):
        match = _TAG_NAME.match(piece)
        name = match[1].lower() if match else ""
        if hidden:
            hidden = "" if piece.lower().startswith(f"</{hidden}") else hidden
        elif name in _HIDDEN and not piece.startswith("</"):
            hidden = name
        elif piece.startswith("<") and _TAG.fullmatch(piece):
            words.append("\n" if name in _BREAKS else " ")
        else:
            words.append(piece)
    lines = (" ".join(line.split()) for line in html.unescape("".join(words)).splitlines())
    return "\n".join(lines)


def headers_in(text: str) -> dict[str, list[str]]:
    """The headers at the start of `text`, which may be broken: names in lower case, values unfolded and decoded."""
    return _headers_of(text)


def _as_text(raw: bytes) -> Mail:
    return Mail(headers=_headers_of(decode(raw[:20_000])), parts=(Part("text/plain", decode(raw[:100_000])),))


def _mail(message: _Mime) -> Mail:
    headers: dict[str, list[str]] = {}
    for name, value in message.raw_items():
        headers.setdefault(name.lower(), []).append(_decoded(value))
    parts = tuple(_leaves(message, inside=False, depth=0))
    report_type = str(message.get_param("report-type", "") or "").lower()
    return Mail(headers, message.get_content_type(), report_type, parts)


def _leaves(message: _Mime, *, inside: bool, depth: int) -> Iterator[Part]:
    kind = message.get_content_type()
    payload = message.get_payload()
    if depth > _DEPTH:
        return
    if kind in {"message/delivery-status", "message/feedback-report"} or kind.startswith("message/global-delivery"):
        yield Part(kind, _fields(message), inside)
    elif kind in {"message/rfc822", "message/global"} and isinstance(payload, list) and payload:
        inner = cast(_Mime, payload[0])
        lines = "".join(f"{name}: {_decoded(value)}\n" for name, value in inner.raw_items())
        yield Part("message/rfc822", lines, inside)
        yield from _leaves(inner, inside=True, depth=depth + 1)
    elif isinstance(payload, list):
        for child in payload:
            yield from _leaves(cast(_Mime, child), inside=inside, depth=depth + 1)
    else:
        # A multipart whose boundary is lost is still words.
        yield Part("text/plain" if message.get_content_maintype() == "multipart" else kind, _text(message), inside)


def _fields(message: _Mime) -> str:
    """The text of a part made of header blocks, which the library has taken apart."""
    payload = message.get_payload()
    if not isinstance(payload, list):
        return _text(message)
    blocks = []
    for block in cast(list[_Mime], payload):
        lines = "".join(f"{name}: {value}\n" for name, value in block.raw_items())
        body = block.get_payload()
        blocks.append(lines + ("\n" + body if isinstance(body, str) else ""))
    text = "\n".join(blocks)[:_PART_LENGTH]
    text = decode(text.encode("utf-8", "surrogateescape"))  # fields as they came: eight bits or ISO-2022-JP
    if str(message.get("Content-Transfer-Encoding", "")).strip().lower() in {"base64", "quoted-printable"}:
        plain = _Message()
        plain["Content-Transfer-Encoding"] = str(message["Content-Transfer-Encoding"])
        plain.set_payload(text.strip())
        raw = plain.get_payload(decode=True)
        decoded = decode(raw) if isinstance(raw, bytes) else ""
        return decoded if ":" in decoded else text
    return text


def _text(message: _Mime) -> str:
    raw = message.get_payload(decode=True)
    if not isinstance(raw, bytes):
        return ""
    charset = message.get_content_charset() or ""
    text = decode(raw, charset)[:_PART_LENGTH].replace("\r\n", "\n").replace("\r", "\n")
    return plain_from_html(text) if message.get_content_type() == "text/html" else text


def _decoded(value: object) -> str:
    """A header's value on one line, RFC 2047 undone as far as it goes."""
    text = decode(str(value).encode("utf-8", "surrogateescape"))
    with contextlib.suppress(Exception):  # whatever a stranger wrote there, the raw text will do
        pieces = []
        for piece, charset in email.header.decode_header(text):
            pieces.append(decode(piece, charset or "") if isinstance(piece, bytes) else piece)
        text = "".join(pieces)
    return " ".join(text.split())


def _headers_of(text: str) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    name = ""
    for line in text.lstrip("\n").splitlines()[:400]:
        match = _HEADER.match(line)
        if match:
            name = match[1].lower()
            headers.setdefault(name, []).append(match[2].strip())
        elif name and line[:1] in " \t" and line.strip():
            headers[name][-1] += " " + line.strip()
        elif not line.strip():
            break
    return {name: [_decoded(value) for value in values] for name, values in headers.items()}
