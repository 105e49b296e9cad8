"""Comparing headings: with or without emoji, whatever the case, the spaces and the punctuation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import emoji

from newsletter.authoring.parsed import ImportRefused, KnownSection

_APOSTROPHES = re.compile("['’‘ʼ`´]")
_COLON = re.compile("[:：]")
# Letters, digits and the marks that belong to letters; variation selectors and keycaps belong to emoji.
_KEPT_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Mn", "Mc"})
_EMOJI_LENGTH = 40  # characters looked at for the one emoji at the start of a line; the longest sequence has ten


class Headed(Protocol):
    """Anything with a heading: a parsed section or a stored one."""

    @property
    def heading(self) -> str: ...


def bare_name(heading: str) -> str:
    """The key by which headings are compared: no emoji or punctuation, case folded, words joined by one space."""
    text = unicodedata.normalize("NFKC", emoji.replace_emoji(heading, " "))
    text = _APOSTROPHES.sub("", text)
    kept = (char if unicodedata.category(char) in _KEPT_CATEGORIES and char != "\ufe0f" else " " for char in text)
    return " ".join("".join(kept).casefold().split())


def names_of(heading: str) -> tuple[str, ...]:
    """The keys `heading` answers to: its bare name, and what stands before its first colon; without empty ones."""
    return tuple(dict.fromkeys(name for name in (bare_name(heading), bare_name(_COLON.split(heading)[0])) if name))


def by_name(known: Iterable[KnownSection]) -> dict[str, KnownSection]:
    """The standing sections by the bare form of each name and alias; the first to claim a name keeps it."""
    names: dict[str, KnownSection] = {}
    sections = list(known)
    for section in sections:
        names.setdefault(bare_name(section.name), section)
    for section in sections:
        for alias in section.aliases:
            names.setdefault(bare_name(alias), section)
    names.pop("", None)
    return names


def recognised(heading: str, names: Mapping[str, KnownSection]) -> KnownSection | None:
    """The standing section that `heading` names, in full or before its first colon."""
    return next((names[name] for name in names_of(heading) if name in names), None)


def leading_emoji(line: str) -> str:
    """The emoji that `line` begins with, or an empty string."""
    start = line[:_EMOJI_LENGTH]
    if not start or start[0].isascii():
        return ""  # digits and # only begin keycaps, and those number things
    found = emoji.emoji_list(start)
    return str(found[0]["emoji"]) if found and found[0]["match_start"] == 0 else ""


def match_headings(wanted: Sequence[str], sections: Sequence[Headed]) -> set[int]:
    """Indexes of the `sections` that the `wanted` headings name.

    "Story of the Week" finds "🏆 Story of the Week: The Deal"; where one name fits several sections, all of them are
    meant, since they are about to be locked. Raises ImportRefused for a heading that is empty or not there.
    """
    found: set[int] = set()
    for name in wanted:
        key = bare_name(name)
        if not key:
            raise ImportRefused(
                f"A section's heading must have letters in it, and “{name}” has none. " + _listed(sections)
            )
        matches = {index for index, section in enumerate(sections) if key in names_of(section.heading)}
        if not matches:
            raise ImportRefused(f"There is no section “{name}”. {_listed(sections)}")
        found |= matches
    return found


def _listed(sections: Sequence[Headed]) -> str:
    headings = [f"“{section.heading}”" for section in sections if section.heading]
    if not headings:
        return "The issue has no headings at all."
    return f"The issue's headings are: {', '.join(headings)}."
