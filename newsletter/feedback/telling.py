"""Whoever runs the site hears of it where many servers refuse mail for a fault of the sender's."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q

from newsletter import alerts
from newsletter.feedback import summing
from newsletter.models import Delivery, Dispatch

MANY = 20  # readers of one issue; told again at ten times as many


def tell_of_blocks(dispatch_id: int) -> None:
    """Alert where MANY readers' servers refused this dispatch, once, and again at ten times as many."""
    blocked = Delivery.objects.filter(dispatch=dispatch_id, verdict=Delivery.Verdict.BLOCK).count()
    if blocked < MANY:
        return
    untold = Dispatch.objects.filter(Q(blocks_told=0) | Q(blocks_told__lte=blocked // 10), pk=dispatch_id)
    if untold.update(blocks_told=blocked):
        dispatch = Dispatch.objects.select_related("issue").get(pk=dispatch_id)
        alerts.alert(f"Mail servers refuse “{dispatch.issue or 'single messages'}”", refused(summing.summary(dispatch)))


def refused(groups: Iterable[summing.Group]) -> str:
    """The `sentence` of those of `groups` who refuse the sender, or ""."""
    return next((sentence(group) for group in groups if group.verdict == Delivery.Verdict.BLOCK), "")


def sentence(blocked: summing.Group) -> str:
    """How many readers' servers refuse the sender, why for the most part, and where."""
    one = blocked.readers == 1
    whose = "1 reader’s server refused you." if one else f"{blocked.readers:,} readers’ servers refused you."
    if not blocked.whys:
        return whose
    why = blocked.whys[0]
    where = ", ".join(f"{domain} ({number:,})" for domain, number in why.domains)
    mostly = "Why" if len(blocked.whys) == 1 else "Most often"
    return f"{whose} {mostly}: {why.words}" + (f" Where: {where}." if where else "")
