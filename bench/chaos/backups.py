"""A backup of the whole database while it is in use, and its return: what pg_dump and pg_restore do, over a connection.

The programs themselves are not at hand everywhere; the wheel that brings PostgreSQL leaves them out.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class Backup:
    """Every row of every table as of `at`, and where every sequence stood."""

    at: dt.datetime
    tables: dict[str, bytes]
    sequences: dict[str, int]


def make(database_url: str) -> Backup:
    """A consistent backup, while others write."""
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        at: dt.datetime = connection.execute("SELECT now()").fetchone()[0]  # type: ignore[index]
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = {}
        for (table,) in tables:
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
                rows[table] = b"".join(bytes(part) for part in copy)
        sequences = connection.execute(
            "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL"
        ).fetchall()
    return Backup(at, rows, dict(sequences))


def restore(database_url: str, backup: Backup) -> None:
    """Put the database back to what it was. Nobody else may be using it."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")  # no foreign key is checked on the way
        names = sql.SQL(", ").join(map(sql.Identifier, backup.tables))
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
        for table, rows in backup.tables.items():
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
                copy.write(rows)
        for sequence, value in backup.sequences.items():
            connection.execute("SELECT setval(%s::regclass, %s)", [sequence, value])
