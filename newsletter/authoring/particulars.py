"""Number and date of an issue, as people write them."""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_to_datetime

from newsletter.authoring.parsed import NUMBER_LIMIT

# In order of how sure they are: "Issue 12" and "No. 4" before "# 10 -", that before "Vol. 3".
_NUMBERED = (
    re.compile(
        r"\b(?:issue|edition|episode|ausgabe|numéro|número|numero|nummer|no\.|nr\.)\s*(?:no\.?|nr\.?|№)?\s*#?\s*"
        r"(\d{1,9})(?![.,]?\d)\b",
        re.IGNORECASE,
    ),
    re.compile(r"(?:n°|nº|№)\s*(\d{1,9})\b", re.IGNORECASE),
    re.compile(r"\bno\s+(\d{1,9})\s*(?:$|[:|–—-])", re.IGNORECASE),
    # Not "The #1 mistake": the number is followed by a separator, by a year in brackets, or by nothing.
    re.compile(r"(?<![\w&])[#＃]\s*(\d{1,9})(?=\s*(?:$|[:|·•,;)\]–—]|-\s|\.(?:\s|$)|\([^()]*\b\d{4}\)))"),
    re.compile(r"\b(?:vol(?:ume)?\.?)\s*#?\s*(\d{1,9})\b", re.IGNORECASE),
)
_LAST_WORD = re.compile(r"(?<![\w.,:/+#$€£-])(\d{1,5})\s*$")
_DIGITS = re.compile(r"\s*(?:#|no\.?|nr\.?|№)?\s*(\d{1,9})\s*", re.IGNORECASE)
_YEARS = range(1900, 2101)
_FORMS = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d.%m.%Y",
    "%d %B %Y",
    "%d %b %Y",
    "%d. %B %Y",
    "%B %d %Y",
    "%b %d %Y",
    "%Y-%m-%d %H:%M:%S %z",
    "%Y-%m-%d %H:%M %z",
)
_WEEKDAY = re.compile(r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?\s+", re.IGNORECASE)
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b", re.IGNORECASE)
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")


def number(text: str) -> int | None:
    """The issue number that a header's value gives: "665", "#665", "No. 12"; None where it is none."""
    match = _DIGITS.fullmatch(text)
    return _within_limit(match[1]) if match else None


def numbered(title: str) -> int | None:
    """The number that `title` states with a sign for it: "# 3", "#10:", "Issue 12", "No. 4", "№ 4", "Vol. 3"."""
    for pattern in _NUMBERED:
        match = pattern.search(title)
        if match:
            return _within_limit(match[1])
    return None


def last_word_number(title: str) -> int | None:
    """The bare number that `title` ends in ("This Week in Rust 665"), unless it is a year: a guess."""
    match = _LAST_WORD.search(title)
    if match is None or match.start() == 0 or int(match[1]) in _YEARS:
        return None
    return _within_limit(match[1])


def date(text: str) -> dt.date | None:
    """The day that `text` names, in ISO 8601, RFC 5322 or a common written form; None where it is not certain."""
    text = " ".join(text.split())
    try:
        return dt.datetime.fromisoformat(text).date()
    except ValueError:
        pass
    slashed = _SLASHED.fullmatch(text)
    if slashed:
        return _slashed(int(slashed[1]), int(slashed[2]), int(slashed[3]))
    written = _ORDINAL.sub("", _WEEKDAY.sub("", text, count=1).replace(",", " "))
    written = " ".join(written.replace("Sept ", "Sep ").split())
    for form in _FORMS:
        try:
            return dt.datetime.strptime(written, form).date()
        except ValueError:
            continue
    try:
        return parsedate_to_datetime(text).date()
    except (ValueError, IndexError, OverflowError):
        return None


def _slashed(first: int, second: int, year: int) -> dt.date | None:
    """Day and month stand in either order; only where one of them cannot be a month is it certain which is which."""
    month, day = (second, first) if first > 12 else (first, second)
    if first <= 12 and second <= 12 and first != second:
        return None
    try:
        return dt.date(year, month, day)
    except ValueError:
        return None


def _within_limit(digits: str) -> int | None:
    value = int(digits)
    return value if value < NUMBER_LIMIT else None
