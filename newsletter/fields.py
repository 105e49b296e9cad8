"""Merge fields and slots: the places in an otherwise finished text that differ from reader to reader.

An author writes a merge field: `{{ name|default:"there" }}`. Only `MERGE_FIELDS` exist; anything else between double
braces is an error that names the field. Rendering replaces each field by a *slot marker* made of private-use
characters (which `content.clean_text` keeps out of author text), and adds slots of its own for the links that carry a
reader's tokens. `message` cuts the finished text at the markers once, and joins the pieces per reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# What an author may write, with the reason it exists.
MERGE_FIELDS = {
    "name": "the reader's name",
    "first_name": "the first word of the reader's name",
    "unsubscribe_url": "the page where this reader leaves",
    "preferences_url": "the page where this reader chooses",
    "web_url": "this issue in the browser, as this reader sees it",
    "upgrade_url": "where a reader gets a higher tier",
}
# Fields whose value may be missing: they need a fallback.
OPTIONAL_FIELDS = frozenset({"name", "first_name"})
# Slots only the renderer makes: the reader's weak link token and the delivery's tracking token.
TOKEN_SLOTS = frozenset({"delivery_token"})

FIELD = re.compile(r"\{\{(?P<body>[^{}\n]*)\}\}")
_BODY = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:\|\s*default\s*:\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|“(?P<curly>[^”]*)”)\s*)?"""
)
_OPEN, _CLOSE = "\ue000", "\ue001"
# The percent-encoded form appears where Markdown put a marker into a link target.
_MARKER = re.compile(r"(?:\ue000|%EE%80%80)(\d+)(?:\ue001|%EE%80%81)")


class FieldError(ValueError):
    """A merge field that does not exist or lacks its fallback; the message says which and what to write instead."""


@dataclass(frozen=True)
class Slot:
    """One place to fill: `name` is a merge field or a token slot, `fallback` what stands there without a value."""

    name: str
    fallback: str = ""


@dataclass
class SlotTable:
    """The slots of one text, in order of first use; markers refer to them by index."""

    slots: list[Slot] = field(default_factory=list)

    def marker(self, slot: Slot) -> str:
        """The text that stands for `slot` until `split` cuts it out."""
        if slot not in self.slots:
            self.slots.append(slot)
        return marker(self.slots.index(slot))

    def shield(self, text: str) -> str:
        """`text` with each merge field replaced by its marker. Raises FieldError as `parse` does."""
        return FIELD.sub(lambda match: self.marker(parse(match)), text)

    def split(self, text: str) -> list[str | Slot]:
        """`text` cut at its markers: literal pieces and slots in turn, no empty piece."""
        pieces: list[str | Slot] = []
        for index, piece in enumerate(_MARKER.split(text)):
            if index % 2:
                pieces.append(self.slots[int(piece)])
            elif piece:
                pieces.append(piece)
        return pieces

    def fill(self, text: str, values: Mapping[str, str], *, quote: Callable[[str], str] = str) -> str:
        """`text` with every marker replaced by its value, or by the fallback where there is none, each as `quote`
        writes it: `html.escape` for HTML."""
        pieces = self.split(text)
        return "".join(p if isinstance(p, str) else quote(values.get(p.name) or p.fallback) for p in pieces)


def parse(match: re.Match[str]) -> Slot:
    """The slot for one `{{ … }}` in author text. Raises FieldError where it is not in the fixed set."""
    body = _BODY.fullmatch(match["body"].strip())
    known = ", ".join(MERGE_FIELDS)
    if body is None or body["name"] not in MERGE_FIELDS:
        raise FieldError(f"{match[0]} is not a merge field; there are: {known}.")
    given = [text for text in (body["double"], body["single"], body["curly"]) if text is not None]
    if body["name"] in OPTIONAL_FIELDS and not (given and given[0].strip()):
        example = f'{{{{ {body["name"]}|default:"there" }}}}'
        raise FieldError(f"{match[0]} needs a fallback for readers without it: {example}.")
    return Slot(body["name"], given[0] if given else "")


def for_nobody(text: str) -> str:
    """`text` with each merge field as a reader without that value sees it; one that is none stays as written."""

    def shown(match: re.Match[str]) -> str:
        try:
            return parse(match).fallback
        except FieldError:
            return match[0]

    return FIELD.sub(shown, text)


def errors(text: str) -> list[str]:
    """What is wrong with the merge fields in `text`, a sentence each; empty when all is well."""
    found = []
    for match in FIELD.finditer(text):
        try:
            parse(match)
        except FieldError as error:
            found.append(str(error))
    return found


def marker(index: int) -> str:
    """The marker for the entry of that index in whatever table the text goes with."""
    return f"{_OPEN}{index}{_CLOSE}"


def replace_markers(text: str, value: Callable[[int], str]) -> str:
    """`text` with each marker, percent-encoded or not, replaced by what `value` gives for its index."""
    return _MARKER.sub(lambda match: value(int(match[1])), text)


def indexes(text: str) -> list[int]:
    """The indexes of the markers in `text`, in order."""
    return [int(index) for index in _MARKER.findall(text)]


def without_markers(text: str) -> str:
    """`text` with its slot markers taken out: for measuring and for previews of plain text."""
    return _MARKER.sub("", text)
