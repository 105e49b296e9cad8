"""From a file's bytes to clean text, or a sentence why not."""

from __future__ import annotations

import codecs
from pathlib import PurePath

from newsletter import content
from newsletter.authoring.parsed import ImportRefused

MAX_BYTES = 1024 * 1024  # mail programs cut an issue off at a tenth of this
MAX_LINES = 10_000  # keeps the Markdown parser, which is quadratic in the lines of a list, within seconds

_TAKEN = "An issue is imported from Markdown or plain text."
# UTF-32's mark begins with UTF-16's, so it is tried first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"{\\rtf", "a rich text document"),
    (b"\x89PNG", "an image"),
    (b"GIF8", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"\x1f\x8b", "a compressed file"),
)
_PAGES = frozenset({".html", ".htm", ".xhtml"})
_HTML = ("<!doctype html", "<html", "<head", "<body", "<?xml", "<!-- buttondown-editor-mode: fancy -->")


def decode(data: bytes, filename: str = "") -> tuple[str, list[str]]:
    """The text of `data` with LF line ends and no control characters, and notes about how it was read.

    UTF-8 with or without a byte order mark; UTF-16 and UTF-32 with one. Raises ImportRefused for anything else:
    too big, binary, another encoding, HTML, or nothing to read.
    """
    if len(data) > MAX_BYTES:
        size = f"{len(data) / 1024 / 1024:.1f}".removesuffix(".0")
        raise ImportRefused(
            f"The file is {size} MB; an issue may have at most {MAX_BYTES // 1024 // 1024} MB of text. "
            "Take out what is not text, or split it into two issues."
        )
    for start, kind in _FOREIGN:
        if data.startswith(start):
            raise ImportRefused(f"This is {kind}, not text. {_TAKEN} Save it as text and import that.")
    text, notes = _decoded(data)
    text = content.clean_text(text)
    if text.count("\n") >= MAX_LINES:
        raise ImportRefused(f"The file has more than {MAX_LINES:,} lines: split it into several issues.")
    if not any(char.isprintable() and not char.isspace() for char in text):
        raise ImportRefused("The file is empty: write the issue's text into it and import it again.")
    if text.lstrip()[:100].lower().startswith(_HTML) or PurePath(filename).suffix.lower() in _PAGES:
        raise ImportRefused(f"This is an HTML page. {_TAKEN} Export it as Markdown, or paste its text into a file.")
    return text, notes


def _decoded(data: bytes) -> tuple[str, list[str]]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            name = encoding.upper()
            try:
                return data.decode(encoding), [f"The file was read as {name}, as its byte order mark says."]
            except UnicodeDecodeError as error:
                raise ImportRefused(
                    f"The file begins like {name}, but byte {error.start + 1} does not fit: "
                    "save it as UTF-8 and import it again."
                ) from error
    if b"\0" in data:
        raise ImportRefused(f"This file is binary, not text. {_TAKEN} Save the text as UTF-8 and import that.")
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ImportRefused(
            f"The file is not UTF-8: line {line} holds the byte 0x{data[error.start]:02X}. "
            "Open it in your editor, save it with the encoding UTF-8, and import it again."
        ) from error
