"""Being tracked one by one is agreed to apart from subscribing, and taken back also for mail already sent."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from newsletter import allowed, audience, events, tracking, variants
from newsletter.content import TrackingMode
from newsletter.models import Delivery, DispatchProfile, Event, Newsletter
from newsletter.views import subscribing as pages
from subscribers import consent
from subscribers.models import ConsentRecord, Subscriber, Subscription
from tests.making import make_dispatch, make_newsletter, make_reader, make_subscriber

pytestmark = pytest.mark.django_db

Choice, Action = Subscriber.Tracking, ConsentRecord.Action
OFF, ANONYMOUS, INDIVIDUAL = TrackingMode.OFF, TrackingMode.ANONYMOUS, TrackingMode.INDIVIDUAL


@pytest.fixture
def browser() -> Client:
    return Client(enforce_csrf_checks=True, HTTP_USER_AGENT="Browser/1.0", REMOTE_ADDR="203.0.113.9")


def request_for(newsletter: Newsletter, subscriber: Subscriber | None = None) -> ConsentRecord:
    """What somebody's filling in the form leaves behind."""
    person = subscriber or make_subscriber()
    return consent.request(person, newsletter, source="subscribe form", evidence=consent.Evidence())


def path_of(requested: ConsentRecord) -> str:
    return tracking.confirm_url(requested.pk).removeprefix("http://127.0.0.1:8000")


def answer(browser: Client, requested: ConsentRecord, **fields: Any) -> Subscriber:
    """Press the button of the confirmation page, with its question answered by `fields`."""
    browser.post(path_of(requested), fields)
    assert requested.subscriber is not None
    requested.subscriber.refresh_from_db()
    return requested.subscriber


def age(delta: timedelta) -> None:
    ConsentRecord.objects.update(at=F("at") - delta)


@pytest.mark.parametrize(
    ("newsletter", "ask_first", "choice", "mode"),
    [
        ("off", False, Choice.AGREED, OFF),
        ("anonymous", False, Choice.AGREED, ANONYMOUS),
        ("anonymous", True, Choice.NEWSLETTER, ANONYMOUS),
        ("anonymous", False, Choice.OFF, OFF),
        ("individual", False, Choice.NEWSLETTER, INDIVIDUAL),
        ("individual", True, Choice.NEWSLETTER, ANONYMOUS),
        ("individual", True, Choice.AGREED, INDIVIDUAL),
        ("individual", False, Choice.ANONYMOUS, ANONYMOUS),
        ("individual", True, Choice.OFF, OFF),
        ("individual", True, "", ANONYMOUS),
    ],
)
def test_how_far_a_reader_may_be_tracked(newsletter: str, ask_first: bool, choice: str, mode: TrackingMode) -> None:
    assert allowed.tracking(newsletter, ask_first, choice) == mode


@pytest.mark.parametrize("ask_first", [True, False])
@pytest.mark.parametrize("choice", Choice)
def test_mail_carries_what_is_allowed_and_hits_are_kept_as_far(ask_first: bool, choice: Subscriber.Tracking) -> None:
    weekly = make_newsletter(ask_first=ask_first)
    reader = make_reader(weekly)
    consent.choose_tracking(reader.subscriber, tracking=choice, source="test")
    mode = allowed.tracking_of(reader.subscriber, weekly)
    assert [row[-1] for row in audience.candidates(weekly)] == [mode]
    make_dispatch(weekly)
    delivery = Delivery.objects.get()
    assert delivery.profile.tracking == mode
    events.record(events.Kind.CLICK, delivery_id=delivery.pk, url="https://example.com/")
    kept = list(Event.objects.values_list("delivery", "subscriber"))
    whose = (delivery.pk, reader.subscriber_id)
    assert kept == {OFF: [], ANONYMOUS: [(None, None)], INDIVIDUAL: [whose]}[mode]


