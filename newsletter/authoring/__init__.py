"""An issue from a file: Markdown with or without headers, or plain text pasted from a web editor.

    bytes -> decoding (text) -> headers (title, number, date) -> markdown or plain (sections) -> ParsedIssue

Nothing here knows the database: `read` takes bytes and the names of the standing sections, and gives values back.
"""

from __future__ import annotations

from newsletter.authoring.decoding import MAX_BYTES
from newsletter.authoring.headings import bare_name, match_headings
from newsletter.authoring.parsed import ImportRefused, KnownSection, ParsedIssue, ParsedSection
from newsletter.authoring.reading import read

__all__ = [
    "MAX_BYTES",
    "ImportRefused",
    "KnownSection",
    "ParsedIssue",
    "ParsedSection",
    "bare_name",
    "match_headings",
    "read",
]
