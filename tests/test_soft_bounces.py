"""When mail has failed for too long: five issues and two weeks without a success."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from newsletter import feedback
from newsletter.models import Delivery, Dispatch, Event, Newsletter
from subscribers import consent
from subscribers.models import ConsentRecord, Suppression
from tests.feeding import bounce_softly, is_active, issues_of, suppressions, write
from tests.making import make_newsletter

Kind, Status, Verdict = Event.Kind, Delivery.Status, Delivery.Verdict


@pytest.fixture
def newsletter() -> Newsletter:
    return make_newsletter()


@pytest.mark.django_db
def test_five_soft_bounces_in_two_weeks_suppress(newsletter: Newsletter) -> None:
    mails = issues_of(newsletter, 28, 21, 14, 7, 0)
    bounce_softly(mails[:4])
    assert suppressions(mails[0]) == []
    bounce_softly(mails[4:])
    assert suppressions(mails[0]) == ["soft bounce"]
    assert is_active(mails[0])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("days", "suppressed"),
    [
        ((28, 21, 14, 7), False),
        ((12, 10, 8, 4, 0), False),
        ((14, 12, 9, 4, 0), True),
        (tuple(range(14, -1, -1)), True),
        (tuple(range(13, -1, -1)), False),
    ],
    ids=["four", "in 12 days", "in 14 days", "daily for two weeks", "daily for less"],
)
def test_it_takes_both_five_issues_and_two_weeks(
    newsletter: Newsletter, days: tuple[int, ...], *, suppressed: bool
) -> None:
    mails = issues_of(newsletter, *days)
    bounce_softly(mails)
    assert bool(suppressions(mails[0])) is suppressed


@pytest.mark.django_db
def test_an_issue_that_was_cancelled_and_sent_again_is_one(newsletter: Newsletter) -> None:
    mails = issues_of(newsletter, 28, 27, 21, 14, 0)
    first, again = mails[0].dispatch, mails[1].dispatch
    Dispatch.objects.filter(pk=first.pk).update(status=Dispatch.Status.CANCELLED)
    Dispatch.objects.filter(pk=again.pk).update(issue=first.issue_id)
    bounce_softly(mails)
    assert suppressions(mails[0]) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "suppressed"),
    [
        ({"verdict": None}, False),
        ({"verdict": None, "settled_at": timezone.now()}, True),
        ({"verdict": None, "status": "unconfirmed"}, True),
        ({"verdict": None, "status": "skipped"}, True),
        ({"verdict": Verdict.BLOCK}, True),
        ({"verdict": Verdict.HARD}, True),
        ({"clicked_at": timezone.now()}, False),
        ({"opened_at": timezone.now()}, False),
    ],
    ids=["arrived", "may yet come back", "in doubt", "not sent", "blocked", "hard", "clicked", "opened"],
)
def test_a_mail_between_that_arrived_begins_the_row_anew(
    newsletter: Newsletter, change: dict[str, Any], *, suppressed: bool
) -> None:
    mails = issues_of(newsletter, 35, 28, 21, 14, 7, 0)
    Delivery.objects.filter(pk=mails[3].pk).update(**change)
    bounce_softly([mail for mail in mails if mail != mails[3] or "clicked_at" in change or "opened_at" in change])
    assert bool(suppressions(mails[0])) is suppressed


@pytest.mark.django_db
def test_a_soft_suppression_that_no_longer_holds_is_taken_back(newsletter: Newsletter) -> None:
    mails = issues_of(newsletter, 28, 21, 14, 7, 0)
    bounce_softly(mails)
    write(Kind.BOUNCE, mails[2], verdict="block")
    assert suppressions(mails[0]) == []
    assert ConsentRecord.objects.get(action="unsuppressed").reason
    bounce_softly(issues_of(newsletter, 0, reader=mails[0].subscriber))
    assert suppressions(mails[0]) == ["soft bounce"]


@pytest.mark.django_db
def test_mail_that_arrived_after_all_takes_a_young_soft_suppression_back(newsletter: Newsletter) -> None:
    mails = issues_of(newsletter, 28, 21, 14, 7, 1, 0)
    bounce_softly(mails[:5])
    assert suppressions(mails[0]) == ["soft bounce"]
    feedback.review_recent()
    assert suppressions(mails[0]) == ["soft bounce"]
    Delivery.objects.filter(pk=mails[5].pk).update(settled_at=timezone.now() - dt.timedelta(days=6))
    feedback.review_recent()
    assert suppressions(mails[0]) == []


@pytest.mark.django_db
def test_after_the_author_lifted_it_bounces_count_from_the_beginning(newsletter: Newsletter) -> None:
    mails = issues_of(newsletter, 28, 21, 14, 7, 0)
    bounce_softly(mails)
    consent.lift(Suppression.objects.get(), reason="The mailbox is empty again.", source="staff 1")
    bounce_softly(issues_of(newsletter, -1, reader=mails[0].subscriber))
    assert suppressions(mails[0]) == []


@pytest.mark.django_db
def test_single_messages_are_no_issues(newsletter: Newsletter) -> None:
    mails = issues_of(newsletter, 28, 21, 14, 7, 0)
    Dispatch.objects.filter(pk=mails[0].dispatch_id).update(kind="single", issue=None)
    bounce_softly(mails)
    assert suppressions(mails[0]) == []
