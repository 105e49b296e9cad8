"""Markdown tokens to plain text, for the text part: the same words and links as the HTML, laid out to be read.

A link that alone ends its paragraph or list item has its address on the next line. Others get a number, and the
addresses follow below the block. Lines are wrapped at `WIDTH` columns; addresses and code are never broken.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

from markdown_it.tree import SyntaxTreeNode

from newsletter.markdown import UNTRACKED_CLASS, Document
from newsletter.rendering.html import checkbox, sanitised
from newsletter.rendering.page import Page

WIDTH = 76
_LINK = re.compile("\ue002(\\d+)\ue003")  # stands behind a link's label until its paragraph is whole
_TAG = re.compile("</?[A-Za-z]")  # not a comment, a declaration or the like
_UNSEEN = frozenset({"script", "style", "iframe", "noscript", "title"})
_BREAKS = frozenset({"br", "p", "div", "li", "tr", "summary", "dt", "dd", "figure", "figcaption", "blockquote"})


@dataclass
class Writer:
    """Writes the text of one page; `references` are numbered links whose addresses are still to be listed."""

    page: Page
    numbered: int = 0
    references: list[str] = field(default_factory=list)

    def write(self, document: Document) -> str:
        """A whole document, without white space around it."""
        parts = []
        for node in SyntaxTreeNode(document.tokens).children:
            parts.append("\n".join(self._node(node, document, WIDTH)).strip("\n"))
            if self.references:
                parts.append("\n".join(self.references))
                self.references = []
        return "\n\n".join(part for part in parts if part)

    def heading(self, document: Document, underline: str) -> str:
        """A document of one line as a heading; the address of a link in it stands below."""
        inline = SyntaxTreeNode(document.tokens).children[0] if document.tokens else None
        lines = self._paragraph(inline, document, WIDTH) if inline else []
        if not lines:
            return ""
        longest = max(_columns(line) for line in lines)
        references, self.references = self.references, []
        return "\n".join([*lines, underline * min(longest, WIDTH), *references])

    def _node(self, node: SyntaxTreeNode, document: Document, width: int) -> list[str]:
        match node.type:
            case "paragraph" | "heading":
                return self._paragraph(node.children[0], document, width)
            case "bullet_list" | "ordered_list" | "footnote_block":
                return self._list(node, document, width)
            case "blockquote":
                return [f"> {line}".rstrip() for line in self._nodes(node.children, document, width - 2)]
            case "fence" | "code_block":
                return [f"    {line}".rstrip() for line in document.as_written(node.content).rstrip().split("\n")]
            case "table":
                return self._table(node, document, width)
            case "hr":
                return ["* * *"]
            case "html_block":
                inline = _Inline(self.page, document)
                inline.feed(sanitised(node.content))
                inline.end()
                return self._laid_out(inline, width)
            case _:
                return self._nodes(node.children, document, width)

    def _nodes(self, nodes: Sequence[SyntaxTreeNode], document: Document, width: int) -> list[str]:
        """The lines of elements below each other, an empty line between."""
        lines: list[str] = []
        for node in nodes:
            found = self._node(node, document, width)
            if lines and found:
                lines.append("")
            lines += found
        return lines

    def _list(self, node: SyntaxTreeNode, document: Document, width: int) -> list[str]:
        lines: list[str] = []
        for index, item in enumerate(node.children):
            if node.type == "footnote_block":
                bullet = f"[^{index + 1}] "
            elif node.type == "ordered_list":
                bullet = f"{int(node.attrs.get('start', 1)) + index}. "
            else:
                bullet = "- "
            inner: list[str] = []
            for child in item.children:
                found = self._node(child, document, width - len(bullet))
                is_loose = inner and child.type not in ("bullet_list", "ordered_list") and found
                inner += [""] * bool(is_loose) + found
            lines += [
                ((" " * len(bullet) if position else bullet) + line).rstrip() for position, line in enumerate(inner)
            ]
        return lines

    def _table(self, node: SyntaxTreeNode, document: Document, width: int) -> list[str]:
        """Columns where they fit, else one `heading: value` line per cell."""
        rows = [
            [self._cell(cell.children[0], document) for cell in row.children]
            for part in node.children
            for row in part.children
        ]
        widths = [max(_columns(row[column]) for row in rows) for column in range(len(rows[0]))]
        if sum(widths) + 2 * (len(widths) - 1) > width:
            return self._records(rows, width)
        lines = ["  ".join(_padded(cell, widths[column]) for column, cell in enumerate(row)).rstrip() for row in rows]
        return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]

    def _records(self, rows: list[list[str]], width: int) -> list[str]:
        lines: list[str] = []
        for row in rows[1:]:
            if lines:
                lines.append("")
            for heading, cell in zip(rows[0], row, strict=True):
                if cell:
                    lines += _wrapped(f"{heading}: {cell}" if heading else cell, width)
        return lines

    def _paragraph(self, node: SyntaxTreeNode, document: Document, width: int) -> list[str]:
        inline = _Inline(self.page, document)
        inline.write(node.children)
        inline.end()
        return self._laid_out(inline, width)

    def _cell(self, node: SyntaxTreeNode, document: Document) -> str:
        inline = _Inline(self.page, document)
        inline.write(node.children)
        inline.end()
        return " ".join(self._with_numbers("".join(inline.out), inline.addresses).split())

    def _laid_out(self, inline: _Inline, width: int) -> list[str]:
        written = "".join(inline.out).strip()
        only = _LINK.search(written)
        if len(inline.addresses) == 1 and only and only.end() == len(written):
            return [*_wrapped(written[: only.start()], width), inline.addresses[0]]
        return _wrapped(self._with_numbers(written, inline.addresses), width)

    def _with_numbers(self, written: str, addresses: Sequence[str]) -> str:
        """`written` with a number behind each label; the addresses go to `references`."""

        def number(match: re.Match[str]) -> str:
            self.numbered += 1
            self.references.append(f"[{self.numbered}] {addresses[int(match[1])]}")
            return f" [{self.numbered}]"

        return _LINK.sub(number, written)


class _Inline(HTMLParser):
    """What stands inside one paragraph; fed with the author's HTML tag by tag where there is some."""

    def __init__(self, page: Page, document: Document) -> None:
        super().__init__()
        self.page = page
        self.document = document
        self.out: list[str] = []
        self.addresses: list[str] = []
        self.unseen = 0
        self.open_links: list[tuple[str, int, bool]] = []

    def write(self, nodes: Sequence[SyntaxTreeNode]) -> None:
        for node in nodes:
            self._write(node)

    def end(self) -> None:
        """Closes what the author left open."""
        self.close()
        while self.open_links:
            self._link(*self.open_links.pop())

    def _write(self, node: SyntaxTreeNode) -> None:
        match node.type:
            case "html_inline" if _TAG.match(node.content):
                self.feed(node.content)
            case "html_inline":
                pass
            case "text":
                self.handle_data(node.content)
            case "code_inline":
                self.out.append(self.document.as_written(node.content))
            case "softbreak":
                self.out.append(" ")
            case "hardbreak":
                self.out.append("\n")
            case "image":
                self._image("".join(child.content for child in node.children))
            case "footnote_ref":
                self.out.append(f" [^{node.meta['id'] + 1}]")
            case "link":
                start = len(self.out)
                self.write(node.children)
                self._link(str(node.attrs.get("href", "")), start, _is_untracked(str(node.attrs.get("class", ""))))
            case _:
                self.write(node.children)

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.out.append(self.document.with_slots(data, self.page.slots))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in _UNSEEN:
            self.unseen += 1
        elif tag in _BREAKS:
            self.out.append("\n")
        elif tag == "a" and "href" in given:
            self.open_links.append((given["href"], len(self.out), _is_untracked(given.get("class", ""))))
        elif tag == "img":
            self._image(given.get("alt", ""))
        elif tag == "input":
            self.out.append(checkbox(self.get_starttag_text() or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self.unseen = max(self.unseen - 1, 0)
        elif tag == "a" and self.open_links:
            self._link(*self.open_links.pop())

    def _image(self, alt: str) -> None:
        if alt.strip():
            self.out.append(f"[{self.document.with_slots(alt.strip(), self.page.slots)}]")

    def _link(self, target: str, start: int, untracked: bool) -> None:
        """Notes the address of the link whose label is what was written from `start` on."""
        address = self.page.href(self.document.with_slots(target, self.page.slots), untracked=untracked)
        label = "".join(self.out[start:]).strip()
        if not address or address.startswith("#"):
            return
        if address == target and label in (target, target.removeprefix("mailto:")):
            return
        self.addresses.append(address)
        self.out.append(f"\ue002{len(self.addresses) - 1}\ue003")


def _is_untracked(classes: str) -> bool:
    return UNTRACKED_CLASS in classes.split()


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, but for words that are longer, such as addresses."""
    return [
        line
        for part in text.split("\n")
        for line in textwrap.wrap(part, max(width, 20), break_long_words=False, break_on_hyphens=False)
    ]


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def passages(document: Document, page: Page) -> Iterator[str]:
    """The words of each paragraph, heading and list item in turn, without addresses, code blocks and tables."""
    for node in SyntaxTreeNode(document.tokens).walk():
        if node.type == "inline" and node.parent and node.parent.type in ("paragraph", "heading"):
            inline = _Inline(page, document)
            inline.write(node.children)
            words = " ".join(_LINK.sub("", "".join(inline.out)).split())
            if words:
                yield words
