"""HTML comments: an author's notes to the editors, which no reader is meant to see."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict

from newsletter.authoring import markup

_OPEN = "<!--"
# Stands for a comment that is never closed while the text is parsed; clean text holds no private-use character.
_UNCLOSED = "\ue010"
_TOKEN = re.compile(rf"\\[!-/:-@\[-`{{-~]|`+|{_OPEN}|{_UNCLOSED}[ \t]*")
_ONLY_MARKER = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])?[ \t]*")
_BLOCK_START = re.compile(r"[ \t]|[-*+>|#<]|\d{1,9}[.)]|```|~~~|$")


def remove(text: str) -> tuple[str, list[str]]:
    """`text` without its HTML comments, and notes. Code keeps them: there they are what the author shows.

    A comment alone on its lines goes with the lines, so that it breaks no list. One that is never closed would hide
    everything below it (CommonMark 0.31, HTML blocks); here only its opening mark goes, and a note names the line.
    """
    if _OPEN not in text:
        return text, []
    close = text.rfind("-->")
    last_open = close if close >= 0 else 0
    marked = text[:last_open] + text[last_open:].replace(_OPEN, _UNCLOSED)
    spans = _spans(marked)
    unclosed = next((start for start, _ in spans if marked[start] == _UNCLOSED), None)
    notes = []
    if unclosed is not None:
        line = marked.count("\n", 0, unclosed) + 1
        notes.append(
            f"The comment opened in line {line} of the text is never closed, so its text was kept: "
            "close it with --> or delete it."
        )
    return _cut(marked, spans).replace(_UNCLOSED, _OPEN), notes


def _spans(text: str) -> list[tuple[int, int]]:
    """Where comments stand in `text`, as start and end, outside code blocks, code spans and escapes."""
    blocks = markup.blocks(text)
    starts = markup.line_starts(text)
    code = [False] * len(starts)
    raw = [False] * len(starts)  # HTML blocks, where backticks and backslashes mean nothing
    leaf = list(range(len(starts)))  # the first line of the paragraph that a line belongs to
    for token in blocks:
        if token.map is None:
            continue
        first, end = token.map
        if token.type in {"fence", "code_block"}:
            code[first:end] = [True] * (end - first)
        elif token.type == "html_block":
            raw[first:end] = [True] * (end - first)
        elif token.type == "paragraph_open":
            leaf[first:end] = [first] * (end - first)
    runs: dict[tuple[int, int], list[int]] = defaultdict(list)  # backtick runs by paragraph and length
    for run in re.finditer("`+", text):
        runs[leaf[markup.line_at(starts, run.start())], len(run[0])].append(run.start())
    spans: list[tuple[int, int]] = []
    position = 0
    while match := _TOKEN.search(text, position):
        position = match.end()
        line = markup.line_at(starts, match.start())
        if code[line]:
            position = starts[line + 1] if line + 1 < len(starts) else len(text)
        elif match[0] == _OPEN:
            position = _end_of_comment(text, match.end())
            spans.append((match.start(), position))
        elif match[0][0] == _UNCLOSED:
            spans.append((match.start(), position))
        elif raw[line]:
            position = match.start() + 1
        elif match[0][0] == "`":
            later = runs[leaf[line], len(match[0])]
            index = bisect_left(later, match.end())
            if index < len(later):
                position = later[index] + len(match[0])
    return spans


def _end_of_comment(text: str, inside: int) -> int:
    for short in (">", "->"):  # <!--> and <!---> are whole comments
        if text.startswith(short, inside):
            return inside + len(short)
    return text.index("-->", inside) + 3


def _cut(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` without `spans`; lines on which nothing but comments stood are gone."""
    pieces: list[str] = []
    position = 0
    for start, end in spans:
        pieces.append(text[position:start])
        # A cut that swallowed line ends joins what stood around it; a mark tells the line apart from an empty one.
        pieces.append("\ue011")
        position = end
    pieces.append(text[position:])
    lines = "".join(pieces).split("\n")
    kept: list[str] = []
    for index, line in enumerate(lines):
        if "\ue011" not in line:
            kept.append(line)
        elif not _ONLY_MARKER.fullmatch(rest := line.replace("\ue011", "")):
            kept.append(rest.rstrip() if line.endswith("\ue011") else rest)
        elif kept and index + 1 < len(lines):
            if kept[-1].strip() and not _BLOCK_START.match(lines[index + 1]):
                kept.append("")  # the comment stood between two paragraphs
            elif not kept[-1].strip() and not lines[index + 1].strip():
                kept.pop()
    return "\n".join(kept)
