"""Merge fields of the providers: our slots put into a provider's own syntax, and an author's text kept out of it.

Where a provider fills in each reader's own values, one call carries a whole chunk: the templates once, with the
provider's fields in place of our slots, and the values by reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from newsletter.content import clean_line
from newsletter.fields import Slot
from newsletter.message import Compiled, Reader, bodies


@dataclass(frozen=True)
class Batch:
    """How one call of a provider carries many readers.

    `placeholder` is its field, with KEY for the name; `most` the readers of a call. `verbatim` says that a value comes
    into HTML as it was given; where no document says so, a reader whose values the provider might escape a second time
    gets a call alone. `whole_headers` says that a reader's headers stand in place of those for all, not beside them.
    """

    placeholder: str
    most: int
    verbatim: bool = False
    whole_headers: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


# Providers whose API takes, in one call and without a template kept there, text and List-Unsubscribe for each reader,
# as far as django-anymail 15 can tell them (a test compares). The limits are the providers' own.
BATCHES = {
    "brevo": Batch("{{params.KEY}}", 500, whole_headers=True),
    "mailgun": Batch("%recipient.KEY%", 1000, verbatim=True),
    "mailjet": Batch("{{var:KEY}}", 50, whole_headers=True, extra={"Globals": {"TemplateLanguage": True}}),
    "sparkpost": Batch("{{{KEY}}}", 1000, verbatim=True),
    "unisender_go": Batch("{{KEY}}", 500),
}
# What begins a merge field even in a single call without merge data, by provider.
SYNTAX = {
    "brevo": ("{{", "{%"),
    "mailersend": ("{{", "{%", "{$"),
    "mailgun": ("%recipient", "%unsubscribe_", "%tag_unsubscribe_", "%mailing_list_"),
    "mailjet": ("{{", "{%"),
    "mandrill": ("*|", "{{"),
    "sparkpost": ("{{",),
    "unisender_go": ("{{", "{%"),
}
# The first character of each opening, wherever the rest of one follows: of three braces the first two.
_OPENING = {
    name: re.compile("|".join(f"{re.escape(opening[0])}(?={re.escape(opening[1:])})" for opening in openings))
    for name, openings in SYNTAX.items()
}
# What one provider or another escapes in HTML.
_ESCAPED = re.compile("[&<>\"'`=]")
_MAY_MERGE = re.compile("[{%*]")
# Beside a field of ours: what would lengthen it.
_BESIDE = {"{": re.compile(r"\{\Z|\A\}"), "%": re.compile(r"%\Z")}


def plain(text: str, name: str, *, as_html: bool) -> str:
    """`text` with the merge syntax of provider `name` broken up, invisibly: what people write is not a template."""
    return _broken(_OPENING[name], text, as_html=as_html) if name in _OPENING else text


class Merged:
    """A compiled variant as `name`'s templates for `readers`: `subject`, `text` and `html` (None without) are ready for
    its API, `values` are the readers' by delivery, by key; None for those whose values might be escaped twice."""

    def __init__(self, name: str, compiled: Compiled, readers: Sequence[Reader]) -> None:
        batch = BATCHES[name]
        written = list(dict.fromkeys(_slots(compiled.subject) + _slots(compiled.text)))
        in_html = list(dict.fromkeys(_slots(compiled.html or ())))
        self.name, self.batch = name, batch
        self.values: dict[int, dict[str, str] | None] = {}
        as_text = {slot: _column(slot, readers, name, as_html=False) for slot in written}
        as_html = {slot: _column(slot, readers, name, as_html=True) for slot in in_html}
        columns: dict[str, list[str]] = {}
        keys: dict[bool, dict[Slot, str]] = {True: {}, False: {}}
        for html, found in ((False, as_text), (True, as_html)):
            for slot, column in found.items():
                # Most values are the same in text and HTML: said once.
                same = html and as_text.get(slot) == column
                keys[html][slot] = keys[False][slot] if same else f"{'h' if html else 't'}{len(columns)}"
                columns[keys[html][slot]] = column
        unclear = set() if batch.verbatim else set(keys[True].values())
        names = list(columns)
        for reader, row in zip(readers, zip(*columns.values(), strict=True), strict=True):
            values = dict(zip(names, row, strict=True))
            clear = not any(_ESCAPED.search(values[key]) for key in unclear)
            self.values[reader.delivery_id] = values if clear else None
        self.subject = clean_line(self._template(compiled.subject, keys[False], as_html=False))
        self.text = self._template(compiled.text, keys[False], as_html=False)
        self.html = None if compiled.html is None else self._template(compiled.html, keys[True], as_html=True)

    def _template(self, pieces: bodies.Template, keys: Mapping[Slot, str], *, as_html: bool) -> str:
        literals = iter(_literals(pieces, self.name, as_html=as_html))
        return "".join(
            next(literals) if isinstance(piece, str) else self.batch.placeholder.replace("KEY", keys[piece])
            for piece in pieces
        )


def _slots(pieces: bodies.Template) -> list[Slot]:
    return [piece for piece in pieces if not isinstance(piece, str)]


def _column(slot: Slot, readers: Sequence[Reader], name: str, *, as_html: bool) -> list[str]:
    values = [bodies.value(slot, reader.values, as_html=as_html) for reader in readers]
    return [plain(value, name, as_html=as_html) if _MAY_MERGE.search(value) else value for value in values]


@lru_cache(maxsize=64)
def _literals(pieces: bodies.Template, name: str, *, as_html: bool) -> tuple[str, ...]:
    """The text between the slots, the same for every chunk: out of reach of the provider's syntax."""
    beside = _BESIDE[BATCHES[name].placeholder[0]]
    return tuple(
        _broken(beside, plain(piece, name, as_html=as_html), as_html=as_html)
        for piece in pieces
        if isinstance(piece, str)
    )


def _broken(pattern: re.Pattern[str], text: str, *, as_html: bool) -> str:
    def broken(found: re.Match[str]) -> str:
        if as_html:
            return f"&#{ord(found[0])};"
        return f"\N{WORD JOINER}{found[0]}" if found[0] == "}" else f"{found[0]}\N{WORD JOINER}"

    return pattern.sub(broken, text)
