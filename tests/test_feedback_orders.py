"""What comes back late, twice or in another order: a later word stands, and the end is the same."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletter import feedback, invariants
from newsletter.models import Attempt, Delivery, Dispatch, Event, Newsletter
from subscribers import consent
from subscribers.models import ConsentRecord, Subscription, Suppression
from tests.feeding import is_active, issues_of, make_delivery, make_notice, put, suppressions, write
from tests.making import make_dispatch, make_newsletter, make_subscriber

Kind, Status, Verdict = Event.Kind, Delivery.Status, Delivery.Verdict


def consented(delivery: Delivery, action: ConsentRecord.Action, *, minutes_ago: int, **fields: Any) -> None:
    newsletter = fields.pop("newsletter", delivery.dispatch.newsletter)
    record = ConsentRecord.objects.create(
        subscriber=delivery.subscriber, newsletter=newsletter, action=action, source="form", **fields
    )
    at = timezone.now() - dt.timedelta(minutes=minutes_ago)
    ConsentRecord.objects.filter(pk=record.pk).update(at=at)


def ago(minutes: int) -> dt.datetime:
    return timezone.now() - dt.timedelta(minutes=minutes)


@pytest.mark.django_db
def test_a_late_notice_does_not_suppress_an_address_that_was_let_in_since() -> None:
    delivery = make_delivery()
    write(Kind.BOUNCE, delivery, at=ago(30))
    consent.lift(Suppression.objects.get(), reason="She wrote from there.", source="staff 1")
    write(Kind.BOUNCE, delivery, at=ago(20), source="mail")
    assert suppressions(delivery) == []
    next_one = put(make_dispatch(delivery.dispatch.newsletter).deliveries.get(), status=Status.SENT)
    write(Kind.BOUNCE, next_one)
    assert suppressions(delivery) == ["hard bounce"]


@pytest.mark.django_db
def test_the_same_bounce_by_another_way_suppresses_nobody_whom_the_author_let_in_again() -> None:
    delivery = make_delivery()
    write(Kind.BOUNCE, delivery, at=ago(30), source="amazon_ses")
    consent.lift(Suppression.objects.get(), reason="She wrote from there.", source="staff 1")
    write(Kind.BOUNCE, delivery, source="mail")
    assert suppressions(delivery) == []
    Attempt.objects.filter(deliveries=delivery).update(started_at=timezone.now())
    write(Kind.BOUNCE, delivery, source="mail")
    assert suppressions(delivery) == ["hard bounce"], "it was tried again"


@pytest.mark.django_db
def test_a_reader_who_once_moved_is_suppressed_by_the_address_they_have_now() -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    consented(delivery, ConsentRecord.Action.ADDRESS_CHANGED, minutes_ago=5)
    feedback.write_notices([make_notice(Kind.BOUNCE, fingerprint=delivery.subscriber.fingerprint)])
    assert suppressions(delivery) == ["hard bounce"]


@pytest.mark.django_db
def test_a_bounce_that_came_before_a_reader_moved_says_nothing_of_the_address_they_have_now() -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    consented(delivery, ConsentRecord.Action.ADDRESS_CHANGED, minutes_ago=5)
    before = make_notice(Kind.BOUNCE, fingerprint=delivery.subscriber.fingerprint, at=ago(10))
    feedback.write_notices([before])
    write(Kind.BOUNCE, delivery)
    assert suppressions(delivery) == []


@pytest.mark.django_db
def test_a_bounce_of_the_old_address_says_nothing_of_the_new_one() -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    old = delivery.subscriber.fingerprint
    consent.change_address(delivery.subscriber, make_subscriber("new@readers.example"), source="account")
    write(Kind.BOUNCE, delivery)
    assert suppressions(delivery) == []
    write(Kind.BOUNCE, delivery, fingerprint=old)
    delivery.subscriber.refresh_from_db()
    assert suppressions(delivery) == []
    assert Suppression.objects.get().fingerprint == old


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Kind.COMPLAINT, Kind.UNSUBSCRIBE])
def test_who_confirmed_anew_is_not_thrown_out_by_a_late_notice(kind: Event.Kind) -> None:
    delivery = make_delivery()
    consented(delivery, ConsentRecord.Action.REQUESTED, minutes_ago=20)
    consented(delivery, ConsentRecord.Action.SUBSCRIBED, minutes_ago=10)
    write(kind, delivery, at=ago(30))
    assert is_active(delivery)
    assert suppressions(delivery) == []
    write(kind, delivery, at=ago(5))
    assert not is_active(delivery)


@pytest.mark.django_db
def test_taking_back_having_left_does_not_outdo_a_complaint() -> None:
    delivery = make_delivery()
    consented(delivery, ConsentRecord.Action.SUBSCRIBED, minutes_ago=10)
    write(Kind.COMPLAINT, delivery, at=ago(30))
    assert not is_active(delivery)
    assert suppressions(delivery) == ["complaint"]


@pytest.mark.django_db
def test_what_staff_lifted_does_not_outdo_a_complaint() -> None:
    delivery = make_delivery()
    consented(delivery, ConsentRecord.Action.REQUESTED, minutes_ago=20)
    consented(delivery, ConsentRecord.Action.UNSUPPRESSED, minutes_ago=10, reason="He rang.")
    write(Kind.COMPLAINT, delivery, at=ago(30))
    assert suppressions(delivery) == ["complaint"]


@pytest.mark.django_db
def test_a_late_complaint_stays_for_the_newsletters_that_were_not_confirmed_anew() -> None:
    delivery = make_delivery()
    other = make_newsletter(slug="other", name="Other")
    assert delivery.subscriber
    Subscription.objects.create(newsletter=other, subscriber=delivery.subscriber, status="active")
    consented(delivery, ConsentRecord.Action.REQUESTED, minutes_ago=20, newsletter=other)
    consented(delivery, ConsentRecord.Action.SUBSCRIBED, minutes_ago=10, newsletter=other)
    write(Kind.COMPLAINT, delivery, at=ago(30))
    assert [row.newsletter for row in Suppression.objects.all()] == [delivery.dispatch.newsletter]
    assert Subscription.objects.get(newsletter=other).status == "active"


@pytest.mark.django_db
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), data=st.data())
def test_any_order_and_any_repetition_ends_in_the_same_state(seed: int, data: st.DataObject) -> None:
    newsletter = Newsletter.objects.first() or make_newsletter()
    if not Delivery.objects.exists():
        for days in ((40, 33, 26, 19, 12, 0), (28, 21, 14, 7, 1, 0)):
            issues_of(newsletter, *days)
    mails = list(Delivery.objects.filter(tries=1).order_by("pk"))
    said = st.tuples(
        st.sampled_from(mails),
        st.sampled_from([Kind.ACCEPTED, Kind.DELIVERED, Kind.DEFERRED, *[Kind.BOUNCE] * 6, Kind.COMPLAINT]),
        st.sampled_from(["soft", "soft", "soft", "soft", "block", "hard"]),
    )
    statuses = data.draw(st.lists(st.sampled_from([Status.SENT, Status.UNCONFIRMED]), min_size=12, max_size=12))
    notices = [
        make_notice(kind, delivery_id=mail.pk, verdict=verdict if kind == Kind.BOUNCE else "")
        for mail, kind, verdict in data.draw(st.lists(said, min_size=1, max_size=24))
    ]
    source = random.Random(seed)
    states = []
    for _ in range(3):
        begin_again(mails, statuses)
        shuffled = source.sample(notices, len(notices)) + source.choices(notices, k=source.randint(0, 10))
        source.shuffle(shuffled)
        while shuffled:
            batch = [shuffled.pop() for _ in range(min(len(shuffled), source.randint(1, 8)))]
            feedback.write_notices(batch)
        states.append(state())
        for dispatch in Dispatch.objects.all():
            assert invariants.breaches(dispatch) == []
    assert states[0] == states[1] == states[2]


def begin_again(mails: list[Delivery], statuses: list[Delivery.Status]) -> None:
    Event.objects.all().delete()
    Suppression.objects.all().delete()
    ConsentRecord.objects.all().delete()
    Subscription.objects.update(status="active")
    Attempt.objects.update(accepted=0)
    for mail, status in zip(mails, statuses, strict=True):
        Delivery.objects.filter(pk=mail.pk).update(status=status, verdict=None)
        Attempt.objects.filter(deliveries=mail).update(accepted=int(status == Status.SENT))


def state() -> list[Any]:
    return [
        list(Delivery.objects.order_by("pk").values_list("pk", "status", "verdict")),
        list(Suppression.objects.order_by("fingerprint", "reason").values_list("fingerprint", "newsletter", "reason")),
        list(Subscription.objects.order_by("pk").values_list("pk", "status")),
        list(Event.objects.order_by("key").values_list("key", "kind", "delivery", "verdict")),
    ]
