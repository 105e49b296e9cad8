"""The author sees what came back, why, and of whom; and lifts what may be lifted."""

from __future__ import annotations

import json

import pytest
from django.core import mail
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from newsletter import feedback
from newsletter.feedback import telling
from newsletter.models import Delivery, Dispatch, Event, Newsletter
from subscribers import consent
from subscribers.models import ConsentRecord, Suppression
from tests.feeding import make_delivery, put, write
from tests.making import make_dispatch, make_newsletter, make_reader
from tests.test_admin_issues import signed_in, text

pytestmark = pytest.mark.django_db

Kind, Status = Event.Kind, Delivery.Status
LIST = reverse("admin:newsletter_bounce_changelist")
SPAMHAUS = {"verdict": "block", "cause": "REPUTATION", "detail": "554 5.7.1 listed at zen.spamhaus.org"}
FULL = {"verdict": "soft", "cause": "FULL", "detail": "552 5.2.2 mailbox full"}
GONE = {"verdict": "hard", "cause": "NO_MAILBOX", "detail": "550 5.1.1 no such user"}


def bounced_dispatch(newsletter: Newsletter) -> Dispatch:
    """A dispatch of which two were blocked, one bounced softly, one hard, and one reader complained."""
    addresses = ["a@one.example", "b@one.example", "c@two.example", "d@two.example", "e@two.example", "f@two.example"]
    for address in addresses:
        make_reader(newsletter, address)
    dispatch = make_dispatch(newsletter)
    mails = [put(each, status=Status.SENT) for each in dispatch.deliveries.order_by("subscriber__address_key")]
    for delivery, said in zip(mails, [SPAMHAUS, SPAMHAUS, FULL, GONE], strict=False):
        write(Kind.BOUNCE, delivery, **said)
    write(Kind.BOUNCE, mails[0], source="mail", **SPAMHAUS)
    write(Kind.COMPLAINT, mails[4])
    Dispatch.objects.update(status="sent")
    return dispatch


def test_a_dispatch_shows_what_came_back_by_verdict_and_why() -> None:
    dispatch = bounced_dispatch(make_newsletter())
    shown = text(signed_in("author").get(reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])))
    for words in ("Blocked", "Soft bounces", "Hard bounces", "Complaints", "The mailbox is full."):
        assert words in shown
    assert "2 readers’ servers refused you." in shown
    assert "The receiving server does not trust the machine that sent the mail. Where: one.example (2)." in shown
    assert "listed at zen.spamhaus.org" in shown


def test_each_mail_counts_once_however_many_report_it() -> None:
    groups = {group.word: group for group in feedback.summary(bounced_dispatch(make_newsletter()))}
    assert {word: group.readers for word, group in groups.items()} == {"complaint": 1, "hard": 1, "block": 2, "soft": 1}
    assert [(why.readers, why.domains) for why in groups["block"].whys] == [(2, (("one.example", 2),))]


def test_a_dispatch_of_which_nothing_came_back_says_nothing_of_it() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    shown = text(signed_in("author").get(reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])))
    assert "What came back" not in shown


def test_the_first_page_says_whose_servers_refused_the_last_issue() -> None:
    bounced_dispatch(make_newsletter())
    shown = text(signed_in("author").get(reverse("admin:index")))
    assert "1 complaint, 1 hard bounce, 2 blocked, 1 soft bounce" in shown
    assert "2 readers’ servers refused you." in shown


@pytest.mark.parametrize("role", ["author", "editor", "analyst"])
def test_the_list_narrows_by_verdict_newsletter_and_reason(role: str) -> None:
    newsletter = make_newsletter()
    bounced_dispatch(newsletter)
    other = make_newsletter(slug="other", name="Other")
    write(Kind.BOUNCE, make_delivery(other), **FULL)
    browser = signed_in(role)
    queries: list[tuple[dict[str, str | int], int]] = [
        ({}, 7),
        ({"verdict": "block"}, 3),
        ({"reason": "FULL"}, 2),
        ({"newsletter__id__exact": other.pk}, 1),
        ({"newsletter__id__exact": newsletter.pk, "reason": "FULL", "verdict": "soft"}, 1),
        ({"verdict": "nonsense"}, 7),
    ]
    for query, number in queries:
        assert len(browser.get(LIST, query).context["cl"].result_list) == number


def test_the_list_shows_no_hits_and_says_when_it_is_empty() -> None:
    Event.objects.create(kind="open")
    answer = signed_in("author").get(LIST)
    assert len(answer.context["cl"].result_list) == 0
    assert "Nothing has come back. Bounces and complaints stand here" in text(answer)


def test_a_report_says_why_in_plain_words_and_what_follows() -> None:
    bounced_dispatch(make_newsletter())
    event = Event.objects.filter(verdict="hard").get()
    browser = signed_in("analyst")
    shown = text(browser.get(reverse("admin:newsletter_bounce_change", args=[event.pk])))
    assert "There is no such mailbox." in shown
    assert "550 5.1.1 no such user" in shown
    assert f"Subscriber {event.subscriber_id}" in shown
    assert browser.get(reverse("admin:newsletter_bounce_change", args=[event.pk + 1000])).status_code == 404


