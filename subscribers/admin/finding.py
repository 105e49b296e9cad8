"""How people are found in a million: by their whole address, or by how their name begins. Both have an index."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from subscribers import addresses
from subscribers.models import Subscriber

Row = TypeVar("Row", bound=Model)

FARTHEST = 200  # a search that finds more than that is to be made narrower, not read through
HELP = "A whole address, or how a name begins"


def people(term: str, among: QuerySet[Subscriber]) -> QuerySet[Subscriber]:
    """Those of `among` with the address `term`, or whose name begins so, as written or with capitals."""
    term = term.strip()
    if "@" in term:
        return among.filter(address_key=_key(term))
    begins = Q()
    for form in {term, term.capitalize(), term.title()}:
        begins |= Q(name__startswith=form)
    return among.filter(begins)


def rows_of(term: str, among: QuerySet[Row]) -> QuerySet[Row]:
    """Those of `among` that belong to people whom `term` finds; no more than FARTHEST people and rows are looked at.

    In two steps, each by an index. In one, PostgreSQL tends to read all rows in the order of the list instead.
    """
    found = people(term, Subscriber.objects.order_by()).values_list("pk", flat=True)[:FARTHEST]
    rows = among.order_by().filter(subscriber__in=list(found)).values_list("pk", flat=True)[:FARTHEST]
    return among.filter(pk__in=list(rows))


def fingerprint(term: str) -> str:
    """The fingerprint of the address `term`; of nothing where it is no address."""
    return addresses.fingerprint(_key(term))


def _key(term: str) -> str:
    try:
        return addresses.parse(term).key
    except addresses.AddressError:
        return ""
