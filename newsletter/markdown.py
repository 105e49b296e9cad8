"""Markdown to tokens and blocks: what an author wrote, read once, for the HTML part and the text part alike.

Merge fields are taken out before Markdown sees them and stand as markers in the tokens (in code they stay what they
are: text). Both renderers walk the same tokens, so the two parts hold the same words and links.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.attrs import attrs_plugin
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.tasklists import tasklists_plugin

from newsletter import fields
from newsletter.content import clean_line, clean_text

BUTTON_CLASS = "button"  # an author writes `[Label](https://…){.button}` on a line of its own
UNTRACKED_CLASS = "untracked"  # and `[Label](https://…){.untracked}` for a link that stays as it is
LINK_CLASSES = (BUTTON_CLASS, UNTRACKED_CLASS)
CODE = frozenset({"code_inline", "code_block", "fence"})  # where merge fields are text like any other
# The elements of HTML, current and past. Anything else between angle brackets is text, such as Vec<String>.
_HTML = frozenset(
    (
        *("a", "abbr", "acronym", "address", "applet", "area", "article", "aside", "audio", "b", "base", "bdi", "bdo"),
        *("big", "blink", "blockquote", "body", "br", "button", "canvas", "caption", "center", "cite", "code", "col"),
        *("colgroup", "data", "datalist", "dd", "del", "details", "dfn", "dialog", "dir", "div", "dl", "dt", "em"),
        *("embed", "fieldset", "figcaption", "figure", "font", "footer", "form", "frame", "frameset", "h1", "h2", "h3"),
        *("h4", "h5", "h6", "head", "header", "hgroup", "hr", "html", "i", "iframe", "img", "input", "ins", "kbd"),
        *("label", "legend", "li", "link", "main", "map", "mark", "marquee", "math", "menu", "meta", "meter", "nav"),
        *("nobr", "noframes", "noscript", "object", "ol", "optgroup", "option", "output", "p", "param", "picture"),
        *("plaintext", "pre", "progress", "q", "rp", "rt", "ruby", "s", "samp", "script", "search", "section"),
        *("select", "slot", "small", "source", "span", "strike", "strong", "style", "sub", "summary", "sup", "svg"),
        *("table", "tbody", "td", "template", "textarea", "tfoot", "th", "thead", "time", "title", "tr", "track"),
        *("tt", "u", "ul", "var", "video", "wbr", "xmp"),
    )
)
LINK_FIELDS = frozenset(name for name in fields.MERGE_FIELDS if name.endswith("_url"))  # may be a link's target

MAX_NESTING = 100  # blocks inside one another; the parser would leave out what is deeper, without a word


_BRACES = re.compile(r"\{[^{}\n]{0,40}\}")
_CONTAINERS = frozenset({"blockquote_open", "list_item_open", "footnote_reference_open"})


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        """Every address makes a link: where none may lead, rendering leaves the label and warns of the address."""
        return True


def parser(**options: object) -> MarkdownIt:
    """A parser for the one flavour of Markdown there is here, without plugins; `options` are markdown-it's."""
    made = _Parser("commonmark", {"html": True, "maxNesting": MAX_NESTING, **options})
    return made.enable(["table", "strikethrough"])


_PARSER = (
    parser()
    .use(footnote_plugin)
    .use(tasklists_plugin)
    .use(attrs_plugin, after=("image", "link_close"), allowed=["class", "width"])
)
OPTIONS = _PARSER.options


class BlockKind(StrEnum):
    """Each kind of block is one template partial."""

    TEXT = "text"
    IMAGE = "image"
    BUTTON = "button"
    CODE = "code"
    TABLE = "table"
    QUOTE = "quote"
    DIVIDER = "divider"


_KINDS = {
    "fence": BlockKind.CODE,
    "code_block": BlockKind.CODE,
    "table_open": BlockKind.TABLE,
    "blockquote_open": BlockKind.QUOTE,
    "hr": BlockKind.DIVIDER,
}


