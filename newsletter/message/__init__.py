"""A variant compiled once into MIME pieces; per reader only the pieces are joined.

`compile` does what is the same for all readers: it encodes the bodies, writes the headers and leaves a place wherever
readers differ. `assemble` fills the places. The result is a whole message (RFC 5322) in CRLF lines of 7-bit text, ready
for SMTP's DATA as it is: no line begins with a dot. The same variant, sender and reader give the same bytes, always.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from newsletter.content import clean_line
from newsletter.fields import SlotTable
from newsletter.message import bodies, headers

if TYPE_CHECKING:
    from newsletter.rendering import Rendered

__all__ = [
    "Compiled",
    "Mail",
    "Reader",
    "Sender",
    "assemble",
    "compile",
    "html",
    "is_address",
    "list_headers",
    "reader_headers",
    "subject",
    "text",
]

is_address = headers.is_address


@dataclass(frozen=True)
class Sender:
    """What is the same for a whole dispatch.

    `address` and `reply_to` (or "") are ASCII, an international domain in its A-label form. `list_id` is like
    `weekly.news.example.org` and outlives a renaming; `list_name` is what people read. `feedback_id` is as Gmail wants
    it (`issue:newsletter:stream:sender`), without anything of the reader. `domain` is this site's host name, for the
    greeting to the relay. `language` is a BCP 47 tag. `bulk` is False for a single message that answers what one person
    asked for: it belongs to no list and is marked as generated (RFC 3834).
    """

    name: str
    address: str
    reply_to: str
    list_id: str
    list_name: str
    feedback_id: str
    domain: str
    language: str
    bulk: bool = True


@dataclass(frozen=True)
class Reader:
    """One delivery: what differs in one reader's message.

    `message_id` stands without its angle brackets, `date` is aware. `values` are the slots' values by name, unescaped;
    a slot without one shows its fallback. `values["unsubscribe_url"]` is the link that mail programs post to;
    `unsubscribe_address` does the same for those that only write mail. `return_address` is where the mail comes back to
    if it cannot be delivered; without one, the sender's address.
    """

    delivery_id: int
    address: str
    name: str
    message_id: str
    date: dt.datetime
    values: Mapping[str, str]
    return_address: str = ""
    unsubscribe_address: str = ""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A variant ready to be joined with any reader's values. Immutable and picklable; made by `compile`.

    `head` are the headers all readers share, `subject_line` the encoded Subject where it has no slot, else empty; each
    of `parts` is what stands before a body and the body; `tail` ends the message; `bulk` is the sender's. The templates
    `subject`, `text` and `html` (None in a mail of text only) are for transports that want them apart.
    """

    head: bytes
    subject_line: bytes
    parts: tuple[tuple[bytes, bodies.Body], ...]
    tail: bytes
    subject: bodies.Template
    text: bodies.Template
    html: bodies.Template | None
    bulk: bool

    @property
    def size(self) -> int:
        """Octets of the message but for the reader's own headers and values."""
        parts = sum(len(before) + body.size for before, body in self.parts)
        return len(self.head) + len(self.subject_line) + parts + len(self.tail)


# What is handed over at once: each compiled variant with the readers who get it.
Mail = Sequence[tuple[Compiled, Sequence[Reader]]]


def compile(rendered: Rendered, sender: Sender) -> Compiled:
    """`rendered` with `sender`'s headers, ready for `assemble`.

    Raises ValueError, with a sentence, where the sender's addresses or list id cannot stand in a header.
    """
    table = SlotTable(list(rendered.slots))
    text_template = bodies.template(table.split(rendered.text))
    html_template = bodies.template(table.split(rendered.html)) if rendered.html else None
    subject_template = tuple(table.split(rendered.subject))
    with_slots = any(not isinstance(piece, str) for piece in subject_template)
    subject_line = "" if with_slots else f"Subject: {headers.text('Subject', rendered.subject)}\r\n"

    text_body = bodies.compiled(text_template, as_html=False)
    parts: tuple[tuple[bytes, bodies.Body], ...]
    if html_template is None:
        parts, tail = ((_part_headers("plain", text_body), text_body),), b""
    else:
        html_body = bodies.compiled(html_template, as_html=True)
        # "=_" occurs neither in quoted-printable nor in base64 (RFC 2045 section 6.7), so no body holds the boundary.
        digest = hashlib.sha256(repr((rendered.subject, rendered.text, rendered.html, rendered.slots, sender)).encode())
        boundary = f"=_{digest.hexdigest()[:32]}"
        opening = f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n\r\n--{boundary}\r\n'.encode()
        between = f"\r\n--{boundary}\r\n".encode()
        parts = (
            (opening + _part_headers("plain", text_body), text_body),
            (between + _part_headers("html", html_body), html_body),
        )
        tail = f"\r\n--{boundary}--\r\n".encode()
    head = _head(sender).encode("ascii")
    return Compiled(
        head=head,
        subject_line=subject_line.encode("ascii"),
        parts=parts,
        tail=tail,
        subject=subject_template,
        text=text_template,
        html=html_template,
        bulk=sender.bulk,
    )


