"""Plain text as Markdown that reads the same: nothing in it becomes mark-up that was not meant as such.

A web editor gives one line per paragraph. Bullets and numbers become lists, addresses stay links, and the lead of an
item ("Name (Maker, date) — text") is bold again, as it was in the editor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_BULLET = re.compile(r"(?P<indent>[ \t\u00a0]*)(?P<mark>[•●‣∙·◦○▪■▫*+–-])[ \t\u00a0]+(?P<text>\S.*)")
_NUMBER = re.compile(r"(?P<indent>[ \t\u00a0]*)(?P<number>\d{1,9})(?P<mark>[.)])[ \t\u00a0]+(?P<text>\S.*)")
_RULE = re.compile(r"[ \t]*(?:[-_*=~—–⸻][ \t]*){3,}")
_DEPTH_OF_MARK = {"◦": 1, "○": 1, "▪": 2, "■": 2, "▫": 2}
_MAX_DEPTH = 6  # deeper steps leave no room for words on a phone

_FIELD = re.compile(r"\{\{[^{}\n]*\}\}")
_URL = re.compile(r"<?(?P<url>https?://[^\s<>\"“”`\\{}|]+)>?")
_URL_END = re.compile(r"[.,;:!?'’*_~]+$")
_SPECIAL = re.compile(
    r"(?P<backslash>\\(?=[!-/:-@\[-`{-~]|\Z))"
    r"|(?P<always>[*`\[])"
    r"|(?P<tildes>~(?=~)|(?<=~)~)"
    r"|(?P<word>(?<![^\W_])_|_(?![^\W_]))"  # an underscore inside a word means nothing
    r"|(?P<tag><(?=[A-Za-z/!?]))"
    r"|(?P<entity>&(?=#?\w+;))"
)
_LINE_START = re.compile(r"(?P<sign>#{1,6}(?=\s|$)|>|[-+](?=\s|$))|(?P<digits>\d{1,9})(?P<mark>[.)])(?=\s|$)")

_DASHES = re.compile(r"(?<=\S) (?:—|–|--) (?=\S)| - (?=\S)")
LEAD_LENGTH = 100  # characters before the dash; what is longer is a sentence with a dash in it
_SENTENCE_END = re.compile(r"[^\W\d_A-Z]{3,}[.!?…][\"”’)]*\s+[\"“‘(]*[^\W\d_a-z]")
_CONNECTED = re.compile(r"[^\W\d_]+, [^\W\d_A-Z]")  # "Third, society pushed back — hard."
_PAIRED = re.compile(r"[^.!?]* — ")  # "For most of the year — and it was a long one — nobody asked."
_SENTENCE_START = re.compile(r"[\"“‘'(\[]*[^\W_a-z]")


@dataclass(frozen=True)
class _Item:
    """A line of a list: how deep it was set, what it is numbered with ("" for a bullet), and its text."""

    key: tuple[int, int]
    marker: str
    text: str


def to_markdown(lines: Sequence[str], *, items: bool) -> str:
    """The Markdown for `lines` of plain text, one paragraph each; with `items`, leads before a dash are made bold."""
    blocks = _blocks(lines)
    bold = _leads([block.text if isinstance(block, _Item) else block for block in blocks]) if items else set()
    written: list[str] = []
    stack: list[tuple[tuple[int, int], int]] = []  # open list items: depth as written, column of their text
    in_list = False
    for index, block in enumerate(blocks):
        if isinstance(block, _Item):
            while stack and stack[-1][0] > block.key:
                stack.pop()
            if stack and stack[-1][0] == block.key:
                stack.pop()
            if len(stack) >= _MAX_DEPTH:
                stack = stack[:_MAX_DEPTH]
            offset = stack[-1][1] if stack else 0
            stack.append((block.key, offset + len(block.marker) + 1))
            # Below a line of text, only "1." begins a list (CommonMark 0.31, list items).
            close = in_list and (block.marker == "-" or int(block.marker[:-1]) == 1 or not offset)
            gap = "" if close or not written else "\n"
            written.append(f"{gap}{' ' * offset}{block.marker} {_lead(block.text, index in bold)}")
            in_list = True
        else:
            stack, in_list = [], False
            line = "---" if _RULE.fullmatch(block) else _lead(block, index in bold)
            written.append(f"\n{line}" if written else line)
    return "\n".join(written)


def is_list_line(line: str) -> bool:
    """Whether `line` begins with a bullet or a number."""
    return bool(_BULLET.fullmatch(line) or _NUMBER.fullmatch(line))


def is_rule(line: str) -> bool:
    """Whether `line` is drawn rather than written: dashes, underscores, asterisks or the like."""
    return bool(_RULE.fullmatch(line))


def escape(text: str) -> str:
    """Inline `text` with what Markdown would take for mark-up escaped; merge fields stay, addresses become links."""
    pieces: list[str] = []
    position = 0
    for match in _FIELD.finditer(text):
        pieces += [_linked(text[position : match.start()]), match[0]]
        position = match.end()
    pieces.append(_linked(text[position:]))
    return "".join(pieces)


def _blocks(lines: Sequence[str]) -> list[_Item | str]:
    """Paragraphs and list items in order. A number continues its list or begins one at 1; else it is text."""
    blocks: list[_Item | str] = []
    numbers = {0}  # those seen, so that a list goes on after paragraphs and after a list inside it
    after_item = False
    for index, line in enumerate(lines):
        if not line.strip():
            after_item = False
            continue
        bullet = None if _RULE.fullmatch(line) else _BULLET.fullmatch(line)
        numbered = _NUMBER.fullmatch(line)
        previous = blocks[-1] if blocks else None
        if bullet and not (bullet["mark"] == "–" and not _dashed_neighbour(lines, index)):
            key = (_width(bullet["indent"]), _DEPTH_OF_MARK.get(bullet["mark"], 0))
            blocks.append(_Item(key, "-", bullet["text"].strip()))
            after_item = True
        elif numbered and int(numbered["number"]) - 1 in numbers:
            numbers.add(int(numbered["number"]))
            marker = numbered["number"] + numbered["mark"]
            blocks.append(_Item((_width(numbered["indent"]), 0), marker, numbered["text"].strip()))
            after_item = True
        elif after_item and isinstance(previous, _Item) and _width(line[: len(line) - len(line.lstrip())]) >= 2:
            blocks[-1] = _Item(previous.key, previous.marker, f"{previous.text} {line.strip()}")
        else:
            blocks.append(line.strip())
            after_item = False
    return blocks


def _dashed_neighbour(lines: Sequence[str], index: int) -> bool:
    """Whether the line before or after begins with an en dash too: alone, it stands before a name under a quote."""
    around = [lines[other] for other in (index - 1, index + 1) if 0 <= other < len(lines)]
    return any(line.lstrip().startswith("– ") for line in around)


def _width(indent: str) -> int:
    return len(indent.expandtabs(4))


def _leads(texts: Sequence[str]) -> set[int]:
    """Indexes of the paragraphs whose lead is bold.

    "Name (Maker) — Text" is an item wherever it stands. Without the brackets, a dash makes an item only where half of
    the section or more is written so: in an essay it is a dash.
    """
    candidates = {index: parts for index, text in enumerate(texts) if (parts := _parts(text))}
    bracketed = {index for index, (lead, _, _) in candidates.items() if lead.endswith(")")}
    certain = {index for index in bracketed if _SENTENCE_START.match(candidates[index][2])}
    plausible = {index for index, (_, dash, _) in candidates.items() if dash.strip() != "-"} | bracketed
    several = len(plausible) >= 2 and 2 * len(plausible) >= len(texts)
    begun = any(_SENTENCE_START.match(candidates[index][2]) for index in plausible)
    return certain | plausible if several and begun else certain


def _parts(text: str) -> tuple[str, str, str] | None:
    """`text` as lead, dash and the rest, where the lead is short, one phrase and without a link or merge field."""
    match = _DASHES.search(text, 0, LEAD_LENGTH + 4)
    if match is None or match.start() > LEAD_LENGTH:
        return None
    lead, rest = text[: match.start()], text[match.end() :]
    if _SENTENCE_END.search(lead) or "://" in lead or "{{" in lead or not any(char.isalnum() for char in lead):
        return None
    if _CONNECTED.match(lead) or (not _SENTENCE_START.match(rest) and _PAIRED.match(rest)):
        return None
    return lead, match[0], rest


def _lead(text: str, bold: bool) -> str:
    parts = _parts(text) if bold else None
    if parts is None:
        return _escaped_line(text)
    lead, dash, rest = parts
    return f"**{escape(lead)}**{dash}{escape(rest)}"


def _escaped_line(text: str) -> str:
    start = _LINE_START.match(text)
    if start is None:
        return escape(text)
    rest = escape(text[start.end() :])
    return f"\\{start['sign']}{rest}" if start["sign"] else f"{start['digits']}\\{start['mark']}{rest}"


def _linked(text: str) -> str:
    pieces: list[str] = []
    position = 0
    for match in _URL.finditer(text):
        url = _trimmed(match["url"])
        bracketed = match[0].startswith("<") and match[0].endswith(">")
        start, end = match.span() if bracketed else (match.start("url"), match.start("url") + len(url))
        pieces += [_escaped(text[position:start]), f"<{match['url'] if bracketed else url}>"]
        position = end
    pieces.append(_escaped(text[position:]))
    return "".join(pieces)


def _trimmed(url: str) -> str:
    """`url` without the punctuation of the sentence around it; a closing bracket stays where it was opened inside."""
    while True:
        shorter = _URL_END.sub("", url)
        for opening, closing in ("()", "[]"):
            if shorter.endswith(closing) and shorter.count(closing) > shorter.count(opening):
                shorter = shorter[:-1]
        if shorter == url:
            return url
        url = shorter


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: "\\" + match[0], text)
