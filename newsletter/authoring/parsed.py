"""What reading a file gives: plain values that know neither the file's format nor the database."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

TITLE_LENGTH = 200  # characters of a title or a heading; what is longer is a paragraph
NUMBER_LIMIT = 2**31  # issue numbers stay below what the database's integers hold


class ImportRefused(ValueError):
    """The file cannot become an issue; the message is a sentence that says why and what to do."""


@dataclass(frozen=True)
class KnownSection:
    """A standing section of the newsletter, as far as reading a file needs it."""

    name: str
    aliases: tuple[str, ...] = ()
    id: int | None = None


@dataclass(frozen=True)
class ParsedSection:
    """A block of the issue: `heading` is one plain line (empty for the lead), `body` is Markdown without that line."""

    heading: str
    body: str
    standing_section: int | None


@dataclass(frozen=True)
class ParsedIssue:
    """An issue as read from a file. `notes` are sentences for the author about what was guessed or left out."""

    title: str
    number: int | None
    date: dt.date | None
    subject: str
    preheader: str
    sections: tuple[ParsedSection, ...]
    notes: tuple[str, ...]


@dataclass
class Found:
    """What a body was taken apart into: pairs of heading and Markdown, and a title where the body itself held one."""

    title: str
    sections: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)
