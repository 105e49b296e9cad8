"""How often a delivery was accepted. The first accept stands in its row; each further one is a Breach of its own.

Counted from what transports answered and what events say, never from the status: where an author decided that, nothing
is known here until somebody who had the mail says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection, transaction

from newsletter.deliveries import given
from newsletter.deliveries.clock import now
from newsletter.models import Breach, Delivery

Status = Delivery.Status
OPEN = (Status.SENDING, Status.UNCONFIRMED)
# A late accept also settles a row that the author had queued again and nobody has claimed since: one mail is enough.
# And one that a bounce had settled: whoever sent it back had taken it.
TAKEN_FROM = (*OPEN, Status.QUEUED, Status.FAILED)


class Message(NamedTuple):
    """One message that was taken: in which attempt (its id; 0: nobody knows), under which of the provider's own ids (""
    where it is not known)."""

    attempt: int = 0
    provider_id: str = ""

    def may_be(self, other: Message) -> bool:
        """Whether nothing that is known of both tells them apart."""
        return all(mine == theirs or not (mine and theirs) for mine, theirs in zip(self, other, strict=True))

    def with_what_is_known_of(self, other: Message) -> Message:
        """The same message, from both."""
        return Message(self.attempt or other.attempt, self.provider_id or other.provider_id)


class Told(NamedTuple):
    """That a delivery (by id) was accepted as `message`; `reply` is what the transport answered, None where it was no
    transport that told."""

    delivery_id: int
    message: Message
    reply: str | None = None


@dataclass(slots=True)
class _Row:
    """What matters here of a delivery: a model of each of a thousand takes longer than all that is done with them."""

    pk: int
    dispatch_id: int
    attempt_id: int | None
    status: str
    accepted_by: int | None
    provider_id: str
    reply: str


def find(known: Sequence[Message], told: Message) -> int | None:
    """Which of `known` is `told`; None where it can be none of them.

    Whoever knows a message by its attempt seldom knows its id, and the other way round. So two are taken for one unless
    something tells them apart: there are never found more than there were.
    """
    alike = [index for index, message in enumerate(known) if message.may_be(told)]
    # The id tells more than the attempt, and both more than nothing.
    return max(
        alike,
        key=lambda index: (
            known[index].provider_id == told.provider_id != "",
            known[index].attempt == told.attempt != 0,
            -index,
        ),
        default=None,
    )


def note(told: Iterable[Told], *, doubts_alone: bool = False) -> int:
    """Write down that these were accepted, each message once however often it is told; how many became SENT by it.

    An answer settles a row of its own attempt, any other word every row that was handed over; with `doubts_alone` only
    what is UNCONFIRMED is looked at. The rows are locked in the order of their ids.
    """
    by_delivery: defaultdict[int, list[Told]] = defaultdict(list)
    for each in told:
        by_delivery[each.delivery_id].append(each)
    if not by_delivery:
        return 0
    with transaction.atomic():
        handed_over = Delivery.objects.filter(pk__in=given.ids(by_delivery), tries__gt=0)
        if doubts_alone:
            handed_over = handed_over.filter(status=Status.UNCONFIRMED)
        held = handed_over.select_for_update(no_key=True).order_by("pk")
        rows = [_Row(*values) for values in held.values_list(*_Row.__slots__)]
        further: defaultdict[int, list[Breach]] = defaultdict(list)
        for breach in Breach.objects.filter(delivery__in=given.ids(row.pk for row in rows)).order_by("pk"):
            assert breach.delivery_id is not None  # noqa: S101 - found by it
            further[breach.delivery_id].append(breach)
        before = {row.pk: _told_of(row) for row in rows}
        for row in rows:
            for each in by_delivery[row.pk]:
                _count(row, further[row.pk], each.message)
                _settle(row, each)
        changed = [row for row in rows if _told_of(row) != before[row.pk]]
        settled = {row.pk for row in changed if row.status != before[row.pk][0]}
        _store(changed, settled)
        return len(settled)


def _store(rows: Sequence[_Row], settled: Container[int]) -> None:
    """Write what was told of `rows`, of which those in `settled` (ids) came to their status by it."""
    if not rows:
        return
    table = connection.ops.quote_name(Delivery._meta.db_table)
    written = ("accepted_by", "provider_id", "status", "reply")
    columns = {**given.types_of(Delivery, ["id", *written]), "settled": "integer"}
    values = [
        {"id": row.pk, "settled": int(row.pk in settled), **{name: getattr(row, name) for name in written}}
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE {table} SET {", ".join(f"{name} = given.{name}" for name in written)},
                settled_at = CASE given.settled WHEN 1 THEN {now()} ELSE settled_at END
            FROM {given.table(columns)} WHERE {table}.id = given.id
            """,  # noqa: S608 - own names
            [given.rows(values)],
        )


def _told_of(row: _Row) -> tuple[str, int | None, str]:
    return row.status, row.accepted_by, row.provider_id


def _settle(row: _Row, told: Told) -> None:
    if row.status in TAKEN_FROM and told.message.attempt in (0, row.attempt_id):
        row.status = Status.SENT
        row.reply = row.reply if told.reply is None else told.reply


def _count(row: _Row, further: list[Breach], told: Message) -> None:
    """Fill in what `told` says of a message that is known, or add it to those that are."""
    is_known = row.accepted_by is not None or row.provider_id != ""
    first = [Message(row.accepted_by or 0, row.provider_id)] if is_known else []
    known = [*first, *(Message(breach.attempt, breach.provider_id) for breach in further)]
    found = find(known, told)
    if found is None and known:
        breach = Breach(
            dispatch_id=row.dispatch_id, delivery_id=row.pk, attempt=told.attempt, provider_id=told.provider_id
        )
        breach.save()
        further.append(breach)
    elif found:
        breach = further[found - 1]
        breach.attempt, breach.provider_id = known[found].with_what_is_known_of(told)
        breach.save(update_fields=["attempt", "provider_id"])
    else:
        row.accepted_by, row.provider_id = told if found is None else known[0].with_what_is_known_of(told)
