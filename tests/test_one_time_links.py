"""Strong actions: only through a link that goes to the address itself, works once and soon, and gives nothing away."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from django.db.models import F
from django.test import Client

from newsletter import events, tracking
from newsletter.models import Delivery, Dispatch, Event, Newsletter, StandingSection
from newsletter.views import posting
from subscribers import account, addresses, consent, exporting, one_time, tidying
from subscribers.models import ConsentRecord, Membership, OneTimeLink, Subscriber, Subscription, Suppression
from tests.making import issue_of, make_dispatch, make_newsletter, make_reader, make_subscriber

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

Action = ConsentRecord.Action
Purpose = OneTimeLink.Purpose
ADDRESS, NEW = "ada@readers.example", "ada@elsewhere.example"


@pytest.fixture
def browser() -> Client:
    """A browser that checks forms as in production."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def reader(db: None) -> Subscription:
    return make_reader(make_newsletter(), ADDRESS, tier="paid")


def mails() -> list[Delivery]:
    """The single messages, oldest first."""
    rows = Delivery.objects.filter(dispatch__kind=Dispatch.Kind.SINGLE).order_by("pk")
    return list(rows.select_related("dispatch__revision", "subscriber"))


def link_in(delivery: Delivery) -> str:
    """The path behind the button of a mail."""
    found = re.search(r"\]\((http[^)]+)\)\{\.button\}", delivery.dispatch.revision.content.sections[0].body)
    assert found
    return urlsplit(found[1]).path


def ask(browser: Client, address: str = ADDRESS) -> Response:
    return browser.post("/account", {"address": address})


def visit(browser: Client) -> str:
    """The path of the pages behind a fresh link."""
    ask(browser)
    response = browser.post(link_in(mails()[-1]))
    assert response.status_code == 302
    return response["Location"]


def age(delta: timedelta) -> None:
    """Let every link have been made `delta` ago."""
    OneTimeLink.objects.update(created_at=F("created_at") - delta, expires_at=F("expires_at") - delta)


def text_of(response: Response) -> str:
    return response.content.decode()


# Asking


def test_the_link_goes_to_the_address_and_the_answer_says_nothing(browser: Client, reader: Subscription) -> None:
    known, unknown = ask(browser), ask(browser, "nobody@readers.example")
    assert (known.status_code, known["Location"]) == (302, "/account?sent")
    assert (known.content, dict(known.headers)) == (unknown.content, dict(unknown.headers))
    assert "If anything is kept" in text_of(browser.get(known["Location"]))
    (mail,) = mails()
    assert mail.subscriber == reader.subscriber
    assert not Subscriber.objects.filter(address_key="nobody@readers.example").exists()


def test_an_address_gets_three_links_an_hour_at_most(browser: Client, reader: Subscription) -> None:
    for _ in range(5):
        assert ask(browser).status_code == 302
    assert len(mails()) == account.LINKS_AN_HOUR
    age(timedelta(hours=1, minutes=1))
    ask(browser)
    assert len(mails()) == account.LINKS_AN_HOUR + 1


def test_the_limit_of_a_network_does_not_tell_who_is_known(
    browser: Client, reader: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "POSTS_AN_HOUR", 2)
    assert [ask(browser, address).status_code for address in ("x@readers.example", ADDRESS, ADDRESS)] == [302, 302, 429]
    monkeypatch.setattr(posting, "POSTS_AN_HOUR", 4)
    answers = [ask(browser, address).status_code for address in ("x@readers.example", "y@readers.example", ADDRESS)]
    assert answers == [302, 302, 429]


def test_what_is_no_address_is_refused_beside_its_field(browser: Client, reader: Subscription) -> None:
    response = ask(browser, "ada@readers.example\r\nBcc: eve@evil.example")
    assert response.status_code == 400
    assert 'aria-invalid="true"' in text_of(response)
    assert not mails()


def test_the_preferences_page_sends_a_link_to_the_address_and_shows_none(browser: Client, reader: Subscription) -> None:
    path = f"/p/{tracking.reader_token(reader.subscriber.public_id, reader.newsletter.public_id)}"
    response = browser.post(path, {"do": "link"}, follow=True)
    assert "on its way" in text_of(response)
    (mail,) = mails()
    assert mail.subscriber == reader.subscriber
    assert link_in(mail).removeprefix("/a/") not in text_of(response)
    assert ADDRESS not in text_of(response)


