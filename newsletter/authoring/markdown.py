"""An issue from Markdown: cut at its headings, so that each section stands alone.

The parser's line maps say what a heading, a definition and code is; the lines themselves are kept as they are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markdown_it.token import Token

from newsletter.authoring import comments, headings, markup, particulars, plain
from newsletter.authoring.parsed import TITLE_LENGTH, Found, KnownSection

_LONG = "x" * TITLE_LENGTH + "."  # stands for a block that is no line of its own
_STRONG = frozenset({"strong_open", "strong_close"})
_TEXT_MARKS = frozenset({"fence", "link_open", "image", "table_open"})
_FILE_MARKS = _TEXT_MARKS | {
    *("em_open", "code_inline", "blockquote_open", "bullet_list_open", "ordered_list_open"),
    *("html_block", "html_inline", "footnote_ref"),
}


@dataclass(frozen=True)
class _Heading:
    level: int
    first: int
    end: int
    text: str
    linked: bool


@dataclass
class _Uses:
    """Labels of the definitions and footnotes that a part of the text refers to."""

    definitions: set[str] = field(default_factory=set)
    footnotes: set[str] = field(default_factory=set)


def is_markdown(text: str, names: Mapping[str, KnownSection], *, named: bool) -> bool:
    """Whether `text` is marked up. `named`: the file's name or its headers say so, and slighter signs are enough.

    A pasted text in which somebody marked a heading or two, and nothing else, is still one.
    """
    document = markup.parse(text)
    first = next((index for index, line in enumerate(document.lines) if line.strip()), 0)
    # "# 10 - The week …" on the first line is the number.
    marked = [heading for heading in _headings(document) if not (heading.first == first and heading.text[:1].isdigit())]
    underlined = any(heading.end - heading.first > 1 for heading in marked)
    if marked and (underlined or _half_marked(document, marked, names) is None):
        return True
    marks = _FILE_MARKS if named else _TEXT_MARKS
    for token in markup.every(document.tokens):
        if token.type in marks and not (token.markup.startswith("~") or (token.markup == "autolink" and not named)):
            return True
        if token.type == "strong_open" and (named or token.markup == "**"):
            return True
        if token.type in {"html_block", "html_inline"} and token.content.startswith("<!--"):
            return True
    return False


def read(text: str, names: Mapping[str, KnownSection], *, title: str = "") -> Found:
    """`text` taken apart into title, lead and sections; `title` is one that headers above the text gave."""
    text, notes = comments.remove(text)
    document = markup.parse(text)
    found = Found("", [], notes)
    marked = _headings(document)
    half_marked = _half_marked(document, marked, names) if marked else None
    if half_marked is not None:
        document = half_marked
        marked = _headings(document)
    elif not marked and (spread := _spread(document, names)) != text:
        document = markup.parse(spread)
    after_title = 0
    if marked and _is_title(document, marked, title):
        found.title, after_title = marked[0].text, marked[0].end
        marked = marked[1:]
    if marked:
        levels = {heading.level for heading in marked}
        cut_at = 2 if 2 in levels else min(levels)
        marked = [heading for heading in marked if heading.level <= cut_at]
        if half_marked is not None:
            others = _beside_marked(_own_lines(document, after_title), names)
            marked = sorted([*marked, *others], key=lambda heading: heading.first)
            _note_taken(others, found.notes)
    else:
        lines = _own_lines(document, after_title)
        if not title and not found.title and lines and _title_like(lines):
            found.title, after_title = lines[0].text, lines[0].end
            lines = lines[1:]
        marked = _unmarked(lines, names)
        _note_taken(marked, found.notes)
    if not title and not found.title:
        after_title = _numbered_first_line(document, found, after_title)
    found.notes += [
        f"The heading “{heading.text}” was a link; headings are plain text, so its address was left out."
        for heading in marked
        if heading.linked
    ]
    found.sections = _sections(document, marked, after_title, found.notes)
    return found


def _note_taken(lines: Sequence[_Heading], notes: list[str]) -> None:
    if lines:
        quoted = ", ".join(f"“{line.text}”" for line in lines)
        notes.append(f"These lines were taken for headings, though no mark-up says so: {quoted}.")


def _half_marked(
    document: markup.Document, marked: Sequence[_Heading], names: Mapping[str, KnownSection]
) -> markup.Document | None:
    """The document with its lines as paragraphs, where it is a pasted text with only some headings marked, else None.

    Its other headings begin with an emoji or name standing sections. They count where they are no fewer than those
    marked, or where the text has a line for each paragraph, as web editors give it.
    """
    spread = markup.parse(_spread(document, names))
    others = _beside_marked(_own_lines(spread, 0), names)
    paragraphs = [
        token.map for token in document.tokens if token.type == "paragraph_open" and not token.level and token.map
    ]
    by_line = 2 * (len(spread.lines) - len(document.lines)) >= len(paragraphs)
    return spread if others and (len(others) >= len(marked) or by_line) else None


def _beside_marked(blocks: Sequence[_Heading], names: Mapping[str, KnownSection]) -> list[_Heading]:
    """Lines below the first that head a section by an emoji or by name, though other headings have mark-up."""
    starts, guessed = plain.heading_lines([block.text or _LONG for block in blocks], names)
    sure = {index for index in starts if index not in guessed or headings.leading_emoji(blocks[index].text)}
    return [blocks[index] for index in sorted(sure - {0})]


def _headings(document: markup.Document) -> list[_Heading]:
    """The headings outside lists and quotes. One with no text, or as long as a paragraph, begins nothing."""
    found = []
    for token, inline in zip(document.tokens, document.tokens[1:], strict=False):
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        text = " ".join(document.plain(inline).split())
        if not text or (token.markup[0] in "=-" and (len(text) > TITLE_LENGTH or token.map[1] - token.map[0] > 2)):
            continue
        linked = any(child.type == "link_open" for child in inline.children or [])
        found.append(_Heading(int(token.tag[1:]), token.map[0], token.map[1], text, linked))
    return found


def _spread(document: markup.Document, names: Mapping[str, KnownSection]) -> str:
    """The text with a blank line between lines that are paragraphs of their own, as web editors give them.

    A paragraph of several lines is one of those where a line of it is longer than anybody wraps, or is a heading.
    """
    spread: set[int] = set()
    starts, _ = plain.heading_lines(document.lines, names)
    for token in document.tokens:
        if token.type == "paragraph_open" and token.level == 0 and token.map:
            lines = range(*token.map)
            if any(len(document.lines[index]) > plain.LONG_LINE or index in starts for index in lines):
                spread.update(lines[1:])
    return "\n".join(f"\n{line}" if index in spread else line for index, line in enumerate(document.lines))


def _is_title(document: markup.Document, marked: Sequence[_Heading], title: str) -> bool:
    """Whether the first heading is the issue's title: of level 1, above all text, and not one section among others."""
    top = marked[0]
    if top.level != 1 or any(line.strip() for line in document.lines[: top.first]):
        return False
    if title:
        return headings.bare_name(top.text) == headings.bare_name(title)
    alone = [heading.level for heading in marked].count(1) == 1
    return alone or any(heading.level == 2 for heading in marked) or particulars.numbered(top.text) is not None