@dataclass(frozen=True)
class Block:
    """A stretch of a document that is one partial; for an image or a button `tokens` are the inline ones."""

    kind: BlockKind
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Document:
    """Markdown, read. `written` are the merge fields as written; markers in the tokens are indexes into it.

    `errors` says, a sentence each, which merge fields cannot be used; with any, the document cannot be rendered.
    """

    tokens: tuple[Token, ...]
    written: tuple[str, ...]
    errors: tuple[str, ...]

    def as_written(self, text: str) -> str:
        """`text` of a token with its merge fields as the author wrote them: for code."""
        return fields.replace_markers(text, self.written.__getitem__)

    def slot(self, index: int) -> fields.Slot:
        """The slot of the merge field with that marker. Raises fields.FieldError for one listed in `errors`."""
        return _slot(self.written[index])

    def with_slots(self, text: str, slots: fields.SlotTable) -> str:
        """`text` of a token, or HTML made of tokens, with its markers exchanged for those of `slots`."""
        return fields.replace_markers(text, lambda index: slots.marker(self.slot(index)))

    def field_names(self) -> set[str]:
        """The names of the merge fields in it, code aside. Raises fields.FieldError for one listed in `errors`."""
        used = (index for token in flat(self.tokens) if token.type not in CODE for index in _indexes(token))
        return {self.slot(index).name for index in used}

    def plain(self) -> str:
        """The words alone, on one line, with merge fields as written: to name a heading by."""
        words = (token.content for token in flat(self.tokens) if token.type == "text" or token.type in CODE)
        return " ".join(self.as_written("".join(words)).split())

    def doubtful_marks(self) -> list[str]:
        """A sentence for each mark in braces behind a link that means nothing here, such as a misspelt one."""
        inlines = [token.children or [] for token in self.tokens if token.type == "inline"]
        return list(dict.fromkeys(self.as_written(said) for inline in inlines for said in _doubtful_marks(inline)))

    def without_links(self) -> Document:
        """The document with its links undone, only their labels left."""
        return replace(self, tokens=tuple(_without_links(self.tokens)))

    def blocks(self) -> list[Block]:
        """The document cut into blocks. A run of prose (paragraphs, lists, headings) is one block."""
        return list(_blocks(self.tokens))


@lru_cache(maxsize=512)
def parse(source: str) -> Document:
    """Reads Markdown; the same source gives the same document, which is shared: its tokens are not to be changed."""
    return _document(clean_text(source), inline=False)


@lru_cache(maxsize=512)
def parse_line(source: str) -> Document:
    """Reads one line, such as a heading: only what may stand inside a paragraph is Markdown there."""
    return _document(clean_line(source), inline=True)


def _slot(written: str) -> fields.Slot:
    match = fields.FIELD.fullmatch(written)
    if match is None:
        raise fields.FieldError(f"{written} is not a merge field.")
    return fields.parse(match)


def _document(source: str, *, inline: bool) -> Document:
    written: list[str] = []

    def shield(match: re.Match[str]) -> str:
        written.append(match[0])
        return fields.marker(len(written) - 1)

    shielded = fields.FIELD.sub(shield, source)
    tokens = tuple(_PARSER.parseInline(shielded) if inline else _PARSER.parse(shielded))
    for token in flat(tokens):
        if token.type == "html_inline" and not _is_html(token.content):
            token.type = "text"
    document = Document(tokens, tuple(written), ())
    return replace(document, errors=tuple(dict.fromkeys(_errors(document))))


def too_deep(tokens: Iterable[Token]) -> int | None:
    """The line, from 1, of the first block that is nested so deep that what it holds was not read; None if all was."""
    for token in tokens:
        if token.type in _CONTAINERS and token.level + 1 >= MAX_NESTING:
            return token.map[0] + 1 if token.map else 1
    return None


def _errors(document: Document) -> Iterator[str]:
    line = too_deep(document.tokens)
    if line:
        yield f"Line {line} is nested too deep in lists and quotes: take it out of some of them."
    for token in flat(document.tokens):
        if token.type in CODE:
            continue
        for index in _indexes(token):
            yield from fields.errors(document.written[index])
        for name in ("href", "src"):
            target = str(token.attrs.get(name, ""))
            wrong = [error for index in fields.indexes(target) for error in fields.errors(document.written[index])]
            if not wrong and fields.indexes(target) and (name == "src" or not _is_address_field(document, target)):
                known = ", ".join(sorted(LINK_FIELDS))
                written = document.as_written(target)
                yield f"{written} cannot be an address; a link leads to an address as it is, or to one of: {known}."