def test_who_left_or_complained_can_still_reach_their_data(browser: Client, reader: Subscription) -> None:
    consent.unsubscribe(reader, source="test")
    consent.suppress(addresses.fingerprint(ADDRESS), reason=Suppression.Reason.COMPLAINT, source="test")
    assert ADDRESS in text_of(browser.get(visit(browser)))


# The link


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_following_the_link_uses_nothing_up_and_shows_nothing(
    browser: Client, reader: Subscription, method: str
) -> None:
    ask(browser)
    path = link_in(mails()[0])
    for _ in range(2):
        response = browser.generic(method, path)
        assert response.status_code == 200
        assert ADDRESS not in text_of(response)
        assert response["Cache-Control"] == "no-store"
        assert response["Referrer-Policy"] == "same-origin"
        assert not response.cookies


def test_the_link_works_once(browser: Client, reader: Subscription) -> None:
    ask(browser)
    path = link_in(mails()[0])
    assert ADDRESS in text_of(browser.post(path, follow=True))
    for response in (browser.post(path), browser.get(path)):
        assert response.status_code == 410
        assert 'href="/account"' in text_of(response)


def test_of_two_who_use_a_link_one_gets_in(reader: Subscription) -> None:
    token = one_time.issue(reader.subscriber, Purpose.OPEN)
    first, second = one_time.find(token), one_time.find(token)
    assert first
    assert second
    assert [one_time.use(first), one_time.use(second)] == [True, False]


def test_the_link_works_for_an_hour_and_its_pages_for_half_an_hour(browser: Client, reader: Subscription) -> None:
    ask(browser)
    path = link_in(mails()[0])
    age(timedelta(minutes=59))
    assert browser.get(path).status_code == 200
    age(timedelta(minutes=2))
    assert browser.get(path).status_code == 410
    assert browser.post(path).status_code == 410
    pages = visit(browser)
    age(timedelta(minutes=29))
    assert browser.get(pages).status_code == 200
    age(timedelta(minutes=2))
    assert browser.get(pages).status_code == 410


@pytest.mark.parametrize("end", ["", "/download", "/address", "/erase"])
def test_what_is_no_link_opens_nothing(browser: Client, reader: Subscription, end: str) -> None:
    ask(browser)
    mailed = link_in(mails()[0]).removeprefix("/a/")
    readers = tracking.reader_token(reader.subscriber.public_id, reader.newsletter.public_id)
    tokens = ["forged", "A" * 32, readers, mailed[:-1], "x" * 5000]
    for token in tokens if end == "" else [*tokens, mailed]:
        assert browser.post(f"/a/{token}{end}", {"address": NEW}).status_code == 410
    assert Subscriber.objects.get().address == ADDRESS
    assert Subscription.objects.exists()


def test_the_row_of_a_link_does_not_hold_its_token(reader: Subscription) -> None:
    token = one_time.issue(reader.subscriber, Purpose.OPEN)
    assert token not in json.dumps(list(OneTimeLink.objects.values()), default=str)
    assert len(token) == 32


def test_another_site_cannot_press_the_buttons(browser: Client, reader: Subscription) -> None:
    pages = visit(browser)
    for end in ("/erase", "/download", "/address"):
        response = browser.post(pages + end, {"address": NEW}, headers={"Sec-Fetch-Site": "cross-site"})
        assert response.status_code == 403
    assert Subscriber.objects.exists()


# What stands behind it


def test_the_data_is_shown_and_looking_changes_nothing(browser: Client, reader: Subscription) -> None:
    pages = visit(browser)
    before = ConsentRecord.objects.count()
    page = text_of(browser.get(pages))
    assert all(text in page for text in (ADDRESS, "The Weekly", "Paid", "Active"))
    assert browser.get(f"{pages}/erase").status_code == 200
    assert browser.get(f"{pages}/download").status_code == 405
    assert ConsentRecord.objects.count() == before
    assert Subscriber.objects.exists()


