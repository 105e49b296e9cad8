"""What comes back of sent mail: written down once, with all that follows for mail and reader."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import Any

import pytest
from django.utils import timezone

from newsletter import bounces, deliveries, events, feedback, intake, invariants, tracking
from newsletter.feedback import Notice
from newsletter.models import Batch, Delivery, Event, Occurrence
from newsletter.transports import Outcome, Result
from subscribers import consent
from subscribers.models import ConsentRecord, Subscription, Suppression
from tests.feeding import is_active, make_delivery, make_notice, put, suppressions, write
from tests.making import make_dispatch, make_hook, make_newsletter

Kind, Status, Verdict = Event.Kind, Delivery.Status, Delivery.Verdict


# A notice and its way through the intake


def test_a_notice_goes_through_json_unchanged() -> None:
    judgement = bounces.judge("550 5.1.1 no such user ada@readers.example", step="rcpt")
    notice = Notice.bounced(
        judgement, key=uuid.uuid4(), at=timezone.now(), source="smtp", delivery_id=7, newsletter_id=3
    )
    assert Notice.from_json(notice.as_json()) == notice
    assert notice.verdict == "hard"
    assert "@" not in notice.detail


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": Kind.OPEN}, "no kind"),
        ({"at": dt.datetime(2026, 1, 1)}, "time zone"),
        ({"verdict": "firm"}, "hard, soft"),
        ({"verdict": "not-a-bounce"}, "hard, soft"),
        ({"cause": "MOON"}, "no cause"),
    ],
)
def test_a_notice_that_makes_no_sense_is_refused_in_a_sentence(fields: dict[str, Any], said: str) -> None:
    defaults: dict[str, Any] = {"kind": Kind.BOUNCE, "key": uuid.uuid4(), "at": timezone.now(), "source": "test"}
    with pytest.raises(ValueError, match=said):
        Notice(**{**defaults, "verdict": "hard", **fields})


@pytest.mark.django_db
def test_what_the_intake_kept_is_written_and_what_is_no_notice_set_aside() -> None:
    delivery = make_delivery()
    good = make_notice(Kind.BOUNCE, delivery_id=delivery.pk)
    intake.put(intake.Channel.NOTICE, [good.as_json(), {"kind": "nonsense"}])
    intake.drain(intake.Channel.NOTICE, feedback.write)
    assert Event.objects.get().key == good.key
    assert sum(backlog.aside for backlog in intake.look()) == 1


# Whom it is about


@pytest.mark.django_db
@pytest.mark.parametrize("way", ["delivery_id", "message_id", "provider_id", "fingerprint"])
def test_each_way_of_naming_it_leads_to_the_reader(way: str) -> None:
    delivery = make_delivery(provider_id="abc")
    assert delivery.subscriber
    names = {
        "delivery_id": delivery.pk,
        "message_id": f"<{tracking.message_id(delivery.pk)}>",
        "provider_id": "abc",
        "fingerprint": delivery.subscriber.fingerprint,
    }
    assert feedback.write_notices([make_notice(Kind.BOUNCE, **{way: names[way]})]) == 1
    assert suppressions(delivery) == ["hard bounce"]
    assert Event.objects.get().subscriber == delivery.subscriber
    delivery.refresh_from_db()
    assert delivery.verdict == (None if way == "fingerprint" else Verdict.HARD)


@pytest.mark.django_db
def test_of_several_mails_with_one_id_of_the_provider_the_address_tells_which() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    one, two = (put(each, status=Status.SENT, provider_id="abc") for each in dispatch.deliveries.order_by("pk"))
    assert two.subscriber
    notice = make_notice(Kind.BOUNCE, provider_id="abc", fingerprint=two.subscriber.fingerprint)
    feedback.write_notices([notice, make_notice(Kind.BOUNCE, provider_id="abc")])
    assert (suppressions(one), suppressions(two)) == ([], ["hard bounce"])


@pytest.mark.django_db
def test_what_is_about_nobody_here_is_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    delivery = make_delivery()
    strangers = [
        make_notice(Kind.BOUNCE, delivery_id=delivery.pk + 1),
        make_notice(Kind.BOUNCE, message_id="<forged@weekly.example>"),
        make_notice(Kind.COMPLAINT, fingerprint="f" * 40),
        make_notice(Kind.DELIVERED),
    ]
    with caplog.at_level(logging.WARNING):
        assert feedback.write_notices([*strangers, make_notice(Kind.DELIVERED, delivery_id=delivery.pk)]) == 1
    assert "4 are about no delivery or reader" in caplog.text
    assert Event.objects.get().kind == Kind.DELIVERED
    assert not Suppression.objects.exists()


@pytest.mark.django_db
def test_an_event_has_what_was_said_but_no_address() -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    address = delivery.subscriber.address
    said = f"<{address}>: user unknown\x00 (return path b+{address.replace('@', '=')}@weekly.example)"
    write(Kind.BOUNCE, delivery, status="5.1.1", cause="NO_MAILBOX", detail=said, source="mail")
    event = Event.objects.get()
    assert (event.kind, event.verdict, event.reasons, event.source) == ("bounce", "hard", "NO_MAILBOX", "mail")
    assert (event.newsletter, event.dispatch) == (delivery.dispatch.newsletter, delivery.dispatch)
    assert event.detail.startswith("5.1.1 ")
    assert "user unknown" in event.detail
    assert address.partition("@")[0] not in event.detail


@pytest.mark.django_db
def test_what_comes_back_of_an_erased_readers_mail_counts_and_names_nobody() -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    consent.erase(delivery.subscriber, source="test")
    assert write(Kind.COMPLAINT, delivery) == 1
    assert Event.objects.get().subscriber is None
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.COMPLAINT


# Once, whatever comes twice


@pytest.mark.django_db
def test_notices_are_counted_by_their_deliveries_and_wait_for_no_tally() -> None:
    delivery = make_delivery()
    write(Kind.DELIVERED, delivery)
    write(Kind.BOUNCE, delivery)
    write(Kind.UNSUBSCRIBE, delivery)
    assert events.recount(delivery.dispatch_id) == events.Differences(0, 0)
    assert list(delivery.dispatch.tallies.all()) == []


@pytest.mark.django_db
def test_the_same_notice_is_written_once() -> None:
    delivery = make_delivery()
    notice = make_notice(Kind.BOUNCE, delivery_id=delivery.pk)
    assert [feedback.write_notices([notice, notice]), feedback.write_notices([notice])] == [1, 0]
    assert Event.objects.count() == 1
    assert ConsentRecord.objects.filter(action="suppressed").count() == 1


@pytest.mark.django_db
def test_the_same_bounce_by_two_ways_counts_once() -> None:
    make_hook()
    delivery = make_delivery()
    write(Kind.BOUNCE, delivery, source="smtp")
    write(Kind.BOUNCE, delivery, source="mail")
    assert Event.objects.count() == 2
    assert Delivery.objects.filter(verdict__isnull=False).count() == 1
    assert ConsentRecord.objects.filter(action="suppressed").count() == 1
    assert list(Occurrence.objects.values_list("kind", flat=True)) == ["subscriber.bounced"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("verdicts", "counts"),
    [
        (["soft", "block"], Verdict.BLOCK),
        (["block", "soft"], Verdict.BLOCK),
        (["hard", "block", "soft"], Verdict.HARD),
        (["soft", "hard"], Verdict.HARD),
    ],
)
def test_the_heaviest_verdict_on_a_mail_counts(verdicts: list[str], counts: Delivery.Verdict) -> None:
    delivery = make_delivery()
    for verdict in verdicts:
        write(Kind.BOUNCE, delivery, verdict=verdict)
    delivery.refresh_from_db()
    assert delivery.verdict == counts


# What it says of the mail


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Kind.ACCEPTED, Kind.DELIVERED, Kind.DEFERRED, Kind.COMPLAINT, Kind.UNSUBSCRIBE])
@pytest.mark.parametrize("status", [Status.SENDING, Status.UNCONFIRMED, Status.QUEUED])
def test_who_speaks_of_a_mail_had_it(kind: Event.Kind, status: Delivery.Status) -> None:
    delivery = make_delivery(status=status)
    write(kind, delivery)
    delivery.refresh_from_db()
    assert delivery.status == Status.SENT
    assert invariants.breaches(delivery.dispatch) == []


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.CLICK, Kind.UNSUBSCRIBE])
def test_who_opens_a_mail_has_it(kind: Event.Kind) -> None:
    delivery = make_delivery(status=Status.UNCONFIRMED)
    events.record(kind, delivery_id=delivery.pk, hit=events.Hit("GET", "Mail/1.0"))
    delivery.refresh_from_db()
    assert delivery.status == Status.SENT
    assert invariants.breaches(delivery.dispatch) == []


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.CLICK, Kind.UNSUBSCRIBE])
@pytest.mark.parametrize("status", [Status.QUEUED, Status.SENDING, Status.FAILED])
def test_a_gateway_that_looks_at_a_mail_before_it_answers_has_not_taken_it(
    kind: Event.Kind, status: Delivery.Status
) -> None:
    delivery = make_delivery(status=status)
    assert events.record(kind, delivery_id=delivery.pk, hit=events.Hit("HEAD", "Gateway/1.0"))
    delivery.refresh_from_db()
    assert (delivery.status, delivery.accepted_by) == (status, None)


@pytest.mark.django_db
def test_mail_that_was_looked_at_and_then_put_off_is_tried_again() -> None:
    delivery = make_delivery(status=Status.SENDING)
    events.record(Kind.CLICK, delivery_id=delivery.pk, hit=events.Hit("GET", "Gateway/1.0"))
    assert delivery.attempt
    later = Outcome(delivery.pk, Result.LATER, "451 4.7.1 try again later")
    deliveries.note(delivery.attempt, [later], tries={delivery.pk: 1}, retry_seconds=1)
    delivery.refresh_from_db()
    assert delivery.status == Status.QUEUED


@pytest.mark.django_db
def test_mail_that_was_refused_and_looked_at_is_judged() -> None:
    delivery = make_delivery(status=Status.FAILED, reply="550 5.1.1 user unknown")
    events.record(Kind.CLICK, delivery_id=delivery.pk, hit=events.Hit("GET", "Gateway/1.0"))
    assert feedback.take_refused() == 1
    delivery.refresh_from_db()
    assert delivery.verdict == Verdict.HARD


@pytest.mark.django_db
@pytest.mark.parametrize("status", [Status.QUEUED, Status.SKIPPED])
def test_of_a_mail_that_was_never_handed_over_nobody_can_speak(status: Delivery.Status) -> None:
    delivery = make_dispatch(make_newsletter(), readers=1).deliveries.get()
    Delivery.objects.update(status=status)
    write(Kind.DELIVERED, delivery)
    delivery.refresh_from_db()
    assert delivery.status == status


@pytest.mark.django_db
@pytest.mark.parametrize("verdict", ["hard", "soft", "block"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(Status.UNCONFIRMED, Status.FAILED), (Status.SENT, Status.SENT), (Status.SENDING, Status.SENDING)],
)
def test_a_bounce_settles_a_doubt_and_unsays_no_accept(
    verdict: str, before: Delivery.Status, after: Delivery.Status
) -> None:
    delivery = make_delivery(status=before)
    write(Kind.BOUNCE, delivery, verdict=verdict)
    delivery.refresh_from_db()
    assert delivery.status == after
    assert invariants.breaches(delivery.dispatch) == []


@pytest.mark.django_db
def test_mail_that_came_back_while_it_was_sent_leaves_no_doubt() -> None:
    delivery = make_delivery(status=Status.SENDING)
    write(Kind.BOUNCE, delivery, verdict="block")
    deliveries.doubt(Batch.objects.get(pk=delivery.batch_id))
    delivery.refresh_from_db()
    assert delivery.status == Status.FAILED


@pytest.mark.django_db
def test_a_late_accept_of_mail_that_came_back_raises_no_breach() -> None:
    delivery = make_delivery(status=Status.UNCONFIRMED)
    write(Kind.BOUNCE, delivery)
    assert delivery.attempt
    accepted = Outcome(delivery.pk, Result.ACCEPTED, "250 ok")
    deliveries.note(delivery.attempt, [accepted], tries={delivery.pk: 1}, retry_seconds=1)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.verdict) == (Status.SENT, Verdict.HARD)
    assert invariants.breaches(delivery.dispatch) == []


# What follows


@pytest.mark.django_db
def test_a_hard_bounce_suppresses_on_the_whole_site_at_once() -> None:
    delivery = make_delivery()
    write(Kind.BOUNCE, delivery)
    assert suppressions(delivery) == ["hard bounce"]
    assert Suppression.objects.get().newsletter is None
    assert is_active(delivery)


@pytest.mark.django_db
@pytest.mark.parametrize("verdict", ["soft", "block"])
def test_a_single_soft_bounce_or_block_has_no_consequence(verdict: str) -> None:
    delivery = make_delivery()
    write(Kind.BOUNCE, delivery, verdict=verdict)
    assert suppressions(delivery) == []
    assert is_active(delivery)


@pytest.mark.django_db
def test_a_complaint_unsubscribes_and_suppresses() -> None:
    delivery = make_delivery()
    write(Kind.COMPLAINT, delivery)
    assert suppressions(delivery) == ["complaint"]
    assert not is_active(delivery)
    actions = ConsentRecord.objects.filter(subscriber=delivery.subscriber).order_by("pk")
    assert {"unsubscribed", "suppressed"} <= set(actions.values_list("action", flat=True))


@pytest.mark.django_db
def test_an_unsubscribe_unsubscribes_from_that_newsletter_alone() -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    other = make_newsletter(slug="other", name="Other")
    Subscription.objects.create(newsletter=other, subscriber=delivery.subscriber, status="active")
    write(Kind.UNSUBSCRIBE, delivery)
    active = Subscription.objects.filter(subscriber=delivery.subscriber, status="active")
    assert [row.newsletter for row in active] == [other]
    delivery.refresh_from_db()
    assert delivery.unsubscribed_at
    assert suppressions(delivery) == []


@pytest.mark.django_db
@pytest.mark.parametrize("named", [True, False])
def test_an_unsubscribe_without_a_mail_is_from_what_it_names_or_from_everything(*, named: bool) -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    other = make_newsletter(slug="other", name="Other")
    Subscription.objects.create(newsletter=other, subscriber=delivery.subscriber, status="active")
    fields = {"newsletter_id": other.pk} if named else {}
    feedback.write_notices([make_notice(Kind.UNSUBSCRIBE, fingerprint=delivery.subscriber.fingerprint, **fields)])
    active = Subscription.objects.filter(subscriber=delivery.subscriber, status="active")
    assert [row.newsletter for row in active] == ([delivery.dispatch.newsletter] if named else [])
