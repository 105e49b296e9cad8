"""Code with colours, as inline styles: mail programs drop classes."""

from __future__ import annotations

from functools import lru_cache
from html import escape

from pygments.lexers import get_lexer_by_name
from pygments.token import Token, _TokenType
from pygments.util import ClassNotFound

# Colour on a light and on a dark background, each readable (4.5:1) on the default theme's two backgrounds.
PALETTE = {
    "comment": ("#5b6470", "#a0a9b4"),
    "keyword": ("#a3165c", "#ff8fc0"),
    "string": ("#0b6b3a", "#86d9a8"),
    "number": ("#1750b8", "#93b7ff"),
    "name": ("#6a3fb5", "#cbb0ff"),
    "special": ("#8a4b00", "#f0b673"),
}
_GROUPS: dict[_TokenType, str] = {
    Token.Comment: "comment",
    Token.Keyword: "keyword",
    Token.Operator.Word: "keyword",
    Token.Name.Tag: "keyword",
    Token.Literal.String: "string",
    Token.Generic.Inserted: "string",
    Token.Literal.Number: "number",
    Token.Keyword.Constant: "number",
    Token.Name.Constant: "number",
    Token.Name.Function: "name",
    Token.Name.Class: "name",
    Token.Name.Namespace: "name",
    Token.Name.Decorator: "special",
    Token.Name.Builtin: "special",
    Token.Name.Attribute: "special",
    Token.Generic.Deleted: "special",
    Token.Generic.Heading: "name",
}


@lru_cache(maxsize=256)
def highlight(code: str, language: str, *, on_dark: bool) -> str:
    """`code` as HTML: spans with inline colours where `language` is one Pygments knows, else only escaped."""
    code = code.expandtabs(4)
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        lexer = None
    if lexer is None:
        return escape(code, quote=False)
    runs: list[tuple[str, str]] = []
    for kind, text in lexer.get_tokens(code):
        group = _group(kind)
        if runs and (runs[-1][0] == group or not text.strip()):
            runs[-1] = (runs[-1][0], runs[-1][1] + text)
        else:
            runs.append((group, text))
    return "".join(_span(group, text, on_dark=on_dark) for group, text in runs)


def _group(kind: _TokenType) -> str:
    current: _TokenType | None = kind
    while current is not None:
        if current in _GROUPS:
            return _GROUPS[current]
        current = current.parent
    return ""


def _span(group: str, text: str, *, on_dark: bool) -> str:
    shown = escape(text, quote=False)
    return f'<span style="color:{PALETTE[group][on_dark]}">{shown}</span>' if group else shown