def test_everything_can_be_taken_along(browser: Client, reader: Subscription) -> None:
    weekly = reader.newsletter
    news = StandingSection.objects.create(newsletter=weekly, name="News")
    consent.choose_sections(reader, muted=[news.pk])
    dispatch = make_dispatch(weekly)
    delivery = Delivery.objects.get(dispatch=dispatch)
    hit = events.Hit(method="GET", agent="Mail/1", network="203.0.113.0/24")
    events.record(events.Kind.CLICK, delivery_id=delivery.pk, url="https://example.com/", hit=hit)
    Event.objects.create(
        kind="bounce", dispatch=dispatch, delivery=delivery, subscriber=reader.subscriber, verdict="soft", detail="full"
    )
    Delivery.objects.filter(pk=delivery.pk).update(reply="452 mailbox full", verdict=Delivery.Verdict.SOFT)
    other = make_reader(weekly, "eve@readers.example")
    response = browser.post(f"{visit(browser)}/download")
    assert response["Content-Disposition"] == 'attachment; filename="my-data.json"'
    assert response["Cache-Control"] == "no-store"
    data = json.loads(response.content)
    assert data["profile"]["address"] == ADDRESS
    assert data["subscriptions"][0]["newsletter"] == "weekly"
    assert data["subscriptions"][0]["unwanted_sections"] == ["News"]
    assert data["memberships"][0]["tier"] == "paid"
    assert issue_of(dispatch).subject in [row["subject"] for row in data["deliveries"]]
    told = [(row["kind"], row["url"], row["agent"], row["judged"], row["detail"]) for row in data["events"]]
    assert told == [("click", "https://example.com/", "Mail/1", "unknown", ""), ("bounce", "", "", "unknown", "full")]
    sent = next(row for row in data["deliveries"] if row["came_back"])
    assert (sent["reply"], sent["came_back"]) == ("452 mailbox full", "soft bounce")
    assert sent["any_click_at"]
    assert not sent["clicked_at"]
    assert [row["action"] for row in data["consent"]] == ["exported"]
    assert len(data["one_time_links"]) == 2
    assert other.subscriber.address not in response.content.decode()


def test_every_table_that_refers_to_a_person_is_in_the_export(reader: Subscription) -> None:
    told = exporting.data(reader.subscriber)
    referring = {relation.related_model._meta.model_name for relation in Subscriber._meta.related_objects}
    named = {"subscription", "membership", "consentrecord", "onetimelink", "delivery", "event"}
    assert referring == named, "a new table about people: tell them of it in subscribers.exporting"
    assert set(told) >= {"profile", "subscriptions", "memberships", "consent", "one_time_links", "deliveries", "events"}


def test_erasing_asks_once_more_and_leaves_nothing_that_leads_back(browser: Client, reader: Subscription) -> None:
    dispatch = make_dispatch(reader.newsletter)
    delivery = Delivery.objects.get(dispatch=dispatch)
    hit = events.Hit(method="GET", agent="Mail/1", network="203.0.113.0/24")
    events.record(events.Kind.OPEN, delivery_id=delivery.pk, hit=hit)
    pages = visit(browser)
    assert "Erase everything?" in text_of(browser.get(f"{pages}/erase"))
    assert Subscriber.objects.exists()
    response = browser.post(f"{pages}/erase")
    assert "Everything is erased" in text_of(response)
    assert not Subscriber.objects.exists()
    assert not OneTimeLink.objects.exists()
    assert not Membership.objects.exists()
    assert Delivery.objects.filter(pk=delivery.pk, subscriber=None).exists()
    assert not Event.objects.exclude(subscriber=None).exists()
    assert Suppression.objects.get().reason == Suppression.Reason.ERASED
    assert not ConsentRecord.objects.exclude(network="", agent="", subscriber=None).exists()
    assert browser.get(pages).status_code == 410


# A new address


def ask_for(browser: Client, pages: str, address: str = NEW) -> Response:
    return browser.post(f"{pages}/address", {"address": address})


def test_a_new_address_counts_once_its_owner_says_so(browser: Client, reader: Subscription) -> None:
    pages = visit(browser)
    page = text_of(ask_for(browser, pages))
    assert "Look into the other mailbox" in page
    assert Subscription.objects.get().subscriber.address == ADDRESS
    mail = mails()[-1]
    assert mail.subscriber
    assert mail.subscriber.address == NEW
    assert browser.get(link_in(mail)).status_code == 200
    assert Subscription.objects.get().subscriber.address == ADDRESS
    assert "Your address is changed" in text_of(browser.post(link_in(mail)))
    subscriber = Subscriber.objects.get()
    assert (subscriber.pk, subscriber.address, subscriber.address_key) == (reader.subscriber.pk, NEW, NEW)
    assert subscriber.fingerprint == addresses.fingerprint(NEW)
    assert [each.subscriber for each in Subscription.objects.mailable()] == [subscriber]
    assert ConsentRecord.objects.filter(subscriber=subscriber, action=Action.ADDRESS_CHANGED).exists()
    assert browser.post(link_in(mail)).status_code == 410


