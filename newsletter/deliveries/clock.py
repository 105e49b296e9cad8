"""The database's clock in a statement of our own."""

from __future__ import annotations

from django.db import connection


def now() -> str:
    """The database's clock, as `Now()` writes it."""
    return (
        "STATEMENT_TIMESTAMP()" if connection.vendor == "postgresql" else "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"
    )