def _numbered_first_line(document: markup.Document, found: Found, after_title: int) -> int:
    """Takes a first line such as "The Weekly # 4" for the title of a text whose headings begin below it."""
    lines = _own_lines(document, after_title)
    if lines and lines[0].level and len(lines[0].text) <= TITLE_LENGTH and particulars.numbered(lines[0].text):
        found.title = lines[0].text
        return lines[0].end
    return after_title


def _own_lines(document: markup.Document, after: int) -> list[_Heading]:
    """The blocks below line `after`; a paragraph of one line has the level 2, or 1 if all of it is bold, others 0."""
    blocks = []
    for index, token in enumerate(document.tokens):
        if token.level or token.map is None or token.nesting < 0 or token.map[0] < after:
            continue
        first, end = token.map
        if token.type != "paragraph_open" or end - first != 1:
            blocks.append(_Heading(0, first, end, _LONG, False))
            continue
        inline = document.tokens[index + 1]
        kinds = [child.type for child in inline.children or [] if child.type != "text" or child.content.strip()]
        bold = len(kinds) == 3 and (kinds[0], kinds[-1]) == ("strong_open", "strong_close")
        text = " ".join(document.plain(inline).split())
        blocks.append(_Heading(1 if bold else 2, first, end, text, "link_open" in kinds))
    return blocks


