"""How many rows there are, without reading a million of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import QuerySet

FARTHEST = 10_000  # rows counted one by one; beyond them nobody compares the last digits


@dataclass(frozen=True)
class Count:
    """`number` of rows; where it is not `exact`, the planner's estimate or the number at which counting stopped."""

    number: int
    exact: bool = True
    estimated: bool = False

    def __str__(self) -> str:
        if self.exact:
            return f"{self.number:,}"
        return f"about {_rounded(self.number):,}" if self.estimated else f"more than {self.number:,}"


def about(queryset: QuerySet[Any]) -> Count:
    """The number of rows in `queryset`: exact up to FARTHEST, then what the database's own statistics say.

    On PostgreSQL that is the planner's estimate (from pg_class.reltuples and the columns' histograms); SQLite has none,
    so there the answer is "more than 10,000".
    """
    plain = queryset.order_by()
    counted = plain.values_list("pk")[: FARTHEST + 1].count()
    if counted <= FARTHEST:
        return Count(counted)
    if connections[queryset.db].vendor != "postgresql":
        return Count(FARTHEST, exact=False)
    plan = json.loads(plain.explain(format="json"))
    return Count(max(int(plan[0]["Plan"]["Plan Rows"]), FARTHEST), exact=False, estimated=True)


def _rounded(number: int) -> int:
    """`number` to three digits: an estimate that shows more of them claims to know."""
    return int(float(f"{number:.3g}"))
