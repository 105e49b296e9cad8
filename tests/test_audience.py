"""Who gets a dispatch: the snapshot accounts for everybody, once."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from django.db import connection
from django.utils import timezone

from newsletter import audience
from newsletter.models import Batch, Delivery, Dispatch, DispatchProfile, Newsletter, Revision
from newsletter.settings import ENV
from subscribers import consent, tiers
from subscribers.models import Membership, Subscriber, Subscription, Suppression, Tier
from tests.making import make_dispatch, make_issue, make_newsletter, make_reader, make_subscriber

pytestmark = pytest.mark.django_db

Status = Subscription.Status


def preparing(newsletter: Newsletter) -> Dispatch:
    issue = make_issue(newsletter)
    revision = Revision.objects.create(issue=issue, data=issue.content().as_json())
    return Dispatch.objects.create(
        newsletter=newsletter, issue=issue, revision=revision, status=Dispatch.Status.PREPARING
    )


def freeze(newsletter: Newsletter, *, batch_size: int = 100) -> Dispatch:
    dispatch = preparing(newsletter)
    assert audience.snapshot(dispatch, batch_size=batch_size)
    dispatch.refresh_from_db()
    return dispatch


def test_candidates_are_deliveries_and_exclusions_by_reason() -> None:
    weekly = make_newsletter()
    for status in (Status.ACTIVE, Status.ACTIVE, Status.PENDING, Status.PAUSED, Status.UNSUBSCRIBED):
        make_reader(weekly, status=status)
    suppressed = make_reader(weekly).subscriber
    consent.suppress(suppressed.fingerprint, reason=Suppression.Reason.COMPLAINT, source="test")

    dispatch = freeze(weekly)

    assert dispatch.candidates == 6
    assert dispatch.exclusions == {"paused": 1, "pending": 1, "suppressed": 1, "unsubscribed": 1}
    assert dispatch.deliveries.count() == 2


def test_a_suppression_for_another_newsletter_does_not_exclude() -> None:
    weekly, daily = make_newsletter(), make_newsletter(slug="daily")
    reader = make_reader(weekly).subscriber
    consent.suppress(reader.fingerprint, reason=Suppression.Reason.MANUAL, newsletter=daily, source="test")
    assert freeze(weekly).deliveries.count() == 1
    consent.suppress(reader.fingerprint, reason=Suppression.Reason.MANUAL, newsletter=weekly, source="test")
    assert freeze(weekly).exclusions == {"suppressed": 1}


def test_each_reader_profile_that_occurs_is_listed_once() -> None:
    weekly = make_newsletter()
    make_reader(weekly)
    make_reader(weekly)
    make_reader(weekly, tier="paid")
    make_reader(weekly, muted="3,7")
    off = make_reader(weekly).subscriber
    Subscriber.objects.filter(pk=off.pk).update(tracking=Subscriber.Tracking.OFF)

    dispatch = freeze(weekly)

    found = set(dispatch.profiles.values_list("tier_level", "muted", "tracking"))
    assert found == {(0, "", "individual"), (1, "", "individual"), (0, "3,7", "individual"), (0, "", "off")}
    assert Delivery.objects.get(subscriber=off).profile.tracking == "off"


def test_the_highest_membership_that_counts_now_gives_the_tier() -> None:
    tiers.ensure_default()
    weekly, now = make_newsletter(), timezone.now()
    reader = make_reader(weekly, tier="paid").subscriber
    founding = Tier.objects.get(slug="founding")
    day = dt.timedelta(days=1)
    Membership.objects.create(subscriber=reader, tier=founding, starts_at=now - 2 * day, ends_at=now - day)
    Membership.objects.create(subscriber=reader, tier=founding, starts_at=now + day)
    assert freeze(weekly).profiles.get().tier_level == 1


def test_a_newsletter_without_tracking_tracks_nobody() -> None:
    weekly = make_newsletter(tracking=Newsletter.Tracking.OFF)
    make_reader(weekly)
    assert freeze(weekly).profiles.get().tracking == "off"


def test_batches_hold_at_most_their_size_and_everybody_once() -> None:
    weekly = make_newsletter()
    for _ in range(7):
        make_reader(weekly)
    dispatch = freeze(weekly, batch_size=3)
    sizes = [Delivery.objects.filter(batch=batch).count() for batch in Batch.objects.order_by("number")]
    assert sizes == [3, 3, 1]
    assert dispatch.deliveries.values("subscriber").distinct().count() == 7


def test_the_database_knows_of_what_is_queued_once_a_large_issue_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it takes nothing for queued it looks for that in ways that take seconds where it is a million."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite plans by other rules")
    monkeypatch.setitem(ENV.__dict__, "batch_size", 3)
    make_dispatch(make_newsletter(), readers=7)
    known = "SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'newsletter_delivery'"
    with connection.cursor() as cursor:
        cursor.execute(f"{known} AND attname = 'status'")
        assert cursor.fetchall() == [("{queued}",)]


def test_a_snapshot_is_taken_once() -> None:
    weekly = make_newsletter()
    make_reader(weekly)
    dispatch = freeze(weekly)
    make_reader(weekly)
    assert not audience.snapshot(dispatch, batch_size=100)
    assert dispatch.deliveries.count() == 1


def test_an_empty_audience_is_a_snapshot_too() -> None:
    dispatch = freeze(make_newsletter())
    assert (dispatch.candidates, dispatch.exclusions, dispatch.deliveries.count()) == (0, {}, 0)


def test_a_person_without_a_subscription_is_no_candidate() -> None:
    make_subscriber()
    assert freeze(make_newsletter()).candidates == 0


def test_a_lost_candidate_keeps_nothing_of_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    weekly = make_newsletter()
    make_reader(weekly)
    dispatch = preparing(weekly)
    monkeypatch.setattr(audience, "_insert_deliveries", lambda *_: 0)
    with pytest.raises(audience.SumsDisagree):
        audience.snapshot(dispatch, batch_size=100)
    dispatch.refresh_from_db()
    assert dispatch.snapshot_at is None
    assert not DispatchProfile.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_that_snapshot_at_once_one_does() -> None:
    weekly = make_newsletter()
    for _ in range(20):
        make_reader(weekly)
    dispatch = preparing(weekly)
    gate, results = threading.Barrier(2), []

    def snapshot() -> None:
        gate.wait()
        results.append(audience.snapshot(dispatch, batch_size=7))
        connection.close()

    threads = [threading.Thread(target=snapshot) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]
    assert dispatch.deliveries.count() == 20