def _title_like(blocks: Sequence[_Heading]) -> bool:
    """Whether the first block is a line that may be a title, with more text below it."""
    line = blocks[0]
    ends_sentence = line.text.endswith((".", ",", ";", ":"))
    return bool(line.level) and len(blocks) > 1 and len(line.text) <= plain.HEADING_LENGTH and not ends_sentence


def _unmarked(blocks: Sequence[_Heading], names: Mapping[str, KnownSection]) -> list[_Heading]:
    """Lines that head a section though no mark-up says so: those a plain text would have, and bold ones."""
    texts = [block.text or _LONG for block in blocks]
    starts, _ = plain.heading_lines(texts, names)
    bold = {
        index
        for index, (block, following) in enumerate(itertools.pairwise(blocks))
        if block.level == 1 and following.level != 1 and len(block.text) <= plain.HEADING_LENGTH
        if not block.text.endswith((".", ",", ";"))
    }
    return [blocks[index] for index in sorted(starts | bold)]


def _sections(
    document: markup.Document, marked: Sequence[_Heading], after_title: int, notes: list[str]
) -> list[tuple[str, str]]:
    """The text between the headings. Each section gets the definitions and footnotes it uses, and no others."""
    definitions, footnotes, removed = _definitions(document)
    owners = [0] * (len(document.lines) + 1)
    bounds = [after_title, *(heading.first for heading in marked), len(document.lines)]
    for index, (first, end) in enumerate(itertools.pairwise(bounds)):
        owners[first:end] = [index] * (end - first)
    by_section, by_footnote = _uses(document, owners, len(marked) + 1)
    unused = set(footnotes) - set().union(*(_closure(uses, by_footnote).footnotes for uses in by_section))
    notes += [f"The footnote “{label}” is used nowhere and was left out." for label in footnotes if label in unused]
    _note_open_code(document, notes)
    sections = []
    for index, uses in enumerate(by_section):
        heading = marked[index - 1] if index else None
        body = _kept(document.lines, heading.end if heading else after_title, bounds[index + 1], removed)
        closed = _closure(uses, by_footnote)
        body = _with_tail(body, [definitions[label] for label in definitions if label in closed.definitions])
        for label in footnotes:
            if label in closed.footnotes:
                body = _with_tail(body, [footnotes[label]])
        if heading or body:
            sections.append((heading.text if heading else "", body))
    return sections


def _definitions(document: markup.Document) -> tuple[dict[str, str], dict[str, str], dict[int, str | None]]:
    """Link definitions and footnotes as written, by label, and the lines they take: None, or what is left of a line."""
    definitions: dict[str, str] = {}
    footnotes: dict[str, str] = {}
    removed: dict[int, str | None] = {}
    lines = document.lines
    for token in document.tokens:
        if token.type == "footnote_reference_open" and token.level == 0 and token.map:
            first, end = token.map
            footnotes.setdefault(token.meta["label"], "\n".join(lines[first:end]).rstrip())
            removed.update(dict.fromkeys(range(first, end)))
    references = [(label, entry["map"]) for label, entry in document.env.get("references", {}).items()]
    repeated = [(None, entry["map"]) for entry in document.env.get("duplicate_refs", [])]
    for label, (first, end) in references + repeated:
        if first in removed:
            continue
        container, _, start = lines[first].partition("[")
        if label is not None:
            rest = [line.lstrip(" \t>") for line in lines[first + 1 : end]]
            definitions[label] = " ".join(line.rstrip() for line in ["[" + start, *rest]).rstrip()
        # In a quote the line goes; a list item stays, without the definition.
        removed[first] = container.rstrip() if container.strip(" \t>") else None
        removed.update(dict.fromkeys(range(first + 1, end)))
    return definitions, footnotes, removed