def test_without_consent_nothing_in_a_mail_is_the_readers_own_but_the_way_to_leave_and_choose() -> None:
    weekly = make_newsletter(ask_first=True)
    for choice in Choice:
        consent.choose_tracking(make_reader(weekly).subscriber, tracking=choice, source="test")
    dispatch = make_dispatch(weekly)
    own = {}
    for profile in DispatchProfile.objects.filter(dispatch=dispatch).select_related("variant"):
        assert profile.variant is not None
        own[profile.tracking] = {slot["name"] for slot in profile.variant.data["slots"]}
    leaving = {"unsubscribe_url", "preferences_url", "web_url", "name"}
    assert own == {"individual": {*leaving, "delivery_token"}, "anonymous": leaving, "off": leaving}
    content = dispatch.revision.content
    html = {
        mode: variants.render(content, profile.profile(), dispatch_id=dispatch.pk).html
        for mode in ("anonymous", "off")
        for profile in [DispatchProfile.objects.get(dispatch=dispatch, tracking=mode)]
    }
    assert "/o/d/" in html["anonymous"]
    assert "/o/" not in html["off"]
    assert "/c/" not in html["off"]


def test_the_form_does_not_bundle_tracking_and_the_confirmation_asks_apart(browser: Client) -> None:
    weekly = make_newsletter()
    form = browser.get("/weekly/subscribe").content.decode()
    assert "Before we note which are yours, we ask you when you confirm." in form
    page = browser.get(path_of(request_for(weekly))).content.decode()
    [box] = re.findall(r'<input type="checkbox" name="tracking"[^>]*>', page)
    assert "checked" not in box.replace("checkbox", "")
    assert "you get the same mail" in page


@pytest.mark.parametrize("mode", ["off", "anonymous"])
def test_nobody_is_asked_where_nobody_is_tracked_one_by_one(browser: Client, mode: str) -> None:
    weekly = make_newsletter(tracking=mode)
    requested = request_for(weekly)
    assert 'name="tracking"' not in browser.get(path_of(requested)).content.decode()
    assert answer(browser, requested, tracking="on").tracking == Choice.NEWSLETTER
    assert Subscription.objects.get().status == "active"


@pytest.mark.parametrize(
    ("fields", "choice", "action"),
    [({"tracking": "on"}, Choice.AGREED, Action.TRACKING_ON), ({}, Choice.ANONYMOUS, Action.TRACKING_ANONYMOUS)],
)
def test_the_answer_is_noted_with_its_words(
    browser: Client, fields: dict[str, str], choice: str, action: ConsentRecord.Action
) -> None:
    weekly = make_newsletter()
    requested = request_for(weekly)
    assert answer(browser, requested, **fields).tracking == choice
    record = ConsentRecord.objects.get(action=action)
    assert record.text_version == pages.question_version(weekly)
    assert (record.network, record.agent) == ("203.0.113.0/24", "Browser/1.0")
    assert record.source == "confirmation page"


def test_confirming_twice_answers_once(browser: Client) -> None:
    requested = request_for(make_newsletter())
    answer(browser, requested)
    assert answer(browser, requested, tracking="on").tracking == Choice.ANONYMOUS
    assert ConsentRecord.objects.filter(action__in=consent.TRACKING_ACTIONS.values()).count() == 1


def test_a_newsletter_that_is_confirmed_along_is_asked_for_too(browser: Client) -> None:
    person = make_subscriber()
    asked = request_for(make_newsletter(tracking="anonymous"), person)
    request_for(make_newsletter(slug="tides", name="The Tides"), person)
    assert 'name="tracking"' in browser.get(path_of(asked)).content.decode()
    assert answer(browser, asked).tracking == Choice.ANONYMOUS


