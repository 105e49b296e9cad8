"""How people are found in a million: by their whole address, or by how their name begins. Both have an index."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from subscribers import addresses
from subscribers.models import Subscriber

FARTHEST = 1000  # people that a search for their rows elsewhere looks at
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


def ids(term: str) -> list[int]:
    """The ids of at most FARTHEST people whom `term` finds."""
    return list(people(term, Subscriber.objects.order_by()).values_list("pk", flat=True)[:FARTHEST])


def fingerprint(term: str) -> str:
    """The fingerprint of the address `term`; of nothing where it is no address."""
    return addresses.fingerprint(_key(term))


def _key(term: str) -> str:
    try:
        return addresses.parse(term).key
    except addresses.AddressError:
        return ""