def _uses(document: markup.Document, owners: Sequence[int], sections: int) -> tuple[list[_Uses], dict[str, _Uses]]:
    """What each section and each footnote refers to."""
    by_section = [_Uses() for _ in range(sections)]
    by_footnote: dict[str, _Uses] = {}
    footnote = ""
    line = 0
    for token in document.tokens:
        if token.type == "footnote_reference_open" and token.level == 0:
            footnote = token.meta["label"]
        elif token.type == "footnote_reference_close" and token.level == 0:
            footnote = ""
        if token.map:
            line = token.map[0]
        if token.type == "inline":
            uses = by_footnote.setdefault(footnote, _Uses()) if footnote else by_section[owners[line]]
            _collect(token.children or [], document, uses)
    return by_section, by_footnote


def _collect(tokens: Sequence[Token], document: markup.Document, uses: _Uses) -> None:
    for token in markup.every(tokens):
        if token.type in {"link_open", "image"} and "label" in token.meta:
            uses.definitions.add(token.meta["label"])
        elif token.type == "footnote_ref" and "label" in token.meta:
            uses.footnotes.add(token.meta["label"])
        elif token.type == "footnote_ref":  # an inline footnote, whose text is kept apart
            _collect(document.env["footnotes"]["list"][token.meta["id"]]["tokens"], document, uses)


def _closure(uses: _Uses, by_footnote: Mapping[str, _Uses]) -> _Uses:
    """`uses` with what the footnotes in it use in turn."""
    closed = _Uses(set(uses.definitions), set())
    waiting = set(uses.footnotes)
    while waiting:
        label = waiting.pop()
        closed.footnotes.add(label)
        inside = by_footnote.get(label, _Uses())
        closed.definitions |= inside.definitions
        waiting |= inside.footnotes - closed.footnotes
    return closed


def _kept(lines: Sequence[str], first: int, end: int, removed: Mapping[int, str | None]) -> str:
    """Lines `first` to `end` without those `removed`, nor the second of two blank lines a removal leaves."""
    kept: list[str] = []
    joined = False
    for index in range(first, end):
        line = removed[index] if index in removed else lines[index]
        if line is None:
            joined = True
            continue
        if joined and not line.strip() and (not kept or not kept[-1].strip()):
            continue
        joined = False
        kept.append(line)
    while kept and not kept[0].strip():
        kept.pop(0)
    while kept and not kept[-1].strip():
        kept.pop()
    return "\n".join(kept)


def _with_tail(body: str, lines: Sequence[str]) -> str:
    if not lines:
        return body
    return "\n\n".join(part for part in (body, "\n".join(lines)) if part)


def _note_open_code(document: markup.Document, notes: list[str]) -> None:
    """A fence that is never closed makes code of everything below it, headings too: the author is told."""
    for token in document.tokens:
        if token.type != "fence" or token.level or token.map is None:
            continue
        last = document.lines[token.map[1] - 1].strip()
        closing = re.fullmatch(f"{re.escape(token.markup[0])}{{{len(token.markup)},}}", last)
        if not closing or token.map[1] - token.map[0] == 1:
            opening = document.lines[token.map[0]].strip()[:40]
            notes.append(f"The code that begins with “{opening}” is never closed, so everything below it is code.")
