"""How many words a reader sees of an author's Markdown."""

from __future__ import annotations

import re

from markdown_it.token import Token

from newsletter import fields, markdown

_TAG = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)
_BREAKS = frozenset({"softbreak", "hardbreak"})
_WRITTEN = frozenset({"text", "code_inline"})
_BLOCKS = frozenset({"fence", "code_block"})


def count(source: str) -> int:
    """The words of `source` (Markdown) as they are read: without marks, addresses and merge fields."""
    return sum(map(_words, _texts(source)))


def _texts(source: str) -> list[str]:
    """The visible text of each block."""
    texts = []
    for token in markdown.parse(source).tokens:
        if token.type == "inline":
            texts.append("".join(map(_text, token.children or [])))
        elif token.type in _BLOCKS:
            texts.append(token.content)
        elif token.type == "html_block":
            texts.append(_TAG.sub(" ", token.content))
    return [fields.without_markers(text) for text in texts]


def _text(token: Token) -> str:
    if token.type in _BREAKS:
        return " "
    return token.content if token.type in _WRITTEN else ""


def _words(text: str) -> int:
    words = text.split()
    return sum(any(map(str.isalnum, word)) and "://" not in word for word in words)
