"""QUEUED -> SENDING for the rows of a chunk; -> SKIPPED for those who may not be written to any more."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Case, CharField, Exists, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, Now
from psycopg.sql import Literal

from newsletter.deliveries import prepared
from newsletter.deliveries.clock import now
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Halt
from subscribers.models import Subscription, exclusion, tier_level_of

Status = Delivery.Status

# What stands in a compiled statement where each call has values of its own.
_BATCH, _ATTEMPT, _TOKEN, _LIMIT = _HOLES = -101, -102, uuid.UUID(int=103), 2**62 + 104


def _filled(params: tuple[Any, ...], values: Mapping[Any, Any]) -> list[Any]:
    """`params` with the values in place of the holes."""
    token = Batch._meta.get_field("lease_token").get_db_prep_value(_TOKEN, connection)
    by_hole = {(token if hole == _TOKEN else hole): value for hole, value in values.items()}
    return [by_hole.get(param, param) for param in params]


def exclusion_now(newsletter_id: int, kind: str) -> Case:
    """For a query over deliveries of a newsletter's dispatch of that kind: why this reader may not be written to now,
    or "".

    A single message answers what the person just asked for, so only their erasure keeps it back.
    """
    subscription = Subscription.objects.filter(subscriber=OuterRef("subscriber"), newsletter=newsletter_id)
    by_reader = exclusion(fingerprint=OuterRef(OuterRef("subscriber__fingerprint")))
    reason = subscription.annotate(exclusion=by_reader).values("exclusion")
    by_subscription = Coalesce(Subquery(reason[:1]), Value("unsubscribed"))
    return Case(
        When(subscriber__address=None, then=Value("erased")),
        default=Value("") if kind == Dispatch.Kind.SINGLE else by_subscription,
        output_field=CharField(),
    )


class Claimed(NamedTuple):
    """A row that `claim` made SENDING, with all that its message needs."""

    pk: int
    tries: int
    address: str
    address_key: str
    name: str
    public_id: int
    tier_level: int  # the one that the reader holds now
    profile_id: int


def claim(batch: Batch, *, attempt: Attempt, limit: int) -> list[Claimed]:
    """Make at most `limit` due deliveries of `batch` SENDING under `attempt`; those that were claimed.

    Only the holder of the batch's lease gets any, only while the dispatch is SENDING and nothing halts the site.
    Whether each reader may still be written to is asked in the same statement; those who may not are SKIPPED with the
    reason.
    """
    sql, params = _claiming(batch.dispatch.newsletter_id, batch.dispatch.kind)
    token = Batch._meta.get_field("lease_token").get_db_prep_value(batch.lease_token, connection)
    given = _filled(params, {_BATCH: batch.pk, _TOKEN: token, _ATTEMPT: attempt.pk, _LIMIT: limit})
    while True:
        with prepared.run(sql, given, dispatch_id=batch.dispatch_id) as cursor:
            moved = cursor.fetchall()
        # In the order of their ids, whatever order the database moved them in.
        rows = sorted((Claimed(*row) for status, *row in moved if status == Status.SENDING), key=lambda row: row.pk)
        if rows and connection.vendor == "sqlite":
            rows = [Claimed(*row) for row in with_messages(Delivery.objects.filter(pk__in=[row.pk for row in rows]))]
        if rows or not moved:
            return rows


@lru_cache(maxsize=256)
def _claiming(newsletter_id: int, kind: str) -> tuple[str, tuple[Any, ...]]:
    """The statement of `claim`, with holes. Compiling it takes the ORM longer than the database needs for a chunk."""
    allowed = Batch.objects.filter(
        ~Exists(Halt.objects.all()),
        pk=_BATCH,
        lease_token=_TOKEN,
        leased_until__gt=Now(),
        dispatch__status=Dispatch.Status.SENDING,
    )
    due = Delivery.objects.due().filter(Exists(allowed), batch=_BATCH)
    due = due.annotate(exclusion=exclusion_now(newsletter_id, kind))
    select, params = with_messages(due, "exclusion")[:_LIMIT].query.sql_with_params()
    # Django writes the limit into the words, and each would be a statement of its own.
    select, params = select.removesuffix(str(_LIMIT)) + "%s", (*params, _LIMIT)
    table = connection.ops.quote_name(Delivery._meta.db_table)
    # CASE, or PostgreSQL may go through the index of all that is queued, a million, for each of the hundred: where its
    # statistics are of an hour when nothing was queued it takes that index to be empty.
    # MATERIALIZED, or PostgreSQL asks for the exclusion anew wherever it stands. What SQLite moved it can only tell by
    # the table's own columns.
    moved = [f"{table}.tries" if name == "tries" else f"due.{name}" for name in Claimed._fields]
    if connection.vendor == "sqlite":
        moved = ["id", *["NULL"] * (len(moved) - 1)]
    sql = f"""
        WITH due ({", ".join(Claimed._fields)}, exclusion) AS MATERIALIZED ({select})
        UPDATE {table} SET
            status = CASE due.exclusion WHEN '' THEN %s ELSE %s END,
            reason = due.exclusion,
            attempt_id = CASE due.exclusion WHEN '' THEN %s ELSE attempt_id END,
            tries = {table}.tries + CASE due.exclusion WHEN '' THEN 1 ELSE 0 END,
            due_at = CASE due.exclusion WHEN '' THEN NULL ELSE due_at END,
            settled_at = CASE due.exclusion WHEN '' THEN settled_at ELSE {now()} END
        FROM due WHERE {table}.id = due.pk AND CASE {table}.status WHEN %s THEN 1 ELSE 0 END = 1
        RETURNING {table}.status, {", ".join(moved)}
    """  # noqa: S608 - own queries and names
    return _with_constants(sql, (*params, Status.SENDING.value, Status.SKIPPED.value, _ATTEMPT, Status.QUEUED.value))


def _with_constants(sql: str, params: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The same with nothing but the holes left as parameters: a plan that is to serve for any value of them could not
    use the index of what is queued if that word were one."""
    if connection.vendor == "sqlite":
        return sql, params
    left = tuple(param for param in params if param in _HOLES)
    written = ["%s" if param in _HOLES else Literal(param).as_string().replace("%", "%%") for param in params]
    return sql.replace("%%", "%%%%") % tuple(written), left


def with_messages(rows: QuerySet[Delivery], *more: str) -> QuerySet[Delivery, tuple[Any, ...]]:
    """`rows` as the fields of Claimed, in their order, and `more`."""
    return (
        rows.annotate(tier_level=tier_level_of("subscriber_id"))
        .order_by("pk")
        .values_list(
            "pk",
            "tries",
            "subscriber__address",
            "subscriber__address_key",
            "subscriber__name",
            "subscriber__public_id",
            "tier_level",
            "profile_id",
            *more,
        )
    )
