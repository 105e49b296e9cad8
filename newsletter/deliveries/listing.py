"""Rows of values for a statement of our own: the ORM has no UPDATE from a list, and its bulk_update takes ten times as
long to put one together as the database takes for it."""

from __future__ import annotations

from django.db import connection


def listed(*types: str) -> str:
    """A SELECT of the rows in a JSON list of lists, the statement's next parameter; `types` are PostgreSQL's."""
    if connection.vendor == "postgresql":
        columns = ", ".join(f"(value->>{index})::{kind}" for index, kind in enumerate(types))
        return f"SELECT {columns} FROM json_array_elements(%s::json)"  # noqa: S608 - our own types
    columns = ", ".join(f"json_extract(value, '$[{index}]')" for index in range(len(types)))
    return f"SELECT {columns} FROM json_each(%s)"  # noqa: S608 - numbers
