"""Bodies: text with slots as quoted-printable or base64 (RFC 2045).

No encoded line begins with a dot or with "From ", so what SMTP would stuff (RFC 5321 section 4.5.2) or a mailbox file
would quote is never there: the bytes are the same on the wire, in the file and under the signature.
"""

from __future__ import annotations

import html
import re
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from newsletter.content import clean_line, clean_text
from newsletter.fields import Slot

Template = tuple[str | Slot, ...]

MAX_LINE = 76
# Between literal text and a slot: a soft break, so that either can be encoded without looking at the other.
SOFT_BREAK = b"=\r\n"
_ESCAPED = re.compile(rb"[^\t\n -<>-~]")
_TRAILING_BLANK = re.compile(rb"[ \t](?=\n|\Z)")
# What is the same encoded and escaped for HTML, in one line: nearly every value.
_PLAIN = re.compile(r"(?!\.|From )[A-Za-z0-9:/_.,~+?-]{0,75}")
_USUAL_VALUE = 40  # octets, for choosing an encoding before there is a reader


def template(pieces: list[str | Slot]) -> Template:
    """`pieces` of a finished text (`fields.SlotTable.split`) cleaned, ending with a line end."""
    cleaned = [clean_text(piece) if isinstance(piece, str) else piece for piece in pieces]
    last = cleaned[-1] if cleaned else ""
    return tuple(cleaned) if isinstance(last, str) and last.endswith("\n") else (*cleaned, "\n")


def fill(pieces: Template, values: Mapping[str, str], *, as_html: bool) -> str:
    """The text that one reader gets, with LF line ends."""
    return "".join(p if isinstance(p, str) else value(p, values, as_html=as_html) for p in pieces)


def value(slot: Slot, values: Mapping[str, str], *, as_html: bool) -> str:
    """What stands in `slot` for one reader: one clean line, escaped where it goes into HTML."""
    given = values.get(slot.name) or slot.fallback
    if _PLAIN.fullmatch(given):
        return given
    line = clean_line(given)
    return html.escape(line) if as_html else line


@dataclass(frozen=True, slots=True)
class QuotedPrintable:
    """A body whose literal text is encoded once.

    `pieces` and slots take turns: every second piece is empty until a reader's value stands there; `order` says by
    index which of the distinct `slots` it is.
    """

    pieces: tuple[bytes, ...]
    slots: tuple[Slot, ...]
    order: tuple[int, ...]
    as_html: bool
    name: ClassVar = "quoted-printable"

    def encoded(self, values: Mapping[str, str], known: dict[str, bytes]) -> list[bytes]:
        """The body for one reader, to be joined.

        `known` keeps from one body to the next what is the same in each: values that need no encoding.
        """
        filled: list[bytes] = []
        for slot in self.slots:
            given = values.get(slot.name) or slot.fallback
            octets = known.get(given)
            if octets is None:
                if _PLAIN.fullmatch(given):
                    octets = known[given] = given.encode()
                else:
                    octets = quoted_printable(value(slot, values, as_html=self.as_html))
            filled.append(octets)
        pieces: list[bytes] = [*self.pieces]
        pieces[1::2] = [filled[index] for index in self.order]
        return pieces

    @property
    def size(self) -> int:
        """Octets without the values."""
        return sum(map(len, self.pieces))


@dataclass(frozen=True, slots=True)
class Base64:
    """A body that is encoded anew for each reader, since no value keeps its place in base64."""

    template: Template
    as_html: bool
    name: ClassVar = "base64"

    def encoded(self, values: Mapping[str, str], known: dict[str, bytes]) -> list[bytes]:
        """The body for one reader, to be joined; nothing in it is the same as in another."""
        return [base64(fill(self.template, values, as_html=self.as_html))]

    @property
    def size(self) -> int:
        """Octets without the values."""
        return len(base64("".join(piece for piece in self.template if isinstance(piece, str))))


Body = QuotedPrintable | Base64


def compiled(pieces: Template, *, as_html: bool) -> Body:
    """`pieces` in the encoding that makes less of them; values are guessed to be of the usual length."""
    texts: list[str] = [""]
    slots: list[Slot] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts[-1] += piece
        else:
            slots.append(piece)
            texts.append("")
    literals = [quoted_printable(text) for text in texts]
    # In base64 three octets take four characters, and each line of them two more for its end.
    raw = sum(len(text.encode()) + text.count("\n") for text in texts) + _USUAL_VALUE * len(slots)
    as_quoted = sum(map(len, literals)) + (_USUAL_VALUE + 2 * len(SOFT_BREAK)) * len(slots)
    if raw * 4 / 3 * (MAX_LINE + 2) / MAX_LINE < as_quoted:
        return Base64(pieces, as_html)
    distinct = list(dict.fromkeys(slots))
    places = [b""] * (2 * len(literals) - 1)
    for index, literal in enumerate(literals):
        before = SOFT_BREAK if index else b""
        after = SOFT_BREAK if index < len(slots) and literal and not literal.endswith(b"\r\n") else b""
        places[2 * index] = before + literal + after
    return QuotedPrintable(tuple(places), tuple(distinct), tuple(map(distinct.index, slots)), as_html)


def quoted_printable(text: str) -> bytes:
    """`text` (LF line ends, no CR) encoded in CRLF lines of at most 75 octets, a soft break not counted."""
    escaped = _ESCAPED.sub(lambda found: b"=%02X" % ord(found[0]), text.encode())
    escaped = _TRAILING_BLANK.sub(lambda found: b"=%02X" % ord(found[0]), escaped)
    return b"\r\n".join(_wrapped(line) for line in escaped.split(b"\n"))


def base64(text: str) -> bytes:
    """`text` (LF line ends, no CR) with CRLF line ends, encoded in CRLF lines of 76."""
    encoded = b2a_base64(text.replace("\n", "\r\n").encode(), newline=False)
    lines = [encoded[start : start + MAX_LINE] for start in range(0, len(encoded), MAX_LINE)]
    return b"\r\n".join([*lines, b""])


def _wrapped(line: bytes) -> bytes:
    """One escaped line with soft breaks; no escape is cut in two, no piece begins as SMTP or a mailbox would change."""
    if len(line) < MAX_LINE and not line.startswith((b".", b"From ")):
        return line
    pieces: list[bytes] = []
    while True:
        if line.startswith(b"."):
            line = b"=2E" + line[1:]
        elif line.startswith(b"From "):
            line = b"=46rom " + line[5:]
        if len(line) < MAX_LINE:
            return SOFT_BREAK.join([*pieces, line])
        cut = MAX_LINE - 1
        if (escape := line.find(b"=", cut - 2, cut)) >= 0:
            cut = escape
        pieces.append(line[:cut])
        line = line[cut:]