@pytest.mark.parametrize(
    ("choice", "days", "asks"),
    [
        (Choice.AGREED, 400, False),
        (Choice.ANONYMOUS, 100, False),
        (Choice.OFF, 100, False),
        (Choice.ANONYMOUS, 190, True),
        (Choice.OFF, 190, True),
    ],
)
def test_who_decided_is_not_asked_again_for_six_months(
    browser: Client, choice: Subscriber.Tracking, days: int, asks: bool
) -> None:
    weekly = make_newsletter()
    person = make_subscriber()
    consent.choose_tracking(person, tracking=choice, source="test")
    age(timedelta(days=days))
    requested = request_for(weekly, person)
    assert ('name="tracking"' in browser.get(path_of(requested)).content.decode()) is asks
    assert answer(browser, requested, tracking="on").tracking == (Choice.AGREED if asks else choice)


def test_not_agreeing_does_not_take_back_a_no(browser: Client) -> None:
    weekly, person = make_newsletter(), make_subscriber()
    consent.choose_tracking(person, tracking=Choice.OFF, source="test")
    age(timedelta(days=190))
    assert answer(browser, request_for(weekly, person)).tracking == Choice.OFF


def preferences(reader: Subscription) -> str:
    return f"/p/{tracking.reader_token(reader.subscriber.public_id, reader.newsletter.public_id)}"


def chosen(page: str) -> tuple[list[str], list[str]]:
    """The modes that a preferences page offers, and those that stand as chosen."""
    found = re.findall(r'<input type="radio" name="tracking" value="(\w+)"( checked)?>', page)
    return [mode for mode, _ in found], [mode for mode, checked in found if checked]


@pytest.mark.parametrize(
    ("mode", "ask_first", "choice", "offers", "shown"),
    [
        ("individual", False, Choice.NEWSLETTER, ["individual", "anonymous", "off"], "individual"),
        ("individual", True, Choice.NEWSLETTER, ["individual", "anonymous", "off"], "anonymous"),
        ("anonymous", False, Choice.AGREED, ["anonymous", "off"], "anonymous"),
        ("off", False, Choice.NEWSLETTER, ["anonymous", "off"], "anonymous"),
        ("off", False, Choice.OFF, ["anonymous", "off"], "off"),
    ],
)
def test_preferences_offer_what_the_newsletter_does_or_less_and_saving_them_unchanged_changes_nothing(
    browser: Client, mode: str, ask_first: bool, choice: str, offers: list[str], shown: str
) -> None:
    reader = make_reader(make_newsletter(tracking=mode, ask_first=ask_first))
    Subscriber.objects.update(tracking=choice)
    assert chosen(browser.get(preferences(reader)).content.decode()) == (offers, [shown])
    browser.post(preferences(reader), {"do": "save", "tracking": shown})
    assert Subscriber.objects.get().tracking == choice
    assert not ConsentRecord.objects.exists()


def test_a_reader_takes_consent_back_for_mail_already_sent(browser: Client) -> None:
    weekly = make_newsletter(ask_first=True)
    reader = make_reader(weekly)
    consent.choose_tracking(reader.subscriber, tracking=Choice.AGREED, source="test")
    make_dispatch(weekly)
    delivery = Delivery.objects.get()
    browser.post(preferences(reader), {"do": "save", "tracking": "anonymous"})
    events.record(events.Kind.OPEN, delivery_id=delivery.pk)
    assert Event.objects.get().delivery is None
    delivery.refresh_from_db()
    assert delivery.any_open_at is None
    record = ConsentRecord.objects.order_by("-pk")[0]
    assert (record.action, record.source, bool(record.text_version)) == (
        Action.TRACKING_ANONYMOUS,
        "preferences page",
        True,
    )


@pytest.mark.parametrize("header", ["Sec-GPC", "DNT"])
def test_the_preferences_say_that_the_browsers_wish_is_heeded(browser: Client, header: str) -> None:
    path = preferences(make_reader(make_newsletter()))
    words = "Your browser asks not to be tracked"
    assert words in browser.get(path, headers={header: "1"}).content.decode()
    assert words not in browser.get(path, headers={header: "0"}).content.decode()


def test_the_site_says_where_it_is_looked_for_that_it_heeds_global_privacy_control(browser: Client) -> None:
    answer = browser.get("/.well-known/gpc.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["gpc"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", answer.json()["lastUpdate"])
    assert not answer.cookies
