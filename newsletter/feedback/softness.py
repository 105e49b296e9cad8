"""When mail has failed to arrive for too long: five issues and two weeks without a success.

A full mailbox is emptied, a broken server mended: one soft bounce says nothing. What counts is a row of issues that all
came back, hard or soft, with none between that arrived. A blocked one is the sender's fault and counts neither way;
neither does one whose bounce may yet come: mail servers try for up to five days (RFC 5321, section 4.5.4.1).

Everything is asked of the deliveries as they stand, so the order in which bounces were reported makes no difference.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Now

from newsletter.feedback.histories import SOURCE, History, histories_of
from newsletter.hooks import occurring
from newsletter.models import Delivery, Dispatch
from subscribers import consent
from subscribers.models import Subscriber, Suppression

ISSUES = 5
SPAN = dt.timedelta(days=14)
PATIENCE = dt.timedelta(days=5)  # after which mail that did not come back has arrived
SOFT = Suppression.Reason.SOFT_BOUNCE
CHUNK = 1000
_FAILED = (Delivery.Verdict.SOFT, Delivery.Verdict.HARD)


class _Failed(NamedTuple):
    """A mail that came back: of which issue, and when that was sent."""

    issue: int
    at: dt.datetime


def review(fingerprints: Mapping[int, str], histories: Mapping[int, History]) -> None:
    """Suppress those of these readers (fingerprints by id) whose mail has failed for too long, and take back such a
    suppression of those for whom that does not hold, or no longer. The caller holds the readers' rows."""
    if not fingerprints:
        return
    failing = _failing(fingerprints, histories)
    suppressed = set(
        Suppression.objects.filter(fingerprint__in=fingerprints.values(), newsletter=None, reason=SOFT).values_list(
            "fingerprint", flat=True
        )
    )
    failing_prints = {fingerprints[pk] for pk in failing}
    made = consent.suppress_all(failing_prints - suppressed, reason=SOFT, source=SOURCE)
    occurring.recorded(made, reason=SOFT)
    lifted = consent.take_back(
        (suppressed & set(fingerprints.values())) - failing_prints,
        reason=SOFT,
        source=SOURCE,
        why="Mail arrived after all, or it was the sender's fault.",
    )
    occurring.recorded(lifted)


def review_recent() -> None:
    """Look again at young soft suppressions: mail that was still on its way when they were made may have arrived."""
    young = Suppression.objects.filter(reason=SOFT, newsletter=None, created_at__gt=Now() - 2 * PATIENCE)
    prints = list(young.values_list("fingerprint", flat=True))
    for start in range(0, len(prints), CHUNK):
        with transaction.atomic():
            people = lock(Subscriber.objects.filter(fingerprint__in=prints[start : start + CHUNK]))
            review(people, histories_of(people))


def lock(people: QuerySet[Subscriber]) -> dict[int, str]:
    """The fingerprints of `people` by id, whose rows are held until the transaction ends: of two batches about one
    reader the second waits here, and then sees what the first one wrote."""
    return dict(people.select_for_update(no_key=True).order_by("pk").values_list("pk", "fingerprint"))


def _failing(ids: Iterable[int], histories: Mapping[int, History]) -> set[int]:
    """Those for whom the rule holds."""
    rows = Delivery.objects.filter(
        subscriber__in=list(ids), verdict__isnull=False, dispatch__kind=Dispatch.Kind.ISSUE
    ).values_list("subscriber", "verdict", "dispatch__issue", "dispatch__started_at")
    failed: dict[int, list[_Failed]] = {}
    for pk, verdict, issue, started_at in rows:
        began = histories[pk].fresh_start
        if verdict in _FAILED and started_at and (began is None or started_at > began):
            failed.setdefault(pk, []).append(_Failed(issue, started_at))
    long = {pk: mails for pk, mails in failed.items() if _long_enough(mails)}
    if not long:
        return set()
    arrived = Q(verdict=None, status=Delivery.Status.SENT, settled_at__lt=Now() - PATIENCE)
    arrived |= Q(verdict=Delivery.Verdict.COMPLAINT) | Q(opened_at__isnull=False) | Q(clicked_at__isnull=False)
    successes = dict(
        Delivery.objects.filter(arrived, subscriber__in=list(long), dispatch__kind=Dispatch.Kind.ISSUE)
        .values_list("subscriber")
        .annotate(last=Max("dispatch__started_at"))
        .order_by()
    )
    return {
        pk
        for pk, mails in long.items()
        if _long_enough([mail for mail in mails if pk not in successes or mail.at > successes[pk]])
    }


def _long_enough(failed: list[_Failed]) -> bool:
    """An issue that was cancelled and sent again is one."""
    times = [mail.at for mail in failed]
    return len({mail.issue for mail in failed}) >= ISSUES and max(times) - min(times) >= SPAN
