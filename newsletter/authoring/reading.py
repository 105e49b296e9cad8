"""A file's bytes taken apart into an issue: headers, title, number, date, sections."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import PurePath

from newsletter import content
from newsletter.authoring import decoding, headers, headings, markdown, paragraphs, particulars, plain, titles
from newsletter.authoring.parsed import TITLE_LENGTH, ImportRefused, KnownSection, ParsedIssue, ParsedSection

_MARKDOWN_NAMES = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mdx"})
_DATED_NAME = re.compile(r"(?P<date>\d{4}-\d{2}-\d{2})[-_ ]*(?P<rest>.*)", re.DOTALL)


def read(data: bytes, *, filename: str = "", known: Sequence[KnownSection] = ()) -> ParsedIssue:
    """The issue that the bytes of a file hold; `known` are the newsletter's standing sections.

    Markdown with YAML, TOML or Pelican headers or none, or plain text pasted from a web editor. The file's name helps
    where the text leaves something open: format, title, date. Raises ImportRefused where no issue comes of it.
    """
    text, notes = decoding.decode(data, filename)
    above = headers.split(text)
    notes += above.notes
    names = headings.by_name(known)
    title = content.clean_line(above.first("title"))
    named = bool(above.lines) or PurePath(filename).suffix.lower() in _MARKDOWN_NAMES
    subject = content.clean_line(above.first("subject"))
    body = above.body if title else titles.set_apart(above.body)
    if markdown.is_markdown(body, names, named=named):
        found = markdown.read(body, names, title=title)
    else:
        found = plain.read(body, names, title=title or subject)
    notes += found.notes
    sections = tuple(_section(heading, body, names, notes) for heading, body in found.sections)
    if not any(section.heading or section.body for section in sections):
        raise ImportRefused("The file has a title or notes but no text: write the issue below it and import it again.")
    title = _title(title or content.clean_line(found.title) or subject, filename, sections, notes)
    return ParsedIssue(
        title=title,
        number=_number(above, title, notes),
        date=_date(above, filename, notes),
        subject=_clipped(subject) or title,
        preheader=_clipped(content.clean_line(above.first("preheader", "subtitle", "description", "summary"))),
        sections=sections,
        notes=tuple(dict.fromkeys(notes)),
    )


def _section(heading: str, body: str, names: dict[str, KnownSection], notes: list[str]) -> ParsedSection:
    heading = content.clean_line(heading)
    if len(heading) > TITLE_LENGTH:
        notes.append(f"The heading “{_clipped(heading)}” was shortened; the whole of it begins its section.")
        body = f"{paragraphs.escape(heading)}\n\n{body}".rstrip()
        heading = _clipped(heading)
    standing = headings.recognised(heading, names)
    return ParsedSection(heading, content.clean_text(body), standing.id if standing else None)


def _title(title: str, filename: str, sections: Sequence[ParsedSection], notes: list[str]) -> str:
    if title:
        if len(title) > TITLE_LENGTH:
            notes.append(f"The title was shortened to {TITLE_LENGTH} characters: “{_clipped(title)}”.")
        return _clipped(title)
    stem = PurePath(filename).stem
    dated = _DATED_NAME.fullmatch(stem)
    words = content.clean_line(re.sub(r"[-_]+", " ", dated["rest"] if dated else stem))
    first_heading = next((section.heading for section in sections if section.heading), "Untitled issue")
    title = _clipped(words[:1].upper() + words[1:] if words else first_heading)
    notes.append(f"The file says no title; “{title}” is a guess.")
    return title


def _number(above: headers.Headers, title: str, notes: list[str]) -> int | None:
    stated = content.clean_line(above.first("number", "issue"))
    if stated and (number := particulars.number(stated)) is not None:
        return number
    number = particulars.numbered(title)
    guessed = number is None and (number := particulars.last_word_number(title)) is not None
    if stated:
        instead = "set it in the issue" if number is None else f"{number} was taken from the title"
        notes.append(f"The number “{_clipped(stated)}” is no whole number of at most nine digits: {instead}.")
    elif guessed:
        notes.append(f"The number {number} was taken from the end of the title.")
    return number


def _date(above: headers.Headers, filename: str, notes: list[str]) -> dt.date | None:
    stated = above.first("date", "publish_date")
    if stated:
        date = particulars.date(stated)
        if date is None:
            quoted = _clipped(content.clean_line(stated))
            notes.append(f"The date “{quoted}” could not be read: write it like 2026-08-19.")
        return date
    dated = _DATED_NAME.fullmatch(PurePath(filename).stem)
    if dated and (date := particulars.date(dated["date"])):
        notes.append(f"The date {date.isoformat()} was taken from the file's name.")
        return date
    return None


def _clipped(line: str) -> str:
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"
