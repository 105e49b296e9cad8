"""Many values as one parameter, a list in JSON, which both databases read.

The ORM has no UPDATE from a list, and its bulk_update takes ten times as long to put one together as the database takes
for it; a thousand ids take longer to write into a statement one by one than to look up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from django.db import connection
from django.db.models.expressions import RawSQL


def ids(values: Iterable[int]) -> RawSQL:
    """What to give as `pk__in`, however many there are."""
    on_postgresql = "SELECT value::bigint FROM json_array_elements_text(%s::json)"
    each = on_postgresql if connection.vendor == "postgresql" else "SELECT value FROM json_each(%s)"
    return RawSQL(each, [json.dumps(list(values))])  # noqa: S611 - our own words


def listed(*types: str) -> str:
    """A SELECT of the rows in a JSON list of lists, the statement's next parameter; `types` are PostgreSQL's."""
    if connection.vendor == "postgresql":
        columns = ", ".join(f"(value->>{index})::{kind}" for index, kind in enumerate(types))
        return f"SELECT {columns} FROM json_array_elements(%s::json)"  # noqa: S608 - our own types
    columns = ", ".join(f"json_extract(value, '$[{index}]')" for index in range(len(types)))
    return f"SELECT {columns} FROM json_each(%s)"  # noqa: S608 - numbers