def test_a_lighter_report_says_what_the_mail_counts_as() -> None:
    delivery = make_delivery()
    write(Kind.BOUNCE, delivery, **FULL)
    write(Kind.BOUNCE, delivery, **SPAMHAUS)
    event = Event.objects.filter(verdict="soft").get()
    shown = text(signed_in("analyst").get(reverse("admin:newsletter_bounce_change", args=[event.pk])))
    assert "it counts as blocked" in shown


def test_an_author_sees_where_it_came_back_from_and_no_person() -> None:
    dispatch = bounced_dispatch(make_newsletter())
    author = signed_in("author")
    shown = text(author.get(LIST))
    assert "one.example" in shown
    assert "a@one.example" not in shown
    event = dispatch.events.order_by("pk")[0]
    page = author.get(reverse("admin:newsletter_bounce_change", args=[event.pk]))
    assert reverse("admin:subscribers_subscriber_change", args=[event.subscriber_id]) not in page.text


def reader_page(browser: Client, delivery: Delivery) -> str:
    return text(browser.get(reverse("admin:subscribers_subscriber_change", args=[delivery.subscriber_id])))


def test_a_readers_page_says_why_no_mail_goes_there_and_an_editor_lifts_it_with_a_reason() -> None:
    delivery = make_delivery()
    write(Kind.BOUNCE, delivery, **GONE)
    editor, analyst = signed_in("editor"), signed_in("analyst")
    for browser in (editor, analyst):
        shown = reader_page(browser, delivery)
        assert "No mail goes to this address" in shown
        assert "A mail server said that the address does not exist." in shown
        assert "There is no such mailbox." in shown
    assert "Lift…" not in shown
    row = Suppression.objects.get()
    lift = reverse("admin:subscribers_suppression_delete", args=[row.pk])
    assert analyst.post(lift, {"post": "yes", "reason": "I want."}).status_code == 403
    assert "Lift…" in reader_page(editor, delivery)
    assert editor.get(lift).status_code == 200
    editor.post(lift, {"post": "yes", "reason": "She wrote from there."})
    assert not Suppression.objects.exists()
    shown = reader_page(editor, delivery)
    assert "No mail goes to this address" not in shown
    assert "She wrote from there." in shown


def test_a_complaint_cannot_be_lifted_from_the_readers_page() -> None:
    delivery = make_delivery()
    write(Kind.COMPLAINT, delivery)
    shown = reader_page(signed_in("editor"), delivery)
    assert "Only their own new confirmation lifts that." in shown
    assert "Lift…" not in shown


def test_many_blocks_are_told_once_and_again_at_ten_times_as_many(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ADMINS = [("Ops", "ops@weekly.example")]
    monkeypatch.setattr(telling, "MANY", 2)
    newsletter = make_newsletter()
    dispatch = make_dispatch(newsletter, readers=25)
    mails = [put(each, status=Status.SENT) for each in dispatch.deliveries.all()]
    for number, delivery in enumerate(mails, 1):
        write(Kind.BOUNCE, delivery, **SPAMHAUS)
        assert len(mail.outbox) == (0 if number < 2 else 1 if number < 20 else 2)
    assert "2 readers’ servers refused you." in mail.outbox[0].body
    assert not Suppression.objects.exists()
    assert not ConsentRecord.objects.filter(action=ConsentRecord.Action.SUPPRESSED).exists()


def test_hard_bounces_are_not_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "MANY", 1)
    settings.ADMINS = [("Ops", "ops@weekly.example")]
    write(Kind.BOUNCE, make_delivery(), **GONE)
    assert mail.outbox == []


def test_a_suppression_by_hand_says_so() -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    consent.suppress(delivery.subscriber.fingerprint, reason=Suppression.Reason.MANUAL, source="staff 1")
    assert "Somebody of the staff wanted it so." in reader_page(signed_in("editor"), delivery)


def test_the_command_shows_what_came_back_as_the_page_does(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch = bounced_dispatch(make_newsletter())
    call_command("issue_report", str(dispatch.issue_id))
    said = capsys.readouterr().out
    for counted in ("1 complaint.", "1 hard bounce.", "2 blocked.", "1 soft bounce."):
        assert counted in said
    assert "2 readers’ servers refused you." in said
    shown = text(signed_in("author").get(reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])))
    for words in (
        "The mailbox is full.",
        "listed at zen.spamhaus.org",
        "one.example (2)",
        "Suppressed on the whole site.",
    ):
        assert words in said
        assert words in shown
    call_command("issue_report", str(dispatch.issue_id), json=True)
    data = json.loads(capsys.readouterr().out)
    assert {group["verdict"]: group["readers"] for group in data["came_back"]} == {
        "complaint": 1,
        "hard": 1,
        "block": 2,
        "soft": 1,
    }
    (why,) = next(group["whys"] for group in data["came_back"] if group["verdict"] == "block")
    assert (why["readers"], why["domains"]) == (2, [{"domain": "one.example", "readers": 2}])
    assert "a@one.example" not in said + json.dumps(data)


def test_the_command_says_nothing_of_what_came_back_where_nothing_did(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    call_command("issue_report", str(dispatch.issue_id))
    assert "came back" not in capsys.readouterr().out


def test_the_command_says_when_the_reports_are_no_longer_kept(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch = bounced_dispatch(make_newsletter())
    Event.objects.all().delete()
    call_command("issue_report", str(dispatch.issue_id))
    said = capsys.readouterr().out
    assert "2 blocked." in said
    assert "The reports are no longer kept." in said
