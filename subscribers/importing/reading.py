"""A CSV file of readers as rows. Streams: a file of any size takes the memory of one line."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from newsletter.content import clean_line
from subscribers import addresses
from subscribers.addresses import Address, AddressError
from subscribers.models import Subscriber

MAX_BYTES = 50 * 1024 * 1024
MAX_ROWS = 250_000  # SQLite has one writer: a longer import would make the sending wait beyond its patience

_DELIMITERS = (",", ";", "\t")
_HEADLESS = ("email", "name", "tier")
_MEANINGS = {
    "email": {"email", "e mail", "mail", "email address", "e mail address"},
    "name": {"name", "full name", "display name"},
    "first name": {"first name", "firstname", "forename", "given name"},
    "last name": {"last name", "lastname", "surname", "family name"},
    "tier": {"tier", "membership tier", "tier name"},
}
# Columns by which other systems mark people who left or never confirmed: ignoring one would subscribe them again.
_TELLS_WHO_LEFT = {
    "status", "state", "subscription status", "email disabled", "active subscription", "unsubscribed",
    "unsubscribed at", "unsubscription date", "unsub time", "clean time", "subscriber type", "subscribed to emails",
}  # fmt: skip
_NAME_LENGTH: int = Subscriber._meta.get_field("name").max_length or 0


class ImportRefused(ValueError):
    """The file cannot be imported, and nothing of it was; the message says why and what to do."""


@dataclass(frozen=True)
class Row:
    """One reader of the file. `tier` is as written, empty for none; `line` counts from 1."""

    line: int
    address: Address
    name: str
    tier: str


@dataclass(frozen=True)
class Rejected:
    """A row that was left out. The reason never holds the address: reports end up in logs and tickets."""

    line: int
    reason: str


@dataclass(frozen=True)
class Layout:
    """How to read the file. `columns` gives the position of each meaning; `has_header` whether the first row is one."""

    encoding: str
    delimiter: str
    columns: dict[str, int]
    width: int
    has_header: bool
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """The cells of one row as they stand in the file, stripped, without empty ones at the end."""

    line: int
    cells: list[str]


def layout(path: Path) -> Layout:
    """How `path` is written. Reads it through once. Raises ImportRefused where it is no CSV file of addresses."""
    encoding = _encoding(path)
    delimiter = _delimiter(path, encoding)
    first = next(_records(path, encoding, delimiter), None)
    if first is None:
        raise ImportRefused(f"{path.name} is empty.")
    if _is_address(first.cells[0]):
        columns = {meaning: index for index, meaning in enumerate(_HEADLESS)}
        return Layout(encoding, delimiter, columns, len(_HEADLESS), has_header=False, ignored=())
    return _from_header(path, encoding, delimiter, first.cells)


def records(path: Path, layout: Layout) -> Iterator[Record]:
    """The rows of `path` but its header and empty lines. Raises ImportRefused at a line that breaks the format."""
    found = _records(path, layout.encoding, layout.delimiter)
    if layout.has_header:
        next(found)
    yield from found


def tier_of(record: Record, layout: Layout) -> str:
    """The tier that a row names, as written; empty for none, or where a row is too wide to tell its columns."""
    return _cell(record, layout, "tier") if len(record.cells) <= layout.width else ""


def row(record: Record, layout: Layout) -> Row | Rejected:
    """A row with its address checked and its name on one line; Rejected where it is no reader."""
    if len(record.cells) > layout.width:
        return Rejected(record.line, f"it has {len(record.cells)} cells in place of {layout.width}")
    given = _cell(record, layout, "email")
    if not given:
        return Rejected(record.line, "it has no address")
    try:
        address = addresses.parse(given)
    except AddressError:
        return Rejected(record.line, "its address is not one that mail can be sent to")
    parts = (_cell(record, layout, part) for part in ("first name", "last name"))
    name = clean_line(_cell(record, layout, "name") or " ".join(parts))
    if len(name) > _NAME_LENGTH:
        return Rejected(record.line, f"its name is longer than {_NAME_LENGTH} characters")
    return Row(record.line, address, name, tier_of(record, layout))


def _encoding(path: Path) -> str:
    """UTF-16 by its mark, UTF-8 where all of the file is, else the code page of Western Windows."""
    try:
        if not path.exists():
            raise ImportRefused(f"There is no file {path}.")
        if not path.is_file():
            raise ImportRefused(f"{path} is not a file.")
        if path.stat().st_size > MAX_BYTES:
            raise ImportRefused(f"{path.name} is larger than {MAX_BYTES // 1024**2} MB: split it and import the parts.")
        with path.open("rb") as file:
            if file.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
                return "utf-16"
            file.seek(0)
            decoder = codecs.getincrementaldecoder("utf-8")()
            encoding = "utf-8-sig"
            while block := file.read(1 << 16):
                if b"\0" in block:
                    raise ImportRefused(f"{path.name} is not a text file: export the readers as CSV.")
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    encoding = "cp1252"
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read ({error.strerror}).") from error
    return encoding


def _delimiter(path: Path, encoding: str) -> str:
    """The one of comma, semicolon and tab that the first line has most of."""
    first = next((line for line in _lines(path, encoding) if line.strip()), "")
    return max(_DELIMITERS, key=first.count)


def _lines(path: Path, encoding: str) -> Iterator[str]:
    try:
        with path.open(encoding=encoding, newline="") as file:
            yield from file
    except UnicodeError as error:
        raise ImportRefused(f"{path.name} is not a text file in UTF-8: export the readers as CSV (UTF-8).") from error


def _records(path: Path, encoding: str, delimiter: str) -> Iterator[Record]:
    reader = csv.reader(_lines(path, encoding), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield Record(line, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ImportRefused(
            f"Line {line} of {path.name} breaks the CSV format ({error}): mend it and import the file again."
        ) from error


def _from_header(path: Path, encoding: str, delimiter: str, header: Sequence[str]) -> Layout:
    columns: dict[str, int] = {}
    ignored = []
    for index, title in enumerate(header):
        words = " ".join(title.casefold().replace("_", " ").replace("-", " ").split())
        meaning = next((meaning for meaning, titles in _MEANINGS.items() if words in titles), None)
        if words in _TELLS_WHO_LEFT:
            raise ImportRefused(
                f"The column “{title}” of {path.name} says who left, which this import would not heed: "
                "take out those rows and the column, then import the file."
            )
        if meaning is None:
            ignored.append(clean_line(title)[:50])
        elif meaning in columns:
            raise ImportRefused(f"{path.name} has two columns for the {meaning}: keep one.")
        else:
            columns[meaning] = index
    if "email" not in columns:
        raise ImportRefused(
            f"{path.name} has no column “email”: write the titles email, name and tier into its first line."
        )
    return Layout(encoding, delimiter, columns, len(header), has_header=True, ignored=tuple(filter(None, ignored)))


def _is_address(text: str) -> bool:
    try:
        addresses.parse(text)
    except AddressError:
        return False
    return True


def _cell(record: Record, layout: Layout, meaning: str) -> str:
    index = layout.columns.get(meaning)
    return record.cells[index] if index is not None and index < len(record.cells) else ""