def assemble(compiled: Compiled, reader: Reader) -> bytes:
    """The whole message for one reader, in CRLF lines.

    It is 7-bit but for an address with a non-ASCII local part, which stands raw in the To header (RFC 6532): such a
    message may go only where SMTPUTF8 is offered. Raises ValueError where the address or unsubscribe link is none.
    """
    own = "".join([f"{name}: {value}\r\n" for name, value in reader_headers(reader, bulk=compiled.bulk).items()])
    pieces = [compiled.head, compiled.subject_line or _subject_line(compiled, reader), own.encode()]
    known: dict[str, bytes] = {}
    for before, body in compiled.parts:
        pieces.append(before)
        pieces += body.encoded(reader.values, known)
    pieces.append(compiled.tail)
    return b"".join(pieces)


def subject(compiled: Compiled, reader: Reader) -> str:
    """The subject one reader gets, one line."""
    return clean_line(bodies.fill(compiled.subject, reader.values, as_html=False))


def text(compiled: Compiled, reader: Reader) -> str:
    """The text part one reader gets, with LF line ends."""
    return bodies.fill(compiled.text, reader.values, as_html=False)


def html(compiled: Compiled, reader: Reader) -> str:
    """The HTML part one reader gets, with LF line ends; "" in a mail of text only."""
    return bodies.fill(compiled.html, reader.values, as_html=True) if compiled.html is not None else ""


def list_headers(sender: Sender) -> dict[str, str]:
    """What tells mail programs and providers what kind of mail this is, by header name, the values folded.

    For a newsletter RFC 8058 (one-click), RFC 2919 (List-Id), Gmail's Feedback-ID, and what keeps automatic answers
    away: Precedence, and X-Auto-Response-Suppress for Exchange. For a single message Auto-Submitted (RFC 3834).
    """
    if not sender.bulk:
        return {
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
            "Content-Language": headers.text("Content-Language", sender.language),
        }
    return {
        "List-Id": headers.list_id("List-Id", sender.list_name, sender.list_id),
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "Feedback-ID": headers.text("Feedback-ID", sender.feedback_id),
        "Precedence": "bulk",
        "X-Auto-Response-Suppress": "OOF, AutoReply",
        "Content-Language": headers.text("Content-Language", sender.language),
    }


def reader_headers(reader: Reader, *, bulk: bool) -> dict[str, str]:
    """The headers that differ from reader to reader, by name, folded. Raises ValueError as `assemble` does."""
    own = {
        "To": headers.mailbox("To", reader.name, reader.address),
        "Date": headers.date(reader.date),
        "Message-ID": headers.message_id(reader.message_id),
    }
    if bulk:
        unsubscribe_url = reader.values.get("unsubscribe_url", "")
        own["List-Unsubscribe"] = headers.links("List-Unsubscribe", unsubscribe_url, reader.unsubscribe_address)
    return own


def _head(sender: Sender) -> str:
    for address in filter(None, (sender.address, sender.reply_to)):
        if not address.isascii():
            raise ValueError(f"The sender's address {address} must be ASCII: write its domain in the xn-- form.")
    values = {"From": headers.mailbox("From", sender.name, sender.address)}
    if sender.reply_to:
        values["Reply-To"] = headers.mailbox("Reply-To", "", sender.reply_to)
    values |= {**list_headers(sender), "MIME-Version": "1.0"}
    return "".join(f"{name}: {value}\r\n" for name, value in values.items())


def _subject_line(compiled: Compiled, reader: Reader) -> bytes:
    return f"Subject: {headers.text('Subject', subject(compiled, reader))}\r\n".encode("ascii")


def _part_headers(subtype: str, body: bodies.Body) -> bytes:
    kind = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {body.name}\r\n\r\n"
    return kind.encode("ascii")
