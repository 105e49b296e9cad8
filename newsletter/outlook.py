"""Who would get an issue if it went out now, at a cost that does not grow with the readers.

For looking only: the snapshot counts everybody, and at another moment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from newsletter import audience, counting
from newsletter.content import Profile
from newsletter.models import Newsletter
from subscribers.models import FREE_LEVEL, Membership, Subscription

SAMPLE = 1_000  # subscriptions looked at one by one


@dataclass(frozen=True)
class Group:
    """`readers` of one profile, whatever their tracking."""

    profile: Profile
    readers: int


@dataclass(frozen=True)
class Outlook:
    """`active` subscriptions, and those among SAMPLE of all who may be written to, by profile.

    `whole` says whether SAMPLE was everybody; else the groups are good for shares, not for numbers.
    """

    active: counting.Count
    groups: tuple[Group, ...]
    whole: bool


def of(newsletter: Newsletter) -> Outlook:
    """The outlook for `newsletter`.

    Where there are more than SAMPLE subscriptions, the readers with the lowest public ids stand for all: public ids are
    random, so that is a fair draw, and the same at each look.
    """
    rows = list(audience.candidates(newsletter).order_by("subscriber__public_id")[: SAMPLE + 1])
    levels = dict(Membership.objects.levels().filter(subscriber__in=[row[0] for row in rows]))
    counted: Counter[tuple[int, str, bool]] = Counter()
    for subscriber_id, exclusion, muted, text_only, _ in rows[:SAMPLE]:
        if not exclusion:
            counted[levels.get(subscriber_id, FREE_LEVEL), muted, text_only] += 1
    groups = tuple(
        Group(Profile(level, frozenset(int(part) for part in muted.split(",") if part), text_only), readers)
        for (level, muted, text_only), readers in counted.most_common()
    )
    active = Subscription.objects.filter(newsletter=newsletter, status=Subscription.Status.ACTIVE)
    return Outlook(counting.about(active), groups, whole=len(rows) <= SAMPLE)