def _indexes(token: Token) -> Iterator[int]:
    """The indexes of the merge fields in the words of a token, and in its addresses and titles."""
    for text in (token.content, *map(str, token.attrs.values())):
        yield from fields.indexes(text)


def _is_html(tag: str) -> bool:
    name = re.match(r"</?([A-Za-z][A-Za-z0-9-]*)", tag)
    return name is None or name[1].lower() in _HTML


def _is_address_field(document: Document, target: str) -> bool:
    found = fields.indexes(target)
    return len(found) == 1 and not fields.without_markers(target) and document.slot(found[0]).name in LINK_FIELDS


def has_class(token: Token, name: str) -> bool:
    """Whether the author gave the link or image that `token` opens this class."""
    return name in str(token.attrs.get("class", "")).split()


def flat(tokens: Iterable[Token]) -> Iterator[Token]:
    """Every token that holds content, those inside paragraphs one by one."""
    for token in tokens:
        if token.type == "inline" or token.type == "image":
            yield from flat(token.children or [])
            if token.type == "inline":
                continue
        yield token


def _doubtful_marks(inline: Sequence[Token]) -> Iterator[str]:
    ending = f"which means nothing: there are {' and '.join(f'{{.{name}}}' for name in LINK_CLASSES)}."
    for position, token in enumerate(inline):
        if token.type != "link_open":
            continue
        end = _end(inline, position)
        written = [f".{name}" for name in str(token.attrs.get("class", "")).split() if name not in LINK_CLASSES]
        written += [str(name) for name in token.meta.get("insecure_attrs", {})]
        if "width" in token.attrs:
            written.append("width")
        behind = inline[end].content if end < len(inline) and inline[end].type == "text" else ""
        if shown := _BRACES.match(behind):
            written.append(f"{shown[0]} (which readers see)")
        for mark in written:
            yield f"Behind the link to {token.attrs.get('href', '')} stands {mark}, {ending}"


def _without_links(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        is_raw_link = token.type == "html_inline" and re.match(r"</?a[\s>]", token.content, re.IGNORECASE)
        if token.type not in ("link_open", "link_close") and not is_raw_link:
            yield token.copy(children=list(_without_links(token.children))) if token.children else token


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    prose: list[Token] = []
    position = 0
    while position < len(tokens):
        end = _end(tokens, position)
        group = tokens[position:end]
        found = _block(group)
        if found is None:
            prose += group
        else:
            if prose:
                yield Block(BlockKind.TEXT, tuple(prose))
                prose = []
            yield from found
        position = end
    if prose:
        yield Block(BlockKind.TEXT, tuple(prose))


def _end(tokens: Sequence[Token], start: int) -> int:
    """Where the element ends that begins at `start`."""
    depth = 0
    for position in range(start, len(tokens)):
        depth += tokens[position].nesting
        if depth == 0:
            return position + 1
    return len(tokens)


def _block(group: Sequence[Token]) -> list[Block] | None:
    """The blocks of one top-level element; None for prose."""
    kind = _KINDS.get(group[0].type)
    if kind is not None:
        return [Block(kind, tuple(group))]
    if group[0].type == "paragraph_open":
        return _paragraph(group[1].children or [])
    return None


def _paragraph(inline: Sequence[Token]) -> list[Block] | None:
    """A paragraph that is nothing but images, each perhaps a link, or nothing but one link marked as a button."""
    parts = [token for token in inline if token.type != "softbreak" and (token.type != "text" or token.content.strip())]
    blocks = []
    position = 0
    while position < len(parts):
        if parts[position].type == "image":
            blocks.append(Block(BlockKind.IMAGE, (parts[position],)))
            position += 1
        elif [token.type for token in parts[position : position + 3]] == ["link_open", "image", "link_close"]:
            blocks.append(Block(BlockKind.IMAGE, tuple(parts[position : position + 2])))
            position += 3
        elif position == 0 and parts[0].type == "link_open" and has_class(parts[0], BUTTON_CLASS):
            return [Block(BlockKind.BUTTON, tuple(parts))] if _end(parts, 0) == len(parts) else None
        else:
            return None
    return blocks or None
