"""Every change of Dispatch.status: who may make it, and what a clock means."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from newsletter import scheduling, sending
from newsletter.models import Batch, Delivery, Dispatch, Issue, Section
from newsletter.scheduling import NotNow
from subscribers.models import Tier
from tests.making import issue_of, make_dispatch, make_issue, make_newsletter, make_reader

pytestmark = pytest.mark.django_db

Status = Dispatch.Status
HOUR = dt.timedelta(hours=1)


def later() -> dt.datetime:
    return timezone.now() + HOUR


def status_of(dispatch: Dispatch) -> str:
    dispatch.refresh_from_db()
    return dispatch.status


# The clock


@pytest.mark.parametrize(
    ("zone", "wall", "utc"),
    [
        ("America/New_York", "2027-03-14T02:30", "2027-03-14T07:30"),  # skipped: moved on by the gap
        ("Europe/Berlin", "2027-03-28T02:30", "2027-03-28T01:30"),
        ("Africa/Cairo", "2026-04-24T00:30", "2026-04-23T22:30"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:45"),
        ("Pacific/Apia", "2011-12-30T09:00", "2011-12-30T19:00"),
        ("America/New_York", "2026-11-01T01:30", "2026-11-01T05:30"),  # twice: the first
        ("Australia/Lord_Howe", "2027-04-04T01:45", "2027-04-03T14:45"),
        ("Asia/Kathmandu", "2026-11-22T08:00", "2026-11-22T02:15"),
    ],
)
def test_a_wall_time_means_one_instant(zone: str, wall: str, utc: str) -> None:
    instant = scheduling.resolve(dt.datetime.fromisoformat(wall), zone)
    assert instant == dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)


@given(
    st.datetimes(min_value=dt.datetime(2020, 1, 1), max_value=dt.datetime(2035, 1, 1)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_an_instant_survives_being_written_as_wall_time(instant: dt.datetime, zone: str) -> None:
    instant = instant.replace(tzinfo=dt.UTC)
    assert scheduling.resolve(scheduling.wall_time_in(instant, zone), zone) == instant


def test_an_instant_in_the_second_of_two_hours_is_kept() -> None:
    weekly = make_newsletter(time_zone="America/New_York")
    instant = dt.datetime(2037, 11, 1, 6, 30, tzinfo=dt.UTC)  # 01:30 for the second time
    dispatch = scheduling.schedule(make_issue(weekly), instant)
    scheduling.start_due()
    dispatch.refresh_from_db()
    assert dispatch.due_at == instant
    assert dispatch.wall_time == dt.datetime(2037, 11, 1, 1, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("instant", "said"),
    [
        (dt.datetime(2026, 11, 1, 5, 30, tzinfo=dt.UTC), "Sun 1 Nov 2026, 01:30 EDT (first of two)"),
        (dt.datetime(2026, 11, 1, 6, 30, tzinfo=dt.UTC), "Sun 1 Nov 2026, 01:30 EST (second of two)"),
        (dt.datetime(2026, 12, 24, 13, 0, tzinfo=dt.UTC), "Thu 24 Dec 2026, 08:00 EST"),
    ],
)
def test_a_time_is_said_as_people_say_it(instant: dt.datetime, said: str) -> None:
    assert scheduling.when(Dispatch(due_at=instant, time_zone="America/New_York")) == said


def test_the_wall_time_stays_when_the_rules_of_its_zone_change() -> None:
    weekly = make_newsletter(time_zone="Europe/Berlin")
    dispatch = scheduling.schedule(make_issue(weekly), dt.datetime(2037, 6, 1, 8, 0))
    Dispatch.objects.filter(pk=dispatch.pk).update(due_at=F("due_at") + HOUR)  # as other rules had it
    scheduling.start_due()
    dispatch.refresh_from_db()
    assert dispatch.due_at == dt.datetime(2037, 6, 1, 6, 0, tzinfo=dt.UTC)


# The states


def test_a_schedule_pins_the_content() -> None:
    issue = make_issue(make_newsletter())
    dispatch = scheduling.schedule(issue, later())
    Section.objects.filter(issue=issue).update(body="Changed my mind.")
    assert "Changed" not in str(dispatch.revision.data)


def test_an_issue_is_scheduled_once() -> None:
    issue = make_issue(make_newsletter())
    scheduling.schedule(issue, later())
    with pytest.raises(NotNow, match="is scheduled: unschedule it first"):
        scheduling.schedule(issue, later())


def test_who_pauses_what_has_not_started_hears_how_its_schedule_is_taken_back() -> None:
    dispatch = scheduling.schedule(make_issue(make_newsletter()), later())
    with pytest.raises(CommandError, match=r"has not started.+`manage.py unschedule_issue`"):
        call_command("pause_issue", str(dispatch.issue_id))
    with pytest.raises(NotNow, match="“Unschedule” on its page"):
        scheduling.pause(dispatch, "Wait.")
    scheduling.unschedule(dispatch)
    with pytest.raises(NotNow, match="Only a dispatch that is being sent"):
        scheduling.pause(dispatch, "Wait.")


def test_the_database_refuses_two_live_dispatches_of_an_issue() -> None:
    dispatch = scheduling.schedule(make_issue(make_newsletter()), later())
    with pytest.raises(IntegrityError), transaction.atomic():
        Dispatch.objects.create(newsletter=dispatch.newsletter, issue=dispatch.issue, revision=dispatch.revision)


def test_a_time_that_has_passed_is_refused() -> None:
    with pytest.raises(NotNow, match="has passed"):
        scheduling.schedule(make_issue(make_newsletter()), timezone.now() - HOUR)


def test_an_unknown_merge_field_stops_the_scheduling() -> None:
    issue = make_issue(make_newsletter())
    Section.objects.filter(issue=issue, heading="News").update(body="Dear {{ nmae }},")
    with pytest.raises(NotNow, match="nmae"):
        scheduling.schedule(issue)
    assert not Dispatch.objects.exists()


def test_an_issue_without_sections_is_refused() -> None:
    issue = Issue.objects.create(newsletter=make_newsletter(), title="Empty", subject="Empty")
    with pytest.raises(NotNow, match="no sections"):
        scheduling.schedule(issue)


def test_unscheduling_makes_a_draft_that_can_be_scheduled_again() -> None:
    issue = make_issue(make_newsletter())
    dispatch = scheduling.schedule(issue, later())
    scheduling.unschedule(dispatch)
    assert status_of(dispatch) == Status.DRAFT
    assert scheduling.schedule(issue, later()).pk == dispatch.pk
    assert status_of(dispatch) == Status.SCHEDULED


def test_what_has_started_cannot_be_unscheduled() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    with pytest.raises(NotNow, match="pause or cancel"):
        scheduling.unschedule(dispatch)


def test_a_dispatch_starts_when_its_time_has_come_and_not_before() -> None:
    dispatch = scheduling.schedule(make_issue(make_newsletter()), later())
    scheduling.start_due()
    assert status_of(dispatch) == Status.SCHEDULED
    past = timezone.now() - dt.timedelta(minutes=5)
    Dispatch.objects.filter(pk=dispatch.pk).update(wall_time=past)
    scheduling.start_due()
    assert status_of(dispatch) == Status.PREPARING


def test_a_dispatch_that_is_hours_late_asks_a_human() -> None:
    issue = make_issue(make_newsletter())
    dispatch = scheduling.schedule(issue, later())
    Dispatch.objects.filter(pk=dispatch.pk).update(wall_time=timezone.now() - scheduling.GRACE - HOUR)
    scheduling.start_due()
    assert status_of(dispatch) == Status.MISSED
    scheduling.schedule(issue, later())
    assert status_of(dispatch) == Status.SCHEDULED


@pytest.mark.django_db(transaction=True)
def test_two_beats_start_and_prepare_a_dispatch_once() -> None:
    weekly = make_newsletter()
    for _ in range(5):
        make_reader(weekly)
    dispatch = scheduling.schedule(make_issue(weekly))
    barrier = threading.Barrier(2)

    def beat() -> None:
        barrier.wait()
        scheduling.start_due()
        scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
        connection.close()

    beats = [threading.Thread(target=beat) for _ in range(2)]
    for thread in beats:
        thread.start()
    for thread in beats:
        thread.join()
    scheduling.prepare(dispatch)
    assert status_of(dispatch) == Status.SENDING
    assert dispatch.deliveries.count() == 5


def test_a_crash_between_start_and_snapshot_is_made_good() -> None:
    weekly = make_newsletter()
    make_reader(weekly)
    dispatch = scheduling.schedule(make_issue(weekly))
    scheduling.start_due()
    # The worker took its lease and died.
    lease = {"lease_token": "1" * 32, "leased_until": timezone.now() + HOUR}
    Dispatch.objects.filter(pk=dispatch.pk).update(**lease)
    scheduling.prepare(dispatch)
    assert status_of(dispatch) == Status.PREPARING
    assert scheduling.to_prepare() == []
    Dispatch.objects.filter(pk=dispatch.pk).update(leased_until=timezone.now() - HOUR)
    assert scheduling.to_prepare() == [dispatch.pk]
    scheduling.prepare(dispatch)
    assert status_of(dispatch) == Status.SENDING
    assert dispatch.deliveries.count() == 1


def test_an_issue_that_cannot_be_rendered_is_paused_with_the_reason() -> None:
    weekly = make_newsletter()
    make_reader(weekly)
    dispatch = scheduling.schedule(make_issue(weekly))
    revision = dispatch.revision
    revision.data["sections"][0]["body"] = "{{ nonsense }}"
    revision.save(update_fields=["data"])
    scheduling.start_due()
    scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
    assert status_of(dispatch) == Status.PAUSED
    assert "nonsense" in dispatch.pause_reason
    revision.data["sections"][0]["body"] = "Mended."
    revision.save(update_fields=["data"])
    scheduling.resume(dispatch)
    assert status_of(dispatch) == Status.PREPARING
    scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
    assert status_of(dispatch) == Status.SENDING


def test_a_paused_dispatch_rings_nothing_and_goes_on_where_it_was() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    (rung,) = scheduling.to_ring()
    scheduling.pause(dispatch, "Paused by hand.")
    assert scheduling.to_ring() == []
    assert not sending.send_batch(Batch.objects.get(pk=rung)).claimed
    scheduling.resume(dispatch)
    assert status_of(dispatch) == Status.SENDING
    assert scheduling.to_ring() == [rung]


def test_what_is_tried_again_is_rung_at_once() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    rung = scheduling.to_ring()
    dispatch.deliveries.update(status="failed", tries=1)
    scheduling.finish()
    assert scheduling.retry_failed(dispatch) == 1
    assert scheduling.to_ring() == rung


def test_a_batch_is_rung_once_in_a_lease_time() -> None:
    make_dispatch(make_newsletter(), readers=1)
    assert len(scheduling.to_ring()) == 1
    assert scheduling.to_ring() == []


def test_cancelling_skips_what_is_queued() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    scheduling.cancel(dispatch)
    assert status_of(dispatch) == Status.CANCELLED
    assert set(dispatch.deliveries.values_list("status", "reason")) == {("skipped", "cancelled")}
    with pytest.raises(NotNow, match="ended"):
        scheduling.cancel(dispatch)


def test_an_issue_cancelled_before_anything_left_can_be_scheduled_again() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    scheduling.cancel(dispatch)
    assert scheduling.schedule(issue_of(dispatch), later()).pk != dispatch.pk


def test_an_issue_cancelled_after_some_had_it_is_never_sent_again() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    first = dispatch.deliveries.order_by("pk")[:1].values("pk")
    Delivery.objects.filter(pk__in=first).update(status="sent", tries=1)
    scheduling.cancel(dispatch)
    with pytest.raises(NotNow, match="some readers have it"):
        scheduling.schedule(issue_of(dispatch), later())


def test_sent_needs_agreeing_sums() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    dispatch.deliveries.update(status="sent", tries=1)
    lost = dispatch.deliveries.order_by("pk")[:1].values("pk")
    Delivery.objects.filter(pk__in=lost).delete()
    scheduling.finish()
    assert status_of(dispatch) == Status.PAUSED
    assert "2 candidates only 1" in dispatch.pause_reason


def test_a_dispatch_is_not_sent_while_something_is_left() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    one = dispatch.deliveries.order_by("pk")[:1].values("pk")
    Delivery.objects.filter(pk__in=one).update(status="sent", tries=1)
    scheduling.finish()
    assert status_of(dispatch) == Status.SENDING


def test_resending_what_is_in_doubt_opens_a_sent_dispatch_again() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    dispatch.deliveries.update(status="unconfirmed", tries=1)
    scheduling.finish()
    assert status_of(dispatch) == Status.SENT
    assert scheduling.resend_unconfirmed(dispatch) == 2
    assert status_of(dispatch) == Status.SENDING
    assert set(dispatch.deliveries.values_list("status", flat=True)) == {"queued"}


def test_accepting_what_is_in_doubt_settles_it() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    dispatch.deliveries.update(status="unconfirmed", tries=1)
    scheduling.finish()
    assert scheduling.accept_unconfirmed(dispatch) == 2
    assert status_of(dispatch) == Status.SENT
    assert set(dispatch.deliveries.values_list("status", flat=True)) == {"sent"}


def test_a_deleted_tier_leaves_its_sections_to_nobody() -> None:
    weekly = make_newsletter()
    issue = make_issue(weekly, paid="Secret words")
    make_reader(weekly)
    Tier.objects.get(slug="paid").delete()
    dispatch = scheduling.schedule(issue)
    scheduling.start_due()
    scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
    assert status_of(dispatch) == Status.SENDING
    assert not any("Secret words" in str(variant.data) for variant in dispatch.variants.all())


def test_a_newsletter_without_readers_waits_for_some() -> None:
    weekly = make_newsletter()
    dispatch = scheduling.schedule(make_issue(weekly))
    scheduling.start_due()
    scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
    assert status_of(dispatch) == Status.PAUSED
    assert "has no readers" in dispatch.pause_reason
    make_reader(weekly)
    scheduling.resume(dispatch)
    scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
    assert status_of(dispatch) == Status.SENDING
    assert dispatch.deliveries.count() == 1


def test_what_is_not_scheduled_cannot_be_unscheduled() -> None:
    dispatch = scheduling.schedule(make_issue(make_newsletter()), later())
    scheduling.unschedule(dispatch)
    with pytest.raises(NotNow, match="not scheduled"):
        scheduling.unschedule(dispatch)
