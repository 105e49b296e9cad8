"""How big a mail gets, against the size at which Gmail cuts it off.

Measured is the HTML in UTF-8 bytes with slot values of typical length (`TYPICAL`) and every link as it will be sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from newsletter import fields

GMAIL_CLIPS_AT = 102_000
CLOSE_TO_IT = 90_000
_NAMED = 3  # sections worth naming in a warning

TYPICAL = {
    "name": "Alexandra Example",
    "first_name": "Alexandra",
    "delivery_token": "x" * 22,
    **{name: "https://newsletter.example/" + "x" * 93 for name in fields.MERGE_FIELDS if name.endswith("_url")},
}

_EDGE = re.compile(r"<!--section (\d+) (?:begins|ends)-->")


def mark(index: int, piece: str) -> str:
    """MJML of section `index` between marks that `measure` finds again in the HTML."""
    return f"<mj-raw><!--section {index} begins--></mj-raw>{piece}<mj-raw><!--section {index} ends--></mj-raw>"


def unmarked(html: str) -> str:
    """`html` without the marks."""
    return _EDGE.sub("", html)


def measure(html: str, slots: fields.SlotTable) -> int:
    """Bytes of `html` as it will be sent."""
    return len(slots.fill(html, TYPICAL).encode())


def of_sections(html: str, slots: fields.SlotTable) -> dict[int, int]:
    """Bytes of `html` between the marks of each section, by its index."""
    edges = list(_EDGE.finditer(html))
    return {
        int(begin[1]): measure(html[begin.end() : end.start()], slots)
        for begin, end in zip(edges[::2], edges[1::2], strict=True)
    }


def warning(size: int, sections: Sequence[tuple[str, int]]) -> str:
    """What to tell the author about the size; empty while there is room. `sections` are headings with their bytes."""
    if size <= CLOSE_TO_IT:
        return ""
    biggest = sorted(sections, key=lambda section: section[1], reverse=True)[:_NAMED]
    named = ", ".join(f"“{heading or 'the lead'}” ({measured:,} bytes)" for heading, measured in biggest)
    if size > GMAIL_CLIPS_AT:
        return (
            f"The mail has {size:,} bytes of HTML; Gmail cuts it off after {GMAIL_CLIPS_AT:,}, and the end with the"
            f" unsubscribe link is lost. Shorten or split it. The biggest sections: {named}."
        )
    return (
        f"The mail has {size:,} bytes of HTML and comes close to the {GMAIL_CLIPS_AT:,} at which Gmail cuts it off."
        f" The biggest sections: {named}."
    )
