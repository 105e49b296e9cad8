"""Many values in one parameter: a table made of JSON, which both databases read, whatever the number of rows.

The ORM has no UPDATE from a list, and its bulk_update takes ten times as long to put one together as the database takes
for it; a thousand ids take longer to write into a statement one by one than to look up.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import Field, Model
from django.db.models.expressions import RawSQL


def types_of(model: type[Model], names: Sequence[str]) -> dict[str, str]:
    """The columns of `names` (attribute names) with the database's own types."""
    by_name: dict[str, Field[Any, Any]] = {field.attname: field for field in model._meta.concrete_fields}
    return {str(by_name[name].column): str(by_name[name].db_type(connection)) for name in names}


def table(columns: Mapping[str, str]) -> str:
    """A FROM item called `given` of these columns and types; it takes one parameter, which `rows` makes."""
    if connection.vendor == "postgresql":
        described = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        return f"json_to_recordset(%s::json) AS given({described})"
    described = ", ".join(f"""json_extract(value, '$.{name}') AS "{name}\"""" for name in columns)
    return f"(SELECT {described} FROM json_each(%s)) AS given"  # noqa: S608 - our own names of columns


def rows(values: Sequence[Mapping[str, Any]]) -> str:
    """The parameter of `table`."""
    in_database = connection.ops.adapt_datetimefield_value

    def plain(value: object) -> str:
        if isinstance(value, dt.datetime):
            return str(in_database(value))
        if isinstance(value, uuid.UUID):
            return value.hex
        raise TypeError(f"{value!r} has no place in a table of values")

    return json.dumps(values, default=plain, separators=(",", ":"))


def ids(values: Iterable[int]) -> RawSQL:
    """What to give as `pk__in`, however many there are."""
    on_postgresql = "SELECT value::bigint FROM json_array_elements_text(%s::json)"
    each = on_postgresql if connection.vendor == "postgresql" else "SELECT value FROM json_each(%s)"
    return RawSQL(each, [json.dumps(list(values))])  # noqa: S611 - our own words