def test_links_that_went_to_the_old_address_end_with_it(browser: Client, reader: Subscription) -> None:
    pages = visit(browser)
    ask(browser)
    unused = link_in(mails()[-1])
    ask_for(browser, pages)
    browser.post(link_in(mails()[-1]))
    assert browser.get(pages).status_code == 410
    assert browser.get(unused).status_code == 410


def test_an_address_of_somebody_else_is_not_taken_and_not_given_away(browser: Client, reader: Subscription) -> None:
    other = make_reader(reader.newsletter, NEW)
    pages = visit(browser)
    sent = len(mails())
    taken, free = ask_for(browser, pages), ask_for(browser, pages, "free@elsewhere.example")
    assert (taken.status_code, taken.content) == (free.status_code, free.content)
    assert len(mails()) == sent + 1
    assert {each.pk for each in Subscription.objects.all()} == {reader.pk, other.pk}


@pytest.mark.parametrize("reason", list(Suppression.Reason))
def test_a_suppressed_address_is_not_written_to(
    browser: Client, reader: Subscription, reason: Suppression.Reason
) -> None:
    consent.suppress(addresses.fingerprint(NEW), reason=reason, source="test")
    pages = visit(browser)
    sent = len(mails())
    assert ask_for(browser, pages).status_code == 200
    assert len(mails()) == sent


def test_an_address_that_became_somebodys_meanwhile_is_left_alone(browser: Client, reader: Subscription) -> None:
    ask_for(browser, visit(browser))
    path = link_in(mails()[-1])
    theirs = Subscriber.objects.get(address_key=NEW)
    Subscription.objects.create(
        subscriber=theirs, newsletter=reader.newsletter, status=Subscription.Status.UNSUBSCRIBED
    )
    assert "Nothing was changed" in text_of(browser.post(path))
    assert Subscriber.objects.count() == 2


def test_a_complaint_goes_along_to_the_new_address_and_a_bounce_does_not(browser: Client, reader: Subscription) -> None:
    for reason in (Suppression.Reason.COMPLAINT, Suppression.Reason.HARD_BOUNCE):
        consent.suppress(addresses.fingerprint(ADDRESS), reason=reason, source="test")
    ask_for(browser, visit(browser))
    browser.post(link_in(mails()[-1]))
    moved = Suppression.objects.filter(fingerprint=addresses.fingerprint(NEW))
    assert [each.reason for each in moved] == [Suppression.Reason.COMPLAINT]
    assert not Subscription.objects.mailable().exists()


def test_asking_for_many_new_addresses_pesters_few(browser: Client, reader: Subscription) -> None:
    pages = visit(browser)
    sent = len(mails())
    for number in range(account.NEW_ADDRESSES_A_DAY + 3):
        ask_for(browser, pages, f"victim{number}@elsewhere.example")
    assert len(mails()) == sent + account.NEW_ADDRESSES_A_DAY


def test_what_is_no_new_address_is_said_beside_the_field(browser: Client, reader: Subscription) -> None:
    response = ask_for(browser, visit(browser), "ada@")
    assert response.status_code == 400
    assert 'aria-invalid="true"' in text_of(response)


def test_an_address_that_was_never_confirmed_leaves_no_row(browser: Client, reader: Subscription) -> None:
    ask_for(browser, visit(browser))
    tidying.tidy()
    assert Subscriber.objects.count() == 2
    age(timedelta(days=1, hours=2))
    tidying.tidy()
    assert Subscriber.objects.get() == reader.subscriber
    assert not OneTimeLink.objects.exists()


def test_without_any_newsletter_there_is_nobody_to_write_as(browser: Client, db: None) -> None:
    make_subscriber(ADDRESS)
    assert ask(browser).status_code == 302
    assert not mails()
    assert not Newsletter.objects.exists()
