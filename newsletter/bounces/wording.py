"""Makes what a server said plain, so that rules about wording need not know of codes, names, folding and quotes."""

from __future__ import annotations

import re
import unicodedata

from newsletter.bounces.redaction import ADDRESS

# What says anything is in the first lines; beyond this much, a report quotes the mail. Each character takes all rules
# some 40 µs, and anybody can write a long one.
_LENGTH = 4_000

_TOP_LEVELS = (
    "com|net|org|edu|gov|mil|int|info|biz|name|local|lan|internal|invalid|test|example|email|online|site|shop"
    "|app|dev|cloud|[a-z]{2}"
)
# Lists of bad senders are known by their host names.
_LISTS = (
    "spamhaus|spamcop|barracudacentral|sorbs|uceprotect|senderbase|abuseat|surbl|uribl|mailspike|invaluement|psbl"
    "|backscatterer|senderscore|spamrats"
)
_STATUS = r"#?\(?[245]\.\d{1,3}\.\d{1,3}\)?:?(?![\w.]*\d)"

_LETTERS = str.maketrans({"ł": "l", "ø": "o", "ı": "i", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe"})

_PARAGRAPH = re.compile(r"\n[ \t>]*\n\s*")

_SUBSTITUTES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), substitute)
    for pattern, substitute in (
        ("[‘’‛´`ʼ]", "'"),
        ("[“”„«»]", '"'),
        ("[‐-―]", "-"),
        (rf"\b(?:[\w-]{{1,63}}\.){{0,4}}({_LISTS})\.(?:org|net|com)\b", r"\1"),
        # A link to a list of bad senders is all that some servers say.
        (rf"\b(?:https?://|www\.)[^\s/]{{0,100}}\b({_LISTS})\b\S{{0,500}}", r"\1"),
        (r"\bhttps?://\S{1,500}|\bwww\.\S{1,300}", "url"),
        (r"(?<![\w/.])(?:/[\w.+-]{1,64}){2,12}/?", "path"),  # a program's name, such as /usr/bin/spamc, says nothing
        (ADDRESS.pattern, "@"),
        (r"\[?(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)\]?(?::\d{1,5})?", "ip"),
        (r"\[?(?:ipv6:)?(?:[\da-f]{1,4}:){3,7}[\da-f]{0,4}\]?", "ip"),
        (rf"\b(?:[a-z\d_][\w-]{{0,62}}\.){{1,8}}(?:{_TOP_LEVELS})\b\.?(?![\w.-]*\w)", "⌂"),
        # What is named after these words is a host, however it ends: gmail.con is mistyped.
        (r"\b((?:domain|host)(?: ?name)?:?) ?(?:[a-z\d_][\w-]{0,62}\.){1,8}[a-z][a-z\d-]{1,62}\b(?!\.\w)", r"\1 ⌂"),
        # "550-5.1.1 " before each line of an answer, wherever the lines were joined.
        (rf"(?<![\w.])[245]\d\d[ -]?{_STATUS}|(?<![\w.])[245]\d\d-|(?<![\w.]){_STATUS}", " "),
        (r"[<>\[\]{}()|*\"]", " "),
    )
)


def fold(text: str) -> str:
    """`text` in lower case and without accents: replies are ASCII by rule (RFC 5321 section 4.2), so many servers drop
    the accents of their language."""
    apart = unicodedata.normalize("NFKD", text.lower())
    return unicodedata.normalize("NFC", "".join(char for char in apart if not unicodedata.combining(char))).translate(
        _LETTERS
    )


def simplify(text: str) -> str:
    """`text` as the patterns of `phrases` expect it."""
    plain = fold(text[:_LENGTH])
    for pattern, substitute in _SUBSTITUTES:
        plain = pattern.sub(substitute, plain)
    # The end of a paragraph ends a thought: no phrase reaches over it.
    plain = _PARAGRAPH.sub(" ; ", plain)
    return " ".join(plain.split())
