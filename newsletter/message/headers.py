"""Header values: text and addresses as RFC 5322 and RFC 2047 want them, and never more than one header.

Every function is told the header's `name` for the room it takes, and returns what follows it: ASCII (but for an address
that is none), folded into lines of at most 76 characters wherever the text can be. Text is cleaned by
`content.clean_line` first, so no value can begin a header of its own.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from email.utils import format_datetime
from functools import lru_cache

from newsletter.content import clean_line

MOST_OCTETS = 998  # RFC 5322 section 2.1.1: a line, whatever it holds
MAX_LINE = 76  # RFC 2047 section 2: a line that holds an encoded word
MAX_WORD = 75  # RFC 2047 section 2: an encoded word
_FOLD = "\r\n "
_BEGIN, _END = "=?utf-8?{}?", "?="
_ROOM = MAX_WORD - len("=?utf-8?q??=")
# What a phrase allows unencoded (RFC 2047 section 5, rule 3); good in every place.
_UNENCODED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")
_Q = [chr(byte) if byte in _UNENCODED else "_" if byte == 0x20 else f"={byte:02X}" for byte in range(256)]
# No blank, bracket, comma, quote or control character: what could end a path (RFC 5321) or a mailbox in a header.
# Quoted local parts are left out; no address that `subscribers.addresses` lets in has one.
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\\\"\x00-\x1f\x7f-\x9f@]+@[^\s<>()\[\],;:\\\"\x00-\x1f\x7f-\x9f@]+")
# Names that need no care: most readers', so the short way round all that the others need.
_USUAL_NAME = re.compile(r"[A-Za-z0-9.,'-]+(?: [A-Za-z0-9.,'-]+)*")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9._=+-]{1,120}@[A-Za-z0-9.:\[\]-]+")
_URL = re.compile(r"https?://[!#-;=?-Z_a-z~%]+")


def text(name: str, value: str) -> str:
    """Free text (RFC 5322 section 3.2.5)."""
    value = clean_line(value)
    words = value.split(" ")
    room = MAX_LINE - len(name) - 2
    if value.isascii() and "=?" not in value and max(map(len, words)) < room:
        return _fold(words, room)
    return _FOLD.join(_encoded_words(value, room))


def mailbox(name: str, display_name: str, address: str) -> str:
    """One mailbox: `"Ann Lee" <ann@example.org>`, or the address alone.

    Raises ValueError where `address` is none.
    """
    check_address(address)
    if _USUAL_NAME.fullmatch(display_name) and len(name) + len(display_name) + len(address) <= MAX_LINE - 7:
        return f'"{display_name}" <{address}>'
    display_name = clean_line(display_name)
    return _phrase(display_name, len(name) + 2, f"<{address}>") if display_name else address


def list_id(name: str, list_name: str, identifier: str) -> str:
    """A list's name and its identifier, which outlives every renaming (RFC 2919).

    Raises ValueError where `identifier` is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]+", identifier):
        raise ValueError(f"“{clean_line(identifier)}” is no list identifier: write it like weekly.news.example.org.")
    list_name = clean_line(list_name)
    return _phrase(list_name, len(name) + 2, f"<{identifier}>") if list_name else f"<{identifier}>"


def links(name: str, url: str, address: str = "") -> str:
    """A `<URL>`, and behind it, since the first is preferred, where to write to instead (RFC 2369).

    In one line: folding it has broken signatures. Raises ValueError where `url` is no http(s) URL of plain ASCII, or
    they do not fit into a line.
    """
    if not _URL.fullmatch(url):
        raise ValueError(f"The {name} header needs a web address, not “{clean_line(url)[:60]}”.")
    value = f"<{url}>, <mailto:{address}?subject=unsubscribe>" if address else f"<{url}>"
    if len(f"{name}: {value}") > MOST_OCTETS:
        raise ValueError(f"The {name} header is longer than the {MOST_OCTETS} octets that a line may have.")
    return value


