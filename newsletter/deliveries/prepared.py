"""Statements that are run for every chunk, which PostgreSQL parses and plans once and not each time: for a claim that
takes it a third of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper


@contextmanager
def run(sql: str, params: Sequence[Any], *, dispatch_id: int) -> Iterator[CursorWrapper]:
    """Run `sql` with `params`; a cursor with what it came to.

    A plan is good for the sizes that the tables had when it was made, so each dispatch has plans of its own. psycopg
    prepares what a connection runs for the fifth time (`prepare_threshold` in the settings).
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Django's own writes the values into the statement, which is another one each time.
            cursor.close()
            cursor.cursor = psycopg.Cursor(connection.connection)
            sql = f"/* dispatch {dispatch_id} */ {sql}"
        cursor.execute(sql, params)
        yield cursor
