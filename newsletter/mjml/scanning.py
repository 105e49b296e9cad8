"""MJML source cut into tags, each with its place: what the linter and the compiler's preparation both walk over."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What `blank_django` leaves where Django's own syntax stood: it says "some text", and stays out of names and values.
UNKNOWN = "\ufffc"

_DJANGO = re.compile(
    r"\{%\s*comment\b[^\n]*?%\}.*?\{%\s*endcomment\s*%\}|\{%[^\n]*?%\}|\{\{[^\n]*?\}\}|\{#[^\n]*?#\}", re.DOTALL
)
_TAG = re.compile(
    r"""<!--.*?-->|<(?P<close>/?)(?P<name>[A-Za-z][\w:-]*)(?P<attributes>(?:[^<>"']|"[^"]*"|'[^']*')*?)(?P<empty>/?)>""",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(
    r"""(?P<name>[^\s"'<>/=\ufffc]+)(?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'<>=]+)))?""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Attribute:
    """One attribute; `value` is None where it has none, `quoted` whether the value stood in quotes."""

    name: str
    value: str | None
    quoted: bool
    position: int


@dataclass(frozen=True)
class Tag:
    """One tag at `start:end` of its source; a comment has the name `!--`."""

    name: str
    closing: bool
    empty: bool
    attributes: tuple[Attribute, ...]
    start: int
    end: int


def blank_django(source: str) -> str:
    """`source` with every Django tag, variable and comment blanked out, of the same length and with the same lines."""
    return _DJANGO.sub(lambda match: re.sub(r"[^\n]", UNKNOWN, match[0]), source)


def tags(source: str) -> list[Tag]:
    """The tags of `source` in order. Text that only looks like a tag (`1 < 2`) gives none."""
    return [_tag(match) for match in _TAG.finditer(source)]


def _tag(match: re.Match[str]) -> Tag:
    if match["name"] is None:
        return Tag("!--", False, True, (), match.start(), match.end())
    offset = match.start("attributes")
    found = []
    for attribute in _ATTRIBUTE.finditer(match["attributes"]):
        value = next((v for v in (attribute["double"], attribute["single"], attribute["bare"]) if v is not None), None)
        quoted = attribute["bare"] is None
        found.append(Attribute(attribute["name"], value, quoted, offset + attribute.start()))
    return Tag(
        match["name"].lower(), bool(match["close"]), bool(match["empty"]), tuple(found), match.start(), match.end()
    )


def line_of(source: str, position: int) -> int:
    """The line, counted from 1, that `position` of `source` is in."""
    return source.count("\n", 0, position) + 1
