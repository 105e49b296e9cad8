"""Merge fields of the providers: our slots put into a provider's own syntax, and an author's text kept out of it.

Where a provider fills in each reader's own values, one call carries a whole chunk: the templates once, with the
provider's fields in place of our slots, and the values by reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
# Beside a field of ours: what would lengthen it.
_BESIDE = {"{": re.compile(r"\{\Z|\A\}"), "%": re.compile(r"%\Z")}


def plain(text: str, name: str, *, as_html: bool) -> str:
    """`text` with the merge syntax of provider `name` broken up, invisibly: what people write is not a template."""
    return _broken(_OPENING[name], text, as_html=as_html) if name in _OPENING else text


class Merged:
    """A compiled variant as `name`'s templates; `subject`, `text` and `html` (None without) are ready for its API."""

    def __init__(self, name: str, compiled: Compiled) -> None:
        self.name, self.batch = name, BATCHES[name]
        self._keys: dict[tuple[Slot, bool], str] = {}
        self.subject = clean_line(self._template(compiled.subject, as_html=False))
        self.text = self._template(compiled.text, as_html=False)
        self.html = self._template(compiled.html, as_html=True) if compiled.html is not None else None

    def values(self, reader: Reader) -> dict[str, str] | None:
        """What stands in the fields for `reader`, by key; None where it might be escaped twice."""
        found = {}
        for (slot, as_html), key in self._keys.items():
            value = bodies.value(slot, reader.values, as_html=as_html)
            if as_html and not self.batch.verbatim and _ESCAPED.search(value):
                return None
            found[key] = plain(value, self.name, as_html=as_html)
        return found

    def _template(self, pieces: bodies.Template, *, as_html: bool) -> str:
        return "".join(self._fields(pieces, as_html=as_html))

    def _fields(self, pieces: bodies.Template, *, as_html: bool) -> Iterator[str]:
        for piece in pieces:
            if isinstance(piece, str):
                beside = _BESIDE[self.batch.placeholder[0]]
                yield _broken(beside, plain(piece, self.name, as_html=as_html), as_html=as_html)
            else:
                key = self._keys.setdefault((piece, as_html), f"{'h' if as_html else 't'}{len(self._keys)}")
                yield self.batch.placeholder.replace("KEY", key)


def _broken(pattern: re.Pattern[str], text: str, *, as_html: bool) -> str:
    def broken(found: re.Match[str]) -> str:
        if as_html:
            return f"&#{ord(found[0])};"
        return f"\N{WORD JOINER}{found[0]}" if found[0] == "}" else f"{found[0]}\N{WORD JOINER}"

    return pattern.sub(broken, text)
