"""How many rows there are, without reading a million of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import QuerySet

FARTHEST = 10_000  # rows counted where the database has no statistics to estimate by
CHEAP = 5_000  # PostgreSQL's cost of a query up to which counting is a matter of milliseconds


@dataclass(frozen=True)
class Count:
    """`number` of rows: exact, `estimated` by the planner, or `bounded`: where counting stopped."""

    number: int
    estimated: bool = False
    bounded: bool = False

    def __str__(self) -> str:
        if self.estimated:
            return f"about {_rounded(self.number):,}"
        return f"more than {self.number:,}" if self.bounded else f"{self.number:,}"


def about(queryset: QuerySet[Any]) -> Count:
    """The number of rows in `queryset`: exact where counting is cheap, else what the database's statistics say.

    PostgreSQL's planner knows both before it reads a row (from pg_class.reltuples and the columns' histograms). SQLite
    has no such statistics: it counts to FARTHEST, and beyond that the answer is "more than 10,000".
    """
    plain = queryset.order_by().values_list("pk")
    if connections[queryset.db].vendor == "postgresql":
        return estimate(queryset) or Count(plain.count())
    counted = plain[: FARTHEST + 1].count()
    return Count(counted) if counted <= FARTHEST else Count(FARTHEST, bounded=True)


def estimate(queryset: QuerySet[Any]) -> Count | None:
    """The same where counting is not cheap, else None: for those who then count in another way."""
    if connections[queryset.db].vendor == "postgresql":
        plan = json.loads(queryset.order_by().values_list("pk").explain(format="json"))[0]["Plan"]
        return Count(int(plan["Plan Rows"]), estimated=True) if plan["Total Cost"] > CHEAP else None
    found = about(queryset)
    return found if found.bounded else None


def _rounded(number: int) -> int:
    """`number` to three digits: an estimate that shows more of them claims to know."""
    return int(float(f"{number:.3g}"))
