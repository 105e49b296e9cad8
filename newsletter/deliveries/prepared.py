"""Statements that are run for every chunk, which PostgreSQL parses and plans once and not each time: for a claim that
takes it a third of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper

OFTEN = 5  # a statement that a connection has run so many times is prepared


@contextmanager
def run(sql: str, params: Sequence[Any], *, dispatch_id: int) -> Iterator[CursorWrapper]:
    """Run `sql` with `params`; a cursor with what it came to.

    A plan is good for the sizes that the tables had when it was made, so each dispatch has plans of its own.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            own: psycopg.Connection = connection.connection
            # Django's cursor writes the values into the statement, which is another one each time.
            cursor.close()
            cursor.cursor = psycopg.Cursor(own)
            # For these alone: psycopg keeps the words of all that it counts, and forgets what others crowd out.
            own.prepare_threshold = OFTEN
            try:
                cursor.execute(f"/* dispatch {dispatch_id} */ {sql}", params)
            finally:
                own.prepare_threshold = None
        else:
            cursor.execute(sql, params)
        yield cursor
