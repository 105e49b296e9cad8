"""Markdown seen by lines, for cutting it up: the flavour of `newsletter.markdown`, parsed for its line maps.

Footnotes stay where they are written, and links keep the label of the definition they use.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin

from newsletter.authoring.parsed import ImportRefused
from newsletter.markdown import parser, too_deep

MAX_PARAGRAPH = 50_000  # characters; the parser is quadratic in the brackets of one paragraph

# A merge field may hold spaces and quotes, with which a link's target would be none.
_FIELD = re.compile(r"\{\{[^{}\n]*\}\}")
_SHIELD = re.compile("\ue000(\\d+)\ue001")


def _refuse_what_would_be_lost(state: StateCore) -> None:
    line = too_deep(state.tokens)
    if line:
        raise ImportRefused(
            f"Line {line} of the text is nested too deep in lists and quotes: take it out of some of them."
        )
    for token in state.tokens:
        if token.type == "inline" and len(token.content) > MAX_PARAGRAPH:
            line = token.map[0] + 1 if token.map else 1
            raise ImportRefused(
                f"Line {line} of the text begins a paragraph of more than {MAX_PARAGRAPH:,} characters: "
                "put blank lines between its parts."
            )


def _parser() -> MarkdownIt:
    made = parser(store_labels=True)
    made.core.ruler.after("block", "refuse_what_would_be_lost", _refuse_what_would_be_lost)
    return made.use(footnote_plugin, move_to_end=False)


_WHOLE = _parser()
_BLOCKS = _parser()
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])


@dataclass(frozen=True)
class Document:
    """A parsed text: its `lines` as written, the `tokens` (line maps count from 0), and the parser's tables."""

    lines: list[str]
    tokens: list[Token]
    env: dict[str, Any]
    fields: list[str]

    def plain(self, inline: Token) -> str:
        """What a reader sees of an inline token, as text: no mark-up, an image as its alternative text."""
        text = "".join(_plain(inline.children or []))
        return _SHIELD.sub(lambda match: self.fields[int(match[1])], text)


def blocks(text: str) -> list[Token]:
    """The block tokens of `text`; their inline content is not parsed."""
    return _BLOCKS.parse(text)


def parse(text: str) -> Document:
    """`text` parsed in full. Raises ImportRefused for a paragraph too long to be one, or too deep."""
    fields: list[str] = []

    def shield(match: re.Match[str]) -> str:
        fields.append(match[0])
        return f"\ue000{len(fields) - 1}\ue001"

    env: dict[str, Any] = {}
    tokens = _WHOLE.parse(_FIELD.sub(shield, text), env)
    return Document(text.split("\n"), tokens, env, fields)


def every(tokens: Sequence[Token]) -> Iterator[Token]:
    """The inline `tokens` and all those inside them, in order."""
    for token in tokens:
        yield token
        yield from every(token.children or [])


def line_starts(text: str) -> list[int]:
    """The offset at which each line of `text` begins."""
    return [0, *accumulate(len(line) + 1 for line in text.split("\n")[:-1])]


def line_at(starts: list[int], offset: int) -> int:
    """The line, from 0, in which `offset` stands."""
    return bisect_right(starts, offset) - 1


def _plain(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"softbreak", "hardbreak", "html_inline"}:
            yield " "
        elif token.type in {"text", "code_inline", "text_special"}:
            yield token.content
        elif token.children:
            yield from _plain(token.children)
