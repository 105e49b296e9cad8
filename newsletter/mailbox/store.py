"""The mails that the local SMTP server took: an SQLite file of its own, so that reading and writing them never
touches the service's database. One process writes, others read beside it (WAL)."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from newsletter.mailbox import reading

MAX_PAGE = 200  # mails in one page, whatever is asked for
SEARCHED = 50_000  # characters of a mail's text that searching knows
PREVIEW = 160  # characters of text shown under the subject in a list
LARGEST_ID = 2**63 - 1  # SQLite's

_SCHEMA = """
CREATE TABLE IF NOT EXISTS mail (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,  -- UTC, ISO 8601
    mail_from TEXT NOT NULL,
    rcpt_to TEXT NOT NULL,      -- a JSON list, as given in RCPT TO
    subject TEXT NOT NULL,
    sender TEXT NOT NULL,       -- the From header, decoded
    preview TEXT NOT NULL,
    searched TEXT NOT NULL,     -- casefolded addresses, subject and text
    raw BLOB NOT NULL           -- last: SQLite reads a row's long tail only when asked for it
);
CREATE TABLE IF NOT EXISTS recipient (
    address TEXT NOT NULL,      -- casefolded
    mail_id INTEGER NOT NULL REFERENCES mail (id) ON DELETE CASCADE,
    PRIMARY KEY (address, mail_id)
) WITHOUT ROWID;
"""
_HEAD = "id, received_at, mail_from, rcpt_to, subject, sender, preview"
_MATCHES = """
    (:reader IS NULL OR EXISTS (SELECT 1 FROM recipient WHERE address = :reader AND mail_id = mail.id))
    AND NOT EXISTS (SELECT 1 FROM json_each(:words) WHERE instr(mail.searched, value) = 0)
"""


@dataclass(frozen=True)
class Incoming:
    """A mail on its way into the store: its envelope and its bytes as they came after DATA, dots unstuffed."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    raw: bytes
    received_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


@dataclass(frozen=True)
class Head:
    """What a list shows of a mail; `received_at` is aware (UTC)."""

    id: int
    received_at: dt.datetime
    mail_from: str
    rcpt_to: tuple[str, ...]
    subject: str
    sender: str
    preview: str


@dataclass(frozen=True)
class Stored:
    """A mail as it arrived."""

    head: Head
    raw: bytes


class Store:
    """The mails in the file at `path`, which is made where it is missing. Close it after use, or use it in `with`.

    Raises `sqlite3.DatabaseError` where the file is something else, `OSError` where its folder cannot be made.
    A store may pass from thread to thread, but only one may use it at a time.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last mails of a demo, no more
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add(self, *mails: Incoming) -> list[int]:
        """Keep `mails`, all in one transaction, and give their ids in order."""
        rows = [_row(mail) for mail in mails]
        ids: list[int] = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for mail, row in zip(mails, rows, strict=True):
                made = self._db.execute(
                    "INSERT INTO mail (received_at, mail_from, rcpt_to, subject, sender, preview, searched, raw)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                    row,
                ).fetchone()
                ids.append(made[0])
                addresses = {_folded(address) for address in mail.rcpt_to}
                self._db.executemany(
                    "INSERT INTO recipient (address, mail_id) VALUES (?, ?)", [(each, made[0]) for each in addresses]
                )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return ids

    def newest(self, limit: int, before: int | None = None, reader: str | None = None, query: str = "") -> list[Head]:
        """At most `limit` mails (never over MAX_PAGE), newest first, with ids below `before`.

        `reader` asks for one address only; `query` for mails that have each of its words somewhere in an address, the
        subject or the text, whatever the case.
        """
        rows = self._db.execute(
            f"SELECT {_HEAD} FROM mail WHERE id < :before AND {_MATCHES} ORDER BY id DESC LIMIT :limit",  # noqa: S608 - constants
            {
                **_filters(reader, query),
                "before": LARGEST_ID if before is None else min(before, LARGEST_ID),
                "limit": max(0, min(limit, MAX_PAGE)),
            },
        )
        return [_head(row) for row in rows]

    def newer(self, than: int, reader: str | None = None, query: str = "") -> int | None:
        """The id of the next mail that came in after `than`, among those `newest` would list; None if there is none."""
        row = self._db.execute(
            f"SELECT id FROM mail WHERE id > :than AND {_MATCHES} ORDER BY id LIMIT 1",  # noqa: S608 - constants
            {**_filters(reader, query), "than": min(than, LARGEST_ID)},
        ).fetchone()
        return None if row is None else int(row[0])

    def get(self, mail_id: int) -> Stored | None:
        """The mail of that id, or None."""
        row = self._db.execute(
            f"SELECT {_HEAD}, raw FROM mail WHERE id = ?",  # noqa: S608 - constants
            [min(mail_id, LARGEST_ID)],
        ).fetchone()
        return None if row is None else Stored(_head(row[:-1]), row[-1])

    def readers(self, limit: int = MAX_PAGE) -> list[tuple[str, int]]:
        """Addresses that were written to with the number of their mails, in the order of the alphabet."""
        rows = self._db.execute(
            "SELECT address, count(*) FROM recipient GROUP BY address ORDER BY address LIMIT ?", [max(0, limit)]
        )
        return [(address, mails) for address, mails in rows]

    def count(self, reader: str | None = None, query: str = "") -> int:
        """How many mails there are, or how many of those that `newest` would list."""
        row = self._db.execute(
            f"SELECT count(*) FROM mail WHERE {_MATCHES}",  # noqa: S608 - constants
            _filters(reader, query),
        ).fetchone()
        return int(row[0])

    def clear(self) -> None:
        """Delete every mail. Ids are not used again."""
        self._db.execute("DELETE FROM mail")


def _filters(reader: str | None, query: str) -> dict[str, Any]:
    words = _folded(query).split()
    return {"reader": None if reader is None else _folded(reader), "words": json.dumps(words)}


def _row(mail: Incoming) -> tuple[str | bytes, ...]:
    letter = reading.read(mail.raw)
    text = (letter.text or "")[:SEARCHED]
    recipients = [_storable(address) for address in mail.rcpt_to]
    return (
        mail.received_at.astimezone(dt.UTC).isoformat(),
        _storable(mail.mail_from),
        json.dumps(recipients),
        letter.subject,
        letter.sender,
        " ".join(word for word in text[: PREVIEW * 4].split() if word.strip("=-_*"))[:PREVIEW],  # no ruled lines
        _folded("\n".join([*recipients, letter.sender, letter.to, letter.subject, text])),
        mail.raw,
    )


def _head(row: tuple[Any, ...]) -> Head:
    return Head(
        id=row[0],
        received_at=dt.datetime.fromisoformat(row[1]),
        mail_from=row[2],
        rcpt_to=tuple(json.loads(row[3])),
        subject=row[4],
        sender=row[5],
        preview=row[6],
    )


def _folded(text: str) -> str:
    """`text` in the form in which searching and filtering compare: one case, one Unicode form."""
    return unicodedata.normalize("NFC", _storable(text)).casefold()


def _storable(text: str) -> str:
    """`text` without lone surrogates (raw bytes of a broken envelope), which SQLite refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")
