"""Who gets a dispatch: the snapshot that freezes readers into deliveries and batches.

Whether a reader may be written to is `subscribers.models.exclusion`'s rule; which section they see is the gate's. Here
they are only listed, with the profile that the gate will be asked about.
"""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from newsletter import allowed
from newsletter.content import TrackingMode
from newsletter.models import Batch, Delivery, Dispatch, DispatchProfile, Newsletter
from subscribers.models import FREE_LEVEL, Membership, Subscriber, Subscription, exclusion


class SumsDisagree(RuntimeError):
    """The snapshot did not account for every candidate; nothing of it was kept."""


def candidates(newsletter: Newsletter) -> QuerySet[Subscription, Any]:
    """Everyone with a subscription to `newsletter`: subscriber_id, exclusion ("" where mail may go), muted, text_only
    and tracking, the last three being the reader's profile but for the tier."""
    tracking = Case(
        *(
            When(
                subscriber__tracking=choice,
                then=Value(allowed.tracking(newsletter.tracking, newsletter.ask_first, choice).value),
            )
            for choice in Subscriber.Tracking
        ),
        default=Value(TrackingMode.OFF.value),
    )
    return (
        Subscription.objects.filter(newsletter=newsletter)
        .annotate(
            exclusion=exclusion(everybody=True),
            text_only=F("subscriber__text_only"),
            reader_tracking=tracking,
        )
        .values_list("subscriber_id", "exclusion", "muted", "text_only", "reader_tracking")
    )


def snapshot(dispatch: Dispatch, *, batch_size: int) -> bool:
    """Freeze the audience of `dispatch` into deliveries of `batch_size` to a batch; True where this call did it.

    One transaction that takes the dispatch's row first, so of two workers one waits and then finds it done. Candidates
    are listed once into a temporary table, and all else comes from there: a reader who joins meanwhile is either in
    every count or in none. Raises SumsDisagree, keeping nothing, if a candidate were lost.
    """
    due = Dispatch.objects.filter(pk=dispatch.pk, status=Dispatch.Status.PREPARING, snapshot_at=None)
    with transaction.atomic():
        if not due.update(snapshot_at=Now()):
            return False
        excluded = _list_readers(dispatch.newsletter)
        included = excluded.pop("", 0)
        _insert_profiles(dispatch)
        _insert_batches(dispatch, -(-included // batch_size))
        inserted = _insert_deliveries(dispatch, batch_size)
        if inserted != included:
            raise SumsDisagree(f"Dispatch {dispatch.pk}: {included} readers but {inserted} deliveries; nothing kept.")
        Dispatch.objects.filter(pk=dispatch.pk).update(
            candidates=included + sum(excluded.values()), exclusions=excluded
        )
    return True


def note_sizes() -> None:
    """Have PostgreSQL look at the deliveries as they are now, unless it does already.

    What it knew was true while nothing was queued. Until it looks by itself, a minute or more, it would look for a
    chunk, and every second for what is due, in ways that are good for a handful of rows.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE (SKIP_LOCKED) {connection.ops.quote_name(Delivery._meta.db_table)}")


def _list_readers(newsletter: Newsletter) -> dict[str, int]:
    everyone, params = candidates(newsletter).query.sql_with_params()
    levels, more_params = Membership.objects.levels().query.sql_with_params()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL jit = off")  # compiling these statements takes longer than it saves
        cursor.execute("DROP TABLE IF EXISTS snapshot_reader")
        cursor.execute(
            "CREATE TEMPORARY TABLE snapshot_reader (subscriber_id bigint, exclusion varchar(20),"
            " muted text, text_only boolean, tracking varchar(10), tier_level smallint)"
        )
        cursor.execute(
            f"""
            WITH reader (subscriber_id, exclusion, muted, text_only, tracking) AS ({everyone}),
                held (subscriber_id, level) AS ({levels})
            INSERT INTO snapshot_reader
            SELECT reader.*, coalesce(held.level, {FREE_LEVEL}) FROM reader
            LEFT JOIN held ON held.subscriber_id = reader.subscriber_id
            """,  # noqa: S608 - own queries
            [*params, *more_params],
        )
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE snapshot_reader")
        cursor.execute("SELECT exclusion, count(*) FROM snapshot_reader GROUP BY exclusion ORDER BY exclusion")
        return dict(cursor.fetchall())


def _insert_profiles(dispatch: Dispatch) -> None:
    profile = connection.ops.quote_name(DispatchProfile._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {profile} (dispatch_id, tier_level, muted, text_only, tracking, readers)"  # noqa: S608 - own names
            " SELECT %s, tier_level, muted, text_only, tracking, count(*) FROM snapshot_reader WHERE exclusion = ''"
            " GROUP BY tier_level, muted, text_only, tracking",
            [dispatch.pk],
        )


def _insert_batches(dispatch: Dispatch, count: int) -> None:
    """`count` batches, which begin evenly spread over the time that the dispatch is to take."""
    start = timezone.now()
    Batch.objects.bulk_create(
        [
            Batch(
                dispatch=dispatch,
                number=index + 1,
                due_at=start + dispatch.spread * index / count if dispatch.spread else None,
            )
            for index in range(count)
        ],
        batch_size=1000,
    )


def _insert_deliveries(dispatch: Dispatch, batch_size: int) -> int:
    delivery, profile, batch = (
        connection.ops.quote_name(model._meta.db_table) for model in (Delivery, DispatchProfile, Batch)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO {delivery}
                (dispatch_id, subscriber_id, profile_id, batch_id, status, reason, tries, reply, provider_id)
            SELECT %(dispatch)s, reader.subscriber_id, profile.id, batch.id, %(queued)s, '', 0, '', ''
            FROM (
                SELECT *, (row_number() OVER (ORDER BY subscriber_id) - 1) / %(batch_size)s + 1 AS batch_number
                FROM snapshot_reader WHERE exclusion = ''
            ) reader
            JOIN {profile} profile ON profile.dispatch_id = %(dispatch)s AND profile.tier_level = reader.tier_level
                AND profile.muted = reader.muted AND profile.text_only = reader.text_only
                AND profile.tracking = reader.tracking
            JOIN {batch} batch ON batch.dispatch_id = %(dispatch)s AND batch.number = reader.batch_number
            """,  # noqa: S608 - own names
            {"dispatch": dispatch.pk, "queued": Delivery.Status.QUEUED.value, "batch_size": batch_size},
        )
        inserted: int = cursor.rowcount
        cursor.execute("DROP TABLE snapshot_reader")
    return inserted
