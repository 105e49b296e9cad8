"""Tallies and first times made anew from the rows, so that whatever went wrong is right again the next day.

    recounting.to_recount()       dispatches that had hits lately
    recounting.recount(dispatch)  count it anew; what was off is put right and logged

Safe beside those who write: what the rows say and what the tallies say is read in one statement, so in one state of the
database, and only the difference is added, by one at a time; first times are compared with the delivery held.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, Min, OuterRef, Q
from django.utils import timezone

from newsletter.events import storing
from newsletter.models import Dispatch, Event, Mark

logger = logging.getLogger(__name__)

Kind, Judged = Event.Kind, Event.Judged

MARK = "counted anew"  # held by whoever counts
# Older dispatches are left alone: rows may be deleted by age, and their tallies know more than what is left.
RECENT = dt.timedelta(days=14)
LATELY = dt.timedelta(days=2)
HELD = 500  # deliveries held while their first times are compared


@dataclass(frozen=True)
class Differences:
    """How many tallies of a dispatch were off, and the first times of how many deliveries."""

    tallies: int
    deliveries: int


def to_recount() -> list[int]:
    """Dispatches begun within RECENT that had a hit LATELY, oldest first."""
    now = timezone.now()
    hits = Event.objects.filter(dispatch=OuterRef("pk"), kind__in=(Kind.OPEN, Kind.CLICK), at__gte=now - LATELY)
    recent = Dispatch.objects.filter(Exists(hits), started_at__gte=now - RECENT)
    return list(recent.order_by("pk").values_list("pk", flat=True))


def recount(dispatch_id: int) -> Differences:
    """Count a dispatch anew from its rows, all of which have to be there still."""
    Mark.objects.get_or_create(name=MARK)
    with transaction.atomic():
        # Two who count the same would both add what is missing.
        Mark.objects.select_for_update().get(name=MARK)
        differing = _differing_tallies(dispatch_id)
        for _, group, hits, readers in differing:
            logger.warning(
                "Dispatch %s: the tally of %s was off by %s hits, %s readers", dispatch_id, group, hits, readers
            )
        storing.change_tallies(differing)
    ids = _differing_deliveries(dispatch_id)
    changed = sum(_note_anew(ids[start : start + HELD]) for start in range(0, len(ids), HELD))
    if changed:
        logger.warning("Dispatch %s: the first times of %s deliveries were off", dispatch_id, changed)
    return Differences(len(differing), changed)


def _differing_tallies(dispatch_id: int) -> list[tuple[int, storing.Group, int, int]]:
    """What has to be added to each tally, or taken away."""
    counts = ", COUNT(*), COUNT(DISTINCT delivery_id) FROM hit"
    tallied = ", ".join(f"'{kind}'" for kind in sorted(storing.TALLIED))
    sql = f"""
        WITH hit AS (SELECT kind, judged, url, delivery_id FROM newsletter_event
            WHERE dispatch_id = %s AND kind IN ({tallied}))
        SELECT kind, judged, url, SUM(hits), SUM(readers) FROM (
            SELECT kind, '' AS judged, '' AS url, COUNT(*) AS hits, COUNT(DISTINCT delivery_id) AS readers FROM hit
            GROUP BY kind
            UNION ALL SELECT kind, judged, '' {counts} GROUP BY kind, judged
            UNION ALL SELECT kind, '', url {counts} WHERE url <> '' GROUP BY kind, url
            UNION ALL SELECT kind, judged, url {counts} WHERE url <> '' GROUP BY kind, judged, url
            UNION ALL SELECT kind, judged, url, -hits, -readers FROM newsletter_tally
            WHERE dispatch_id = %s AND kind IN ({tallied})
        ) AS said GROUP BY kind, judged, url HAVING SUM(hits) <> 0 OR SUM(readers) <> 0
    """  # noqa: S608 - constants
    with connection.cursor() as cursor:
        cursor.execute(sql, [dispatch_id, dispatch_id])
        return [
            (dispatch_id, (kind, judged, url), int(hits), int(readers))
            for kind, judged, url, hits, readers in cursor.fetchall()
        ]


def _differing_deliveries(dispatch_id: int) -> list[int]:
    """Deliveries that note other first times than their rows say. One without rows of a kind keeps its times."""
    differs = "IS DISTINCT FROM" if connection.vendor == "postgresql" else "IS NOT"
    sql = f"""
        SELECT delivery.id FROM newsletter_delivery delivery JOIN (
            SELECT delivery_id,
                MIN(CASE WHEN kind = 'open' THEN at END) AS any_open,
                MIN(CASE WHEN kind = 'open' AND judged = 'person' THEN at END) AS person_open,
                MIN(CASE WHEN kind = 'click' THEN at END) AS any_click,
                MIN(CASE WHEN kind = 'click' AND judged = 'person' THEN at END) AS person_click
            FROM newsletter_event WHERE dispatch_id = %s AND delivery_id IS NOT NULL AND kind IN ('open', 'click')
            GROUP BY delivery_id
        ) AS said ON said.delivery_id = delivery.id
        WHERE any_open IS NOT NULL AND (any_open_at {differs} any_open OR opened_at {differs} person_open)
            OR any_click IS NOT NULL AND (any_click_at {differs} any_click OR clicked_at {differs} person_click)
        ORDER BY delivery.id
    """  # noqa: S608 - constants
    with connection.cursor() as cursor:
        cursor.execute(sql, [dispatch_id])
        return [pk for (pk,) in cursor.fetchall()]


def _note_anew(ids: list[int]) -> int:
    """Write the first times that the rows of these deliveries say; how many had others."""
    with transaction.atomic():
        noted = storing.lock(set(ids))
        hits = Event.objects.filter(delivery__in=ids, kind__in=storing.FIRST_BY_PERSON).values_list("delivery", "kind")
        changed: dict[int, storing.Firsts] = {}
        for delivery, kind, any_at, person_at in hits.annotate(
            any=Min("at"), person=Min("at", filter=Q(judged=Judged.PERSON))
        ).order_by():
            if delivery not in noted:
                continue
            said: dict[str, Any] = {
                storing.FIRST_BY_ANY[kind]: any_at,
                storing.FIRST_BY_PERSON[kind]: person_at,
            }
            if any(noted[delivery][column] != at for column, at in said.items()):
                noted[delivery] |= said
                changed[delivery] = noted[delivery]
        if changed:
            storing.write_firsts(changed)
    return len(changed)
