"""An attempt begun, counted and closed. Written by hand, since it is done for every chunk: compiling these two takes
the ORM six times as long as the database needs for them."""

from __future__ import annotations

import uuid

from django.db import connection

from newsletter.deliveries import prepared
from newsletter.deliveries.clock import now
from newsletter.models import Attempt, Batch


def begin(batch: Batch, *, worker: str, transport: str, key: uuid.UUID) -> Attempt:
    """A new attempt of `worker` to hand a chunk of `batch` over by `transport`, under the idempotency key `key`.

    Until the transaction ends nobody can take the lease of `batch` back.
    """
    given = [worker, transport, Attempt._meta.get_field("idempotency_key").get_db_prep_value(key, connection), batch.pk]
    # PostgreSQL looks for the batch itself, and locks it, only at the COMMIT. Were the lease taken back before that,
    # nobody would see the rows of this chunk then, and they be SENDING for ever.
    locked = "FOR KEY SHARE" if connection.vendor == "postgresql" else ""
    sql = f"""
        INSERT INTO {_table()} (batch_id, worker, transport, idempotency_key, accepted, calls)
        SELECT id, %s, %s, %s, 0, '[]' FROM {connection.ops.quote_name(Batch._meta.db_table)} WHERE id = %s {locked}
        RETURNING *
    """  # noqa: S608 - own names
    attempt = Attempt.objects.raw(sql, given)[0]
    attempt.batch = batch
    return attempt


def count(attempt: Attempt, *, accepted: int, last: bool) -> bool:
    """Note that so many of `attempt` were accepted by now, and close it where that was the `last` to be known; whether
    it was open."""
    # The same calls may have been made again meanwhile, and their answers be counted.
    sql = f"""
        UPDATE {_table()} SET accepted = CASE WHEN accepted < %s THEN %s ELSE accepted END,
            finished_at = CASE WHEN %s THEN {now()} END
        WHERE id = %s AND finished_at IS NULL
    """  # noqa: S608 - own names
    params = [accepted, accepted, last, attempt.pk]
    with prepared.run(sql, params, dispatch_id=attempt.batch.dispatch_id) as cursor:
        return bool(cursor.rowcount)


def _table() -> str:
    return connection.ops.quote_name(Attempt._meta.db_table)
