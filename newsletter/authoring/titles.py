"""The title that a text begins with: on one line and apart from the text, before anything else is read from it."""

from __future__ import annotations

import re

from newsletter.authoring import particulars
from newsletter.authoring.parsed import TITLE_LENGTH

_HALF_LENGTH = 100  # characters of either line of a title broken in the middle

# "# 31 - The week of two lines" goes on from the name above it; "# 3 reasons" and "# 1. Wool" head a text.
_NUMBER_LINE = re.compile(r"#[ \t]*\d{1,9}[ \t]*(?:$|[:|·–—-]|\([^)]*\d{4}\))")
_NUMBERED_LINE = re.compile(r"#[ \t]*\d")
_BEFORE_NUMBER = re.compile(r"(?P<name>[^#]*?)[ \t]*(?:[#＃№]|\bNo\.|\bIssue\b)")
_NO_NAME = re.compile(r"[#>*_+•`|\[<-]|\d+[.)]\s|(?:hi|hey|hello|dear|welcome)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[.,;:!?…]$|[a-z]{3,}[.!?]\s")
_WORD = re.compile(r"[^\W\d_][\w’'.&/-]*")


def set_apart(text: str) -> str:
    """`text` with its title on one line: "The Weekly" and "# 31 - The week" below it are "The Weekly # 31 - The week".

    So are "The" and "Weekly # 12": a name that was broken in the middle. A line "The Weekly # 12" is parted from the
    text below it, which Markdown would take for the same paragraph. Anything else stays as it is.
    """
    lines = text.split("\n")
    filled = (index for index, line in enumerate(lines) if line.strip())
    first, second, third = (next(filled, None) for _ in range(3))
    if first is None or second is None or third is None:
        return text
    name, rest = lines[first].strip(), lines[second].strip()
    if len(name) <= TITLE_LENGTH and particulars.numbered(name) is not None:
        if second > first + 1 or _NO_NAME.match(name) or name[-1] in ".,;:" or rest[0] in "=-" or rest[0].islower():
            return text
        return "\n".join([*lines[: first + 1], "", *lines[first + 1 :]])
    if not _is_name(name) or len(name) + len(rest) >= TITLE_LENGTH:
        return text
    if _NUMBER_LINE.match(rest):
        # Several of that kind are headings, each with its number.
        is_title = not any(_NUMBERED_LINE.match(line) for line in lines[third:])
    else:
        is_title = _ends_name(rest)
    if not is_title:
        return text
    return "\n".join([*lines[:first], f"{name} {rest}", "", *lines[second + 1 :]])


def _is_name(line: str) -> bool:
    """Whether `line` may be a newsletter's name, or a part of one: no mark-up, no sentence, no greeting."""
    if len(line) > _HALF_LENGTH or _NO_NAME.match(line) or _SENTENCE.search(line):
        return False
    words = _WORD.findall(line)
    return bool(words) and not words[0].islower() and all(len(word) <= 3 or not word.islower() for word in words)


def _ends_name(line: str) -> bool:
    """Whether `line` is the rest of a name with a number behind it."""
    match = _BEFORE_NUMBER.match(line)
    return bool(match and _is_name(match["name"]) and particulars.numbered(line) is not None and line[-1] not in ".,;")
