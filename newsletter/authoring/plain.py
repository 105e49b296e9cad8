"""An issue from plain text, as it comes out of a web editor: the headings have no mark-up and must be told apart.

A line of its own is a heading when it names a standing section, or when it begins with an emoji and reads like a
heading, or, where nothing in the file does, when it is a short line in title case among long paragraphs. One that
somebody marked with # signs is a heading too.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from newsletter.authoring import headings, paragraphs
from newsletter.authoring.parsed import TITLE_LENGTH, Found, KnownSection

HEADING_LENGTH = 120  # characters of a heading that no standing section vouches for
MAX_QUOTED = 8  # lines that a note asks about
LONG_LINE = 100  # characters: a paragraph of its own, where lines are not wrapped
_WRAPPED_AT = 45  # characters: a shorter line ended because its paragraph did

# They point at, tick off or greet; they never head a section.
_BULLET_EMOJI = frozenset("✅☑✔❌✖❎➕➖👉👈👇👆☝➡⬅⬇⬆▶◀🔹🔸🔷🔶🔵🔴🟢🟡🟠🟣⚪⚫◾◽▪▫◼◻👋🙏👍👎•")
_URL = re.compile(r"https?://|www\.|\S@\S+\.\w", re.IGNORECASE)
_GREETING = re.compile(
    r"(?:hi|hey|hello|dear|welcome|greetings|good (?:morning|afternoon|evening)|thanks|thank you)\b", re.IGNORECASE
)
_SENTENCE_INSIDE = re.compile(r"[^\W\d_A-Z]{3,}[.!?]+[\"”’)]*\s+\S")
_SENTENCE_END = re.compile(r"[.,;!。，！…][\"”’')\]]*$")
_CLOSED = re.compile(r"[.!?:;)\]\"”’…。！？]$")
_MARKED = re.compile(r"#{1,6}[ \t]+(?P<text>.*?)[ \t]*#*[ \t]*")  # a heading in Markdown, here and there in a text
_NAME_AND_TITLE = re.compile(r"(?P<name>[^:]+): (?P<title>.+)")
_WORD = re.compile(r"[^\W\d_][\w’'.&-]*")


def read(text: str, names: Mapping[str, KnownSection], *, title: str = "") -> Found:
    """`text` taken apart into title, lead and sections; `names` as `headings.by_name` gives them.

    Where `title` is known already, the first line is text unless it repeats the title.
    """
    lines = text.split("\n")
    first = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    title_line = " ".join(lines[first].split()) if first < len(lines) else ""
    more = any(line.strip() for line in lines[first + 1 :])
    found = Found("", [])
    if title:
        is_title = headings.bare_name(title_line) == headings.bare_name(title)
    else:
        is_title = len(title_line) <= TITLE_LENGTH and not _begins_text(title_line, names)
    if is_title:
        found.title = title_line
        lines = lines[first + 1 :] if more else lines  # a single line is all the text there is
    lines = unwrapped(lines, names)
    starts, guessed = heading_lines(lines, names)
    if guessed:
        quoted = ", ".join(f"“{' '.join(lines[index].split())}”" for index in sorted(guessed))
        found.notes.append(f"Taken for headings, though no standing section says so: {quoted}.")
    doubtful = [] if guessed else _doubtful(lines, starts)
    if doubtful:
        quoted = ", ".join(f"“{line}”" for line in doubtful)
        found.notes.append(
            f"These lines may be headings: {quoted}. If they are, add them to the newsletter's standing sections, "
            "and import the file again."
        )
    bounds = [-1, *sorted(starts), len(lines)]
    for start, end in itertools.pairwise(bounds):
        heading = _heading(lines[start]) if start >= 0 else ""
        body = paragraphs.to_markdown(_without_rules(lines[start + 1 : end]), items=bool(heading))
        if heading or body:
            found.sections.append((heading, body))
    return found


def _heading(line: str) -> str:
    match = _MARKED.fullmatch(line.strip())
    return " ".join((match["text"] if match else line).split())


def _without_rules(lines: Sequence[str]) -> Sequence[str]:
    """`lines` without those that only set a section off from its neighbours."""
    text = [index for index, line in enumerate(lines) if line.strip() and not paragraphs.is_rule(line)]
    return lines[text[0] : text[-1] + 1] if text else []


def unwrapped(lines: Sequence[str], names: Mapping[str, KnownSection]) -> list[str]:
    """`lines` with hard-wrapped paragraphs joined, where the text is wrapped at all.

    Wrapped means: no line is long, and most that stand directly above another one stop in mid-sentence.
    """
    pairs = [(one, two) for one, two in itertools.pairwise(lines) if len(one) >= _WRAPPED_AT and two.strip()]
    broken = [(one, two) for one, two in pairs if not _CLOSED.search(one.rstrip())]
    lowered = [two for _, two in broken if two.lstrip()[:1].islower()]
    longest = max(map(len, lines), default=0)
    if longest > LONG_LINE or len(broken) < 3 or 5 * len(broken) < 3 * len(pairs) or 2 * len(lowered) < len(broken):
        return list(lines)
    joined: list[list[str]] = []
    open_line = False
    for line in lines:
        heads = _known(line, names) or _is_marked_up(line)
        own = heads or paragraphs.is_list_line(line) or headings.leading_emoji(line.lstrip())
        if open_line and line.strip() and not own:
            joined[-1].append(line.strip())
        else:
            joined.append([line])
        open_line = len(line) >= _WRAPPED_AT and not heads
    return [" ".join(pieces) for pieces in joined]


def heading_lines(lines: Sequence[str], names: Mapping[str, KnownSection]) -> tuple[set[int], set[int]]:
    """Indexes of the `lines` that are headings, and those among them that only look like one."""
    filled = [index for index, line in enumerate(lines) if line.strip()]
    below = dict(itertools.pairwise(filled))
    above = {two: one for one, two in below.items()}
    known = {index for index in filled if _known(lines[index], names) or _is_marked_up(lines[index])}
    marked = {index for index in filled if index not in known and _marked(lines[index].strip())}
    contents = _contents(lines, known | marked, below)
    known -= contents
    # Several in a row are items of a list, and one with nothing below it heads nothing.
    marked = {
        index
        for index in marked - contents
        if index in below
        and not {below[index], above.get(index)} & marked - contents
        and below[index] not in known
        and not _URL.match(lines[below[index]].strip())
    }
    emoji = {index: headings.leading_emoji(lines[index].strip()) for index in filled if index not in contents | known}
    times = Counter(emoji.values())
    marked = {index for index in marked if times[emoji[index]] == 1}
    emoji_style = marked or any(headings.leading_emoji(_heading(lines[index])) for index in known)
    guessed = marked if emoji_style else _in_title_case(lines, filled, known, below)
    return known | guessed, guessed


def _is_marked_up(line: str) -> bool:
    match = _MARKED.fullmatch(line.strip())
    return bool(match and headings.bare_name(match["text"]))


def _contents(lines: Sequence[str], candidates: set[int], below: Mapping[int, int]) -> set[int]:
    """The lines of a table of contents: they have nothing below them, and come again further down."""
    last = {name: index for index in sorted(candidates) for name in headings.names_of(lines[index])}
    return {
        index
        for index in candidates
        if below.get(index) in candidates and any(last[name] > index for name in headings.names_of(lines[index]))
    }


def _known(line: str, names: Mapping[str, KnownSection]) -> bool:
    """Whether `line` is the heading of a standing section, alone or with ": rest" behind it."""
    line = line.strip()
    if not names or not line or len(line) > TITLE_LENGTH or paragraphs.is_list_line(line):
        return False
    if headings.bare_name(line) in names:
        return True
    if not headings.recognised(line, names) or _URL.search(line):
        return False
    # "Jobs: we are looking for somebody who …." is a sentence.
    return bool(headings.leading_emoji(line)) or not (line.endswith(".") and len(line.split()) > 12)


def _marked(line: str) -> bool:
    """Whether `line` begins with an emoji and reads like a heading rather than an item or a greeting."""
    if len(line) > HEADING_LENGTH:
        return False
    emoji = headings.leading_emoji(line)
    if not emoji or emoji[0] in _BULLET_EMOJI:
        return False
    text = line[len(emoji) :].strip()
    if not headings.bare_name(text) or _URL.search(text) or _GREETING.match(text) or _SENTENCE_INSIDE.search(text):
        return False
    words = _WORD.findall(text)
    before_colon = _WORD.findall(text.split(":")[0]) if ":" in text.rstrip(":") else []
    if not words or words[0].islower():
        return False
    titled = _title_case(words) or (0 < len(before_colon) <= 6 and _title_case(before_colon))
    if _SENTENCE_END.search(text):
        return _title_case(words) and (text.endswith("!") or bool(before_colon))
    return titled or len(words) <= 6


def _title_case(words: Sequence[str]) -> bool:
    """Whether all words but short ones begin with, or hold, a capital; scripts without capitals count as such."""
    return not words[0].islower() and all(len(word) <= 3 or not word.islower() for word in words)


def _in_title_case(lines: Sequence[str], filled: Sequence[int], known: set[int], below: Mapping[int, int]) -> set[int]:
    """Short lines in title case above long ones, in a text of long paragraphs.

    One alone is no pattern, but for "Name of a Section: Title of the Piece", which needs neither.
    """
    found = _above_long(lines, filled, known, below)
    alone = {index for index in found if _names_and_titles(lines[index].strip())}
    if not filled or median(len(lines[index]) for index in filled) < LONG_LINE:
        return alone
    return found if len(found | known) >= 2 else alone


def _above_long(lines: Sequence[str], filled: Sequence[int], known: set[int], below: Mapping[int, int]) -> set[int]:
    """Lines in title case directly above a long paragraph."""
    found = {
        index
        for index in filled
        if index not in known and index in below and below[index] not in known and _titled_line(lines[index].strip())
    }
    return {index for index in found if below[index] not in found and len(lines[below[index]]) >= LONG_LINE}


def _names_and_titles(line: str) -> bool:
    """Whether `line` is "Story of the Week: The Mill That Would Not Close": two phrases, each in title case."""
    match = _NAME_AND_TITLE.fullmatch(line)
    if match is None:
        return False
    name, title = _WORD.findall(match["name"]), _WORD.findall(match["title"])
    return 2 <= len(name) <= 6 and len(title) >= 2 and not title[0].islower() and " — " not in line


def _doubtful(lines: Sequence[str], starts: set[int]) -> list[str]:
    """Lines that look like headings but were not taken for any, where nothing in the text shows how headings look."""
    if any(headings.leading_emoji(_heading(lines[index])) for index in starts):
        return []
    filled = [index for index, line in enumerate(lines) if line.strip()]
    found = _above_long(lines, filled, starts, dict(itertools.pairwise(filled)))
    return [" ".join(lines[index].split()) for index in sorted(found)][:MAX_QUOTED]


def _titled_line(line: str) -> bool:
    if len(line) > HEADING_LENGTH or not line[:1].isupper() or paragraphs.is_list_line(line) or "{{" in line:
        return False
    words = _WORD.findall(line)
    heading = line.split(":")[0]
    if not 2 <= len(words) <= 16 or len(_WORD.findall(heading)) > 9:
        return False
    plain = not _URL.search(line) and not _SENTENCE_INSIDE.search(line) and not _GREETING.match(line)
    listed = "," in heading or "(" in line or " — " in heading
    return plain and not listed and not line.endswith(":") and not _SENTENCE_END.search(line) and _title_case(words)


def _begins_text(line: str, names: Mapping[str, KnownSection]) -> bool:
    """Whether the first `line` of a file is no title: a heading, an item, or the first line of a letter."""
    return not headings.bare_name(line) or _known(line, names) or paragraphs.is_list_line(line) or line[-1] in ",;"