def message_id(identifier: str) -> str:
    """One message identifier (RFC 5322 section 3.6.4).

    Raises ValueError where `identifier` is none; it comes without angle brackets.
    """
    if not _MESSAGE_ID.fullmatch(identifier):
        raise ValueError(f"“{clean_line(identifier)[:80]}” is not a Message-ID.")
    return f"<{identifier}>"


@lru_cache(maxsize=64)
def date(value: dt.datetime) -> str:
    """`value` (aware) as RFC 5322 writes it, in UTC. All readers of an attempt share one, hence the cache."""
    return format_datetime(value.astimezone(dt.UTC))


def is_address(address: str) -> bool:
    """Whether `address` can stand in an envelope and a header as it is, ASCII or (RFC 6531) not."""
    if not _ADDRESS.fullmatch(address) or len(address.encode("utf-8", "replace")) > 254:
        return False
    return address.isascii() or clean_line(address) == address


def check_address(address: str) -> None:
    """Raises ValueError with a sentence where `is_address` says no."""
    if not is_address(address):
        raise ValueError(f"“{clean_line(address)[:80]}” is not an address that mail can be sent to.")


def _phrase(display_name: str, used: int, rest: str) -> str:
    """A display name and what follows it; `used` columns of the first line are taken."""
    quoted = '"' + display_name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    # Some parsers decode encoded words even inside quotes, so a name that looks like one is encoded.
    if display_name.isascii() and "=?" not in display_name and used + len(quoted) <= MAX_LINE:
        last, words = used + len(quoted), [quoted]
    else:
        words = _encoded_words(display_name, MAX_LINE - used)
        last = len(words[-1]) + (used if len(words) == 1 else 1)
    return _FOLD.join(words) + (" " if last + 1 + len(rest) <= MAX_LINE else _FOLD) + rest


def _fold(words: list[str], room: int) -> str:
    """ASCII words in lines, the first of at most `room` columns, the others of MAX_LINE with their blank."""
    lines, line = [], words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) <= room:
            line += f" {word}"
        else:
            lines.append(line)
            line, room = word, MAX_LINE - 1
    return _FOLD.join([*lines, line])


def _encoded_words(value: str, room: int) -> list[str]:
    """`value` as encoded words of whole characters, the first at most `room` columns; readers join them again."""
    octets = value.encode()
    as_q = sum(len(_Q[byte]) for byte in octets) <= (len(octets) + 2) // 3 * 4
    words, word, size = [], "", 0
    room = min(room - (MAX_WORD - _ROOM), _ROOM)
    for character in _characters(value, 18 if as_q else 39):  # octets that fit the first line of any of our headers
        more = sum(len(_Q[byte]) for byte in character.encode()) if as_q else len(character.encode())
        if word and (size + more if as_q else (size + more + 2) // 3 * 4) > room:
            words.append(word)
            word, size, room = "", 0, _ROOM
        word += character
        size += more
    return [_encoded_word(each, as_q=as_q) for each in [*words, word]]


def _encoded_word(value: str, *, as_q: bool) -> str:
    octets = value.encode()
    body = "".join(_Q[byte] for byte in octets) if as_q else b64encode(octets).decode("ascii")
    return _BEGIN.format("q" if as_q else "b") + body + _END


def _characters(value: str, most: int) -> Iterator[str]:
    """`value` in pieces that a reader sees as one character, so that no client shows half of one.

    The rules of UAX 29 that matter in names and subjects: combining marks, joiners, modifiers, pairs of regional
    indicators. A piece is cut where it would pass `most` octets.
    """
    piece = ""
    for character in value:
        joined = piece and (
            unicodedata.category(character) in {"Mn", "Mc", "Me"}
            or character in "\u200c\u200d"
            or piece[-1] == "\u200d"
            or "\U0001f3fb" <= character <= "\U0001f3ff"
            or (_is_flag_half(character) and len(piece) == 1 and _is_flag_half(piece))
        )
        if joined and len((piece + character).encode()) <= most:
            piece += character
            continue
        if piece:
            yield piece
        piece = character
    if piece:
        yield piece


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
