"""The line that mail programs show beside the subject."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORTEST, LONGEST = 35, 110
# Keeps the first words of the mail out of the line: a combining joiner and a figure space show as nothing.
FILLER = "\u034f\u2007" * 60

_CUT_MARKER = re.compile("\ue000\\d*$")


def shorten(passages: Iterable[str]) -> str:
    """The beginning of a text as a preheader: passages until there is enough, cut between words where too much."""
    line = ""
    for passage in passages:
        line = f"{line} {passage}".strip()
        if len(line) >= SHORTEST:
            break
    if len(line) <= LONGEST:
        return line
    cut = line[: LONGEST - 1]
    if line[LONGEST - 1] != " " and " " in cut[SHORTEST:]:
        cut = cut.rsplit(" ", 1)[0]
    return _CUT_MARKER.sub("", cut).rstrip(" ,;:–—-") + "…"
