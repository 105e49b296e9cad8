"""The pages and endpoints behind the links in mail, and the public ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import Client
from django.urls import URLPattern, get_resolver
from django.utils import timezone

from newsletter import events, scheduling, slugs, stats, theming, tracking
from newsletter.content import ThemeContent
from newsletter.events import Kind
from newsletter.models import Delivery, Event, Issue, Newsletter, StandingSection, Theme
from newsletter.rendering.colours import contrast
from newsletter.views import public
from newsletter.views.hits import GIF
from subscribers import consent, one_time
from subscribers.addresses import fingerprint
from subscribers.models import ConsentRecord, Membership, OneTimeLink, Subscriber, Subscription, Suppression
from tests.making import BROWSER, issue_of, make_dispatch, make_issue, make_newsletter, make_reader, take_in

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

Status = Subscription.Status
PAID = "Nine cranes crossed the ninth bridge"
ADDRESS = "ada.unmistakable@readers.example"
NAME = "Ada Unmistakable"
URL = "https://example.com/a%20b/ü?q=1&x=ä#end"


@pytest.fixture
def browser() -> Client:
    """A browser; forms are checked as in production, and what breaks shows its page."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False, headers={"User-Agent": BROWSER})


@pytest.fixture
def database_down(db: None) -> Iterator[None]:
    """Every query meets a server that refuses connections."""
    working = connections["default"]
    settings = {**working.settings_dict, "HOST": "127.0.0.1", "PORT": "1", "NAME": "away", "OPTIONS": {}}
    connections["default"] = DatabaseWrapper(settings, "default")
    yield
    connections["default"] = working


def make_delivery(*, tier: str = "", status: str = Status.ACTIVE, **fields: str) -> Delivery:
    """A delivery of an issue with a paid section to one reader, whose subscription then has `status`."""
    weekly = make_newsletter(**fields)
    subscription = make_reader(weekly, ADDRESS, tier=tier)
    Subscriber.objects.update(name=NAME)
    delivery = make_dispatch(weekly, paid=PAID).deliveries.get()
    Subscription.objects.filter(pk=subscription.pk).update(status=status)
    return delivery


def token_of(delivery: Delivery) -> str:
    assert delivery.subscriber
    newsletter = delivery.dispatch.newsletter
    return tracking.reader_token(delivery.subscriber.public_id, newsletter.public_id, delivery.pk)


def path_of(url: str) -> str:
    return url.removeprefix("http://127.0.0.1:8000")


def status_of(delivery: Delivery) -> str:
    return Subscription.objects.get(subscriber=delivery.subscriber).status


def text_of(response: Response) -> str:
    return response.content.decode()


def assert_bare(response: Response) -> None:
    """No cookie, no redirect, nothing that a cache or search engine keeps."""
    assert not response.cookies
    assert "Location" not in response
    assert response["Cache-Control"] == "no-store"


# The pixel


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_pixel_is_a_gif_that_nobody_keeps(browser: Client, method: str) -> None:
    delivery = make_delivery()
    response = browser.generic(
        method, path_of(tracking.pixel_url(1, individual=True)) + tracking.delivery_token(delivery.pk)
    )
    assert (response.status_code, response["Content-Type"]) == (200, "image/gif")
    assert_bare(response)
    assert response.content == (GIF if method == "GET" else b"")
    assert len(GIF) == 43
    take_in()
    event = Event.objects.get(kind=Kind.OPEN)
    assert (event.method, event.delivery) == (method, delivery)
    delivery.refresh_from_db()
    assert (delivery.opened_at is not None) == (method == "GET")


@pytest.mark.django_db
def test_the_anonymous_pixel_counts_for_its_dispatch(browser: Client) -> None:
    delivery = make_delivery(tracking="anonymous")
    response = browser.get(path_of(tracking.pixel_url(delivery.dispatch_id, individual=False)))
    assert response.content == GIF
    assert_bare(response)
    take_in()
    assert Event.objects.get().dispatch == delivery.dispatch


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/o/forged", "/o/d/forged", "/o/" + "A" * 26, "/o/" + "A" * 5000, "/o/%00%ff"])
def test_a_forged_pixel_is_a_picture_all_the_same(browser: Client, path: str) -> None:
    response = browser.get(path)
    assert (response.status_code, response.content) == (404, GIF)
    assert take_in() == 0
    assert not Event.objects.exists()


@pytest.mark.parametrize("path", ["/o/{delivery}", "{anonymous}"])
def test_the_pixel_does_without_the_database(browser: Client, database_down: None, path: str) -> None:
    anonymous = path_of(tracking.pixel_url(1, individual=False))
    response = browser.get(path.format(delivery=tracking.delivery_token(1), anonymous=anonymous))
    assert (response.status_code, response.content) == (200, GIF)


# The redirect


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_click_leads_on_and_is_recorded(browser: Client, method: str) -> None:
    delivery = make_delivery()
    link = path_of(tracking.click_url(delivery.dispatch_id, URL)) + "/" + tracking.delivery_token(delivery.pk)
    response = browser.generic(method, link)
    assert response.status_code == 302
    assert response["Location"] == "https://example.com/a%20b/%C3%BC?q=1&x=%C3%A4#end"
    assert not response.cookies
    assert response["Referrer-Policy"] == "same-origin"
    take_in()
    event = Event.objects.get(kind=Kind.CLICK)
    assert (event.url, event.delivery, event.method) == (URL, delivery, method)
    delivery.refresh_from_db()
    assert (delivery.clicked_at is not None) == (method == "GET")
    assert delivery.opened_at is None


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["", "/forged", "/{other}"])
def test_a_click_without_a_good_delivery_token_is_recorded_anonymously(browser: Client, end: str) -> None:
    delivery = make_delivery()
    end = end.format(other=tracking.delivery_token(delivery.pk)[:-1])
    response = browser.get(path_of(tracking.click_url(delivery.dispatch_id, URL)) + end)
    assert response.status_code == 302
    take_in()
    event = Event.objects.get()
    assert (event.dispatch, event.delivery) == (delivery.dispatch, None)


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["forged", "{token}.", "{other}"])
def test_made_up_tokens_add_nothing_to_the_clicks_of_people(browser: Client, end: str) -> None:
    delivery = make_delivery()
    token = tracking.delivery_token(delivery.pk)
    link = path_of(tracking.click_url(delivery.dispatch_id, URL))
    for _ in range(3):
        assert browser.get(f"{link}/{end.format(token=token, other=token[:-1])}").status_code == 302
    take_in()
    assert set(Event.objects.values_list("judged", "reasons")) == {("unknown", "forged")}
    assert events.judge_late() == events.judge_stored(delivery.dispatch_id) == 0
    clicks = stats.engagement(delivery.dispatch)["clicks"]
    assert [clicks[name]["hits"] for name in ("people", "unknown", "all")] == [0, 3, 3]
    browser.get(f"{link}/{token}")
    take_in()
    assert Event.objects.filter(delivery=delivery).exclude(reasons="forged").exists()


def test_a_click_leads_on_without_the_database(browser: Client, database_down: None) -> None:
    response = browser.get(path_of(tracking.click_url(1, URL)) + "/" + tracking.delivery_token(1))
    assert (response.status_code, response["Location"][:20]) == (302, URL[:20])


@pytest.mark.django_db
def test_a_reader_who_is_not_tracked_is_led_on_unrecorded(browser: Client) -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    consent.choose_tracking(delivery.subscriber, tracking=Subscriber.Tracking.OFF, source="test")
    link = path_of(tracking.click_url(delivery.dispatch_id, URL)) + "/" + tracking.delivery_token(delivery.pk)
    assert browser.get(link).status_code == 302
    assert browser.get(f"/o/{tracking.delivery_token(delivery.pk)}").status_code == 200
    assert take_in() == 2
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://bücher.example:8443/x", "https://xn--bcher-kva.example:8443/x"),
        ("https://ada@BÜCHER.example/x", "https://ada@xn--bcher-kva.example/x"),
        ("https://example.com", "https://example.com"),
        ("http://example.com/%E4%BD%A0?a=%26", "http://example.com/%E4%BD%A0?a=%26"),
        ("https://example.com/?next=https://other.example/", "https://example.com/?next=https://other.example/"),
        (f"https://{'ü' * 80}.example/", f"https://{'%C3%BC' * 80}.example/"),
    ],
)
def test_any_web_address_is_written_for_a_header(browser: Client, database_down: None, url: str, location: str) -> None:
    assert browser.get(path_of(tracking.click_url(1, url)))["Location"] == location


@pytest.mark.parametrize("forged", ["https:%2F%2Fevil.example", "aHR0cHM6Ly9ldmlsLmV4YW1wbGU", "A" * 60, "x" * 9000])
def test_a_forged_redirect_leads_nowhere_and_says_what_to_do(browser: Client, database_down: None, forged: str) -> None:
    response = browser.get(f"/c/{forged}")
    assert response.status_code == 404
    assert "Location" not in response
    assert "from the mail again" in text_of(response)


# Leaving


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_at_the_unsubscribe_page_changes_nothing(browser: Client, method: str) -> None:
    delivery = make_delivery()
    response = browser.generic(method, f"/u/{token_of(delivery)}")
    assert response.status_code == 200
    assert_bare(response)
    assert status_of(delivery) == Status.ACTIVE
    assert not Event.objects.exists()
    assert not ConsentRecord.objects.exists()


@pytest.mark.django_db
def test_the_unsubscribe_page_has_a_button_that_posts(browser: Client) -> None:
    delivery = make_delivery()
    page = text_of(browser.get(f"/u/{token_of(delivery)}"))
    assert '<form method="post"' in page
    assert "The Weekly" in page


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (
            '--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
        ("", "application/x-www-form-urlencoded"),
        ("", ""),
        ("broken", "multipart/form-data"),
        ("\xff\xfe", "application/x-www-form-urlencoded; charset=utf-16"),
        ("{}", "application/json"),
        ("a=" + "b" * 5_000_000, "application/x-www-form-urlencoded"),
    ],
    ids=["urlencoded", "multipart", "empty", "no type", "broken multipart", "odd charset", "json", "huge"],
)
def test_one_click_leaves_at_once_whatever_the_body(browser: Client, body: str, content_type: str) -> None:
    delivery = make_delivery()
    response = browser.generic("POST", f"/u/{token_of(delivery)}", body, content_type=content_type)
    assert response.status_code == 200
    assert_bare(response)
    assert status_of(delivery) == Status.UNSUBSCRIBED
    assert ConsentRecord.objects.get().source == "one click"
    delivery.refresh_from_db()
    assert delivery.unsubscribed_at is not None
    assert Event.objects.get(kind=Kind.UNSUBSCRIBE).delivery == delivery


@pytest.mark.django_db
def test_leaving_again_is_no_error_and_moves_nothing(browser: Client) -> None:
    delivery = make_delivery()
    for _ in range(2):
        assert browser.post(f"/u/{token_of(delivery)}").status_code == 200
    assert ConsentRecord.objects.count() == 1
    first = Delivery.objects.get(pk=delivery.pk).unsubscribed_at
    browser.post(f"/u/{token_of(delivery)}")
    assert Delivery.objects.get(pk=delivery.pk).unsubscribed_at == first


@pytest.mark.django_db
def test_an_erased_reader_gets_the_answer_of_one_who_left_before(browser: Client) -> None:
    delivery = make_delivery()
    path = f"/u/{token_of(delivery)}"
    browser.post(path)
    known = browser.post(path)
    assert delivery.subscriber
    consent.erase(delivery.subscriber, source="test")
    erased = browser.post(path)
    assert (erased.status_code, erased.content) == (200, known.content)


@pytest.mark.django_db
def test_leaving_works_after_the_delivery_is_deleted(browser: Client) -> None:
    delivery = make_delivery()
    path = f"/u/{token_of(delivery)}"
    Delivery.objects.all().delete()
    assert browser.post(path).status_code == 200
    assert Subscription.objects.get().status == Status.UNSUBSCRIBED
    assert Event.objects.get().delivery is None


@pytest.mark.django_db
def test_leaving_works_after_the_newsletter_is_deleted(browser: Client) -> None:
    newsletter = make_newsletter()
    subscriber = make_reader(newsletter).subscriber
    path = f"/u/{tracking.reader_token(subscriber.public_id, newsletter.public_id)}"
    newsletter.delete()
    assert browser.get(path).status_code == 200
    assert browser.post(path).status_code == 200


@pytest.mark.django_db
def test_leaving_one_newsletter_leaves_the_others(browser: Client) -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    other = Subscription.objects.create(
        subscriber=delivery.subscriber, newsletter=make_newsletter(slug="other"), status=Status.ACTIVE
    )
    browser.post(f"/u/{token_of(delivery)}")
    other.refresh_from_db()
    assert other.status == Status.ACTIVE
    assert not Suppression.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/u/{}", "/p/{}", "/i/{}"])
def test_a_forged_or_truncated_token_is_told_what_to_do(browser: Client, path: str, method: str) -> None:
    delivery = make_delivery()
    if (path, method) == ("/i/{}", "POST"):
        method = "HEAD"
    for token in ("forged", token_of(delivery)[:-1], token_of(delivery)[:-1] + "B", "A" * 42, "A" * 9000):
        response = browser.generic(method, path.format(token))
        assert response.status_code == 404
        assert method == "HEAD" or "Open it from the mail again" in text_of(response)
    assert status_of(delivery) == Status.ACTIVE


def test_the_unsubscribe_page_opens_without_the_database_and_asks_to_try_again_on_leaving(
    browser: Client, database_down: None
) -> None:
    path = f"/u/{tracking.reader_token(1, 2, 3)}"
    assert browser.get(path).status_code == 200
    assert browser.post(path).status_code == 500  # so that a mail provider sends its request again


def undo_of(page: Response) -> str:
    found = re.search(r'name="undo" value="([^"]+)"', text_of(page))
    return found[1] if found else ""


@pytest.mark.django_db
@pytest.mark.parametrize("before", [Status.ACTIVE, Status.PAUSED])
def test_a_slip_can_be_undone(browser: Client, before: Status) -> None:
    delivery = make_delivery(status=before)
    page = browser.post(f"/u/{token_of(delivery)}?page")
    assert ConsentRecord.objects.get().source == "unsubscribe page"
    response = browser.post(f"/u/{token_of(delivery)}/undo", {"undo": undo_of(page)})
    assert response.status_code == 200
    assert_bare(response)
    assert status_of(delivery) == before


@pytest.mark.django_db
def test_a_delivery_whose_reader_stayed_made_nobody_leave(browser: Client) -> None:
    delivery = make_delivery()
    page = browser.post(f"/u/{token_of(delivery)}")
    browser.post(f"/u/{token_of(delivery)}/undo", {"undo": undo_of(page)})
    delivery.refresh_from_db()
    assert delivery.unsubscribed_at is None
    assert Event.objects.get().kind == Kind.UNSUBSCRIBE
    browser.post(f"/u/{token_of(delivery)}")
    browser.post(f"/u/{token_of(delivery)}/undo", {"undo": "forged"})
    delivery.refresh_from_db()
    assert delivery.unsubscribed_at is not None


@pytest.mark.django_db
def test_undoing_brings_a_pause_back_with_its_end(browser: Client) -> None:
    delivery = make_delivery()
    browser.post(f"/p/{token_of(delivery)}", {"do": "pause", "days": "14"})
    until = Subscription.objects.get().paused_until
    undo = undo_of(browser.post(f"/u/{token_of(delivery)}"))
    browser.post(f"/u/{token_of(delivery)}/undo", {"undo": undo})
    subscription = Subscription.objects.get()
    assert (subscription.status, subscription.paused_until) == (Status.PAUSED, until)


@pytest.mark.django_db
def test_undoing_twice_does_not_pause_a_reader_who_resumed(browser: Client) -> None:
    delivery = make_delivery(status=Status.PAUSED)
    undo = {"undo": undo_of(browser.post(f"/u/{token_of(delivery)}"))}
    browser.post(f"/u/{token_of(delivery)}/undo", undo)
    consent.resume(Subscription.objects.get(), source="test")
    browser.post(f"/u/{token_of(delivery)}/undo", undo)
    assert status_of(delivery) == Status.ACTIVE


@pytest.mark.django_db
def test_undo_confirms_nobody_who_had_not_confirmed(browser: Client) -> None:
    delivery = make_delivery(status=Status.PENDING)
    assert undo_of(browser.post(f"/u/{token_of(delivery)}")) == ""
    assert status_of(delivery) == Status.UNSUBSCRIBED


@pytest.mark.django_db
def test_undo_lifts_no_suppression(browser: Client) -> None:
    delivery = make_delivery()
    page = browser.post(f"/u/{token_of(delivery)}")
    consent.suppress(fingerprint(ADDRESS), reason=Suppression.Reason.COMPLAINT, source="test")
    browser.post(f"/u/{token_of(delivery)}/undo", {"undo": undo_of(page)})
    assert not Subscription.objects.mailable().exists()


@pytest.mark.django_db
@pytest.mark.parametrize("undo", ["", "forged", "{token}:active", "{token}:active:1:forged"])
def test_the_link_alone_undoes_nothing(browser: Client, undo: str) -> None:
    delivery = make_delivery()
    token = token_of(delivery)
    browser.post(f"/u/{token}")
    response = browser.post(f"/u/{token}/undo", {"undo": undo.format(token=token)})
    assert response.status_code == 400
    assert browser.get(f"/u/{token}/undo").status_code == 405
    assert status_of(delivery) == Status.UNSUBSCRIBED


@pytest.mark.django_db
def test_undo_is_over_after_an_hour_and_holds_for_one_reader(browser: Client) -> None:
    delivery = make_delivery()
    token = token_of(delivery)
    undo = {"undo": undo_of(browser.post(f"/u/{token}"))}
    other = make_reader(delivery.dispatch.newsletter, status=Status.UNSUBSCRIBED).subscriber
    others = tracking.reader_token(other.public_id, delivery.dispatch.newsletter.public_id)
    assert browser.post(f"/u/{others}/undo", undo).status_code == 400
    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=2)):
        assert browser.post(f"/u/{token}/undo", undo).status_code == 400
    assert browser.post(f"/u/{token}/undo", undo).status_code == 200


# Preferences


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/u/{}", "/p/{}", "/i/{}"])
def test_a_forwarded_link_shows_no_address_and_no_name(browser: Client, path: str) -> None:
    page = text_of(browser.get(path.format(token_of(make_delivery(tier="paid")))))
    assert "The Weekly" in page
    assert ADDRESS not in page
    assert NAME not in page
    assert "Ada" not in page


@pytest.mark.django_db
def test_sections_are_chosen_by_their_ticks(browser: Client) -> None:
    delivery = make_delivery()
    newsletter = delivery.dispatch.newsletter
    news, papers = (StandingSection.objects.create(newsletter=newsletter, name=name) for name in ("News", "Papers"))
    path = f"/p/{token_of(delivery)}"
    assert text_of(browser.get(path)).count(" checked") == 3
    later = StandingSection.objects.create(newsletter=newsletter, name="Made after the page was opened")
    response = browser.post(
        path, {"do": "save", "offered": [news.pk, papers.pk], "sections": [papers.pk], "tracking": "individual"}
    )
    assert (response.status_code, response["Location"]) == (302, f"{path}?done=saved")
    assert not response.cookies
    assert Subscription.objects.get().muted_sections == {news.pk}
    page = text_of(browser.get(response["Location"]))
    assert "Your choices are saved." in page
    assert f'name="sections" value="{news.pk}">' in page
    assert f'name="sections" value="{papers.pk}" checked>' in page
    assert f'name="sections" value="{later.pk}" checked>' in page


@pytest.mark.django_db
def test_text_only_and_tracking_are_chosen(browser: Client) -> None:
    delivery = make_delivery()
    path = f"/p/{token_of(delivery)}"
    browser.post(path, {"do": "save", "text_only": "on", "tracking": "off"})
    subscriber = Subscriber.objects.get()
    assert (subscriber.text_only, subscriber.tracking) == (True, Subscriber.Tracking.OFF)
    assert ConsentRecord.objects.get().action == ConsentRecord.Action.TRACKING_OFF
    browser.post(path, {"do": "save", "tracking": "individual"})
    subscriber.refresh_from_db()
    assert (subscriber.text_only, subscriber.tracking) == (False, Subscriber.Tracking.AGREED)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "written"), [("en", "6 March 2126"), ("en-GB", "6 March 2126"), ("de", "6. März 2126")]
)
def test_a_date_is_written_out_as_in_the_mail(browser: Client, language: str, written: str) -> None:
    delivery = make_delivery()
    until = datetime(2126, 3, 6, 12, tzinfo=UTC)
    Subscription.objects.update(status=Status.PAUSED, paused_until=until)
    Newsletter.objects.update(language=language)
    assert written in text_of(browser.get(f"/p/{token_of(delivery)}"))


@pytest.mark.django_db
def test_a_break_of_a_length_that_the_page_does_not_offer_is_refused(browser: Client) -> None:
    delivery = make_delivery()
    assert browser.post(f"/p/{token_of(delivery)}", {"do": "pause", "days": "15"}).status_code == 400
    assert status_of(delivery) == Status.ACTIVE


@pytest.mark.django_db
def test_a_reader_pauses_resumes_and_leaves(browser: Client) -> None:
    delivery = make_delivery()
    path = f"/p/{token_of(delivery)}"
    for action, status in (("pause", Status.PAUSED), ("resume", Status.ACTIVE), ("leave", Status.UNSUBSCRIBED)):
        assert f'value="{action}"' in text_of(browser.get(path))
        response = browser.post(path, {"do": action})
        assert response.status_code == 302
        assert status_of(delivery) == status
    delivery.refresh_from_db()
    assert delivery.unsubscribed_at is not None
    assert 'value="resume"' not in text_of(browser.get(path))


@pytest.mark.django_db
@pytest.mark.parametrize(("days", "ends_in"), [("14", 14), ("30", 30), ("90", 90), ("", None), ("9999", None)])
def test_a_pause_is_as_long_as_was_chosen(browser: Client, days: str, ends_in: int | None) -> None:
    delivery = make_delivery()
    path = f"/p/{token_of(delivery)}"
    page = text_of(browser.post(path, {"do": "pause", "days": days}, follow=True))
    until = Subscription.objects.get().paused_until
    assert ("unless you resume before" in page) == (ends_in is not None)
    if ends_in is None:
        assert until is None
    else:
        assert until is not None
        assert abs(until - timezone.now() - timedelta(days=ends_in)) < timedelta(minutes=1)
    browser.post(path, {"do": "resume"})
    assert Subscription.objects.get().paused_until is None


@pytest.mark.django_db
def test_a_readers_other_newsletters_lead_to_their_own_pages(browser: Client) -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    for slug, status in (("tides", Status.PAUSED), ("teas", Status.UNSUBSCRIBED)):
        other = make_newsletter(slug=slug, name=f"The {slug}")
        Subscription.objects.create(subscriber=delivery.subscriber, newsletter=other, status=status)
    page = text_of(browser.get(f"/p/{token_of(delivery)}"))
    assert "The teas" not in page
    found = re.search(r'<a href="(/p/[^"]+)">The tides</a>', page)
    assert found
    browser.post(found[1], {"do": "resume"})
    assert dict(Subscription.objects.values_list("newsletter__slug", "status")) == {
        "weekly": Status.ACTIVE,
        "tides": Status.ACTIVE,
        "teas": Status.UNSUBSCRIBED,
    }


@pytest.mark.django_db
def test_another_site_cannot_press_the_buttons_of_the_preferences(browser: Client) -> None:
    delivery = make_delivery()
    response = browser.post(f"/p/{token_of(delivery)}", {"do": "pause"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 403
    assert status_of(delivery) == Status.ACTIVE


@pytest.mark.django_db
def test_pausing_or_resuming_brings_nobody_back_who_left(browser: Client) -> None:
    delivery = make_delivery(status=Status.UNSUBSCRIBED)
    for action in ("pause", "resume", "save"):
        browser.post(f"/p/{token_of(delivery)}", {"do": action})
        assert status_of(delivery) == Status.UNSUBSCRIBED


@pytest.mark.django_db
def test_leaving_everything_leaves_every_newsletter_once(browser: Client) -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    other = make_newsletter(slug="other")
    Subscription.objects.create(subscriber=delivery.subscriber, newsletter=other, status=Status.PAUSED)
    for _ in range(2):
        assert browser.post(f"/p/{token_of(delivery)}", {"do": "leave_all"}).status_code == 302
    assert set(Subscription.objects.values_list("status", flat=True)) == {Status.UNSUBSCRIBED}
    events = Event.objects.filter(kind=Kind.UNSUBSCRIBE).values_list("newsletter__slug", "delivery")
    assert sorted(events) == [("other", None), ("weekly", delivery.pk)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"do": "delete"},
        {"do": "save", "offered": "999999"},
        {"do": "save", "sections": "x"},
        {"do": "save", "sections": "1 OR 1"},
    ],
)
def test_a_form_that_is_not_this_pages_changes_nothing(browser: Client, form: dict[str, str]) -> None:
    delivery = make_delivery()
    response = browser.post(f"/p/{token_of(delivery)}", form)
    assert response.status_code == 400
    assert "Nothing was changed" in text_of(response)
    assert not ConsentRecord.objects.exists()


@pytest.mark.django_db
def test_the_preferences_of_an_erased_reader_are_gone(browser: Client) -> None:
    delivery = make_delivery()
    path = f"/p/{token_of(delivery)}"
    assert delivery.subscriber
    consent.erase(delivery.subscriber, source="test")
    for response in (browser.get(path), browser.post(path, {"do": "leave_all"})):
        assert response.status_code == 200
        assert "Nothing is kept" in text_of(response)


# An issue in the browser


@pytest.mark.django_db
def test_the_web_view_shows_what_the_reader_may_see_now(browser: Client) -> None:
    delivery = make_delivery(tier="paid")
    path = f"/i/{token_of(delivery)}"
    response = browser.get(path)
    assert PAID in text_of(response)
    assert "noindex" in response["X-Robots-Tag"]
    assert_bare(response)
    Membership.objects.update(ends_at=timezone.now())
    assert PAID not in text_of(browser.get(path))


@pytest.mark.django_db
def test_the_web_view_is_the_issue_as_it_was_sent(browser: Client) -> None:
    delivery = make_delivery()
    Issue.objects.update(title="Edited after it was sent")
    assert "Edited after it was sent" not in text_of(browser.get(f"/i/{token_of(delivery)}"))


@pytest.mark.django_db
def test_an_erased_reader_sees_the_free_view(browser: Client) -> None:
    delivery = make_delivery(tier="paid")
    path = f"/i/{token_of(delivery)}"
    assert delivery.subscriber
    Membership.objects.all().delete()
    consent.erase(delivery.subscriber, source="test")
    page = text_of(browser.get(path))
    assert issue_of(delivery.dispatch).title in page
    assert PAID not in page


@pytest.mark.django_db
def test_the_web_view_leads_back_without_tracking(browser: Client) -> None:
    delivery = make_delivery()
    page = text_of(browser.get(f"/i/{token_of(delivery)}"))
    assert f"http://127.0.0.1:8000/u/{token_of(delivery)}" in page
    assert "https://example.com/a?b=c#d" in page
    assert "/c/" not in page
    assert "/o/" not in page
    assert not re.search("[\ue000-\uf8ff]", page)


@pytest.mark.django_db
def test_a_web_view_whose_delivery_is_gone_says_so(browser: Client) -> None:
    delivery = make_delivery()
    path = f"/i/{token_of(delivery)}"
    Delivery.objects.all().delete()
    response = browser.get(path)
    assert response.status_code == 404
    assert "/weekly/" in text_of(response)


@pytest.mark.django_db
def test_mail_html_in_the_browser_runs_nothing_and_loads_only_images(browser: Client) -> None:
    delivery = make_delivery()
    for path in (f"/i/{token_of(delivery)}", f"/weekly/{issue_of(delivery.dispatch).number}/"):
        policy = browser.get(path)["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "style-src 'unsafe-inline'" in policy
        assert "img-src 'self' https:" in policy
        assert "script-src" not in policy


# Public pages


@pytest.mark.django_db
def test_the_public_page_of_an_issue_is_the_free_view_and_nobodys_own(browser: Client) -> None:
    dispatch = make_delivery(tier="paid").dispatch
    for name in (issue_of(dispatch).number, issue_of(dispatch).public_id):
        page = text_of(browser.get(f"/weekly/{name}/"))
        assert issue_of(dispatch).title in page
        assert PAID not in page
        assert "/u/" not in page
        assert "/p/" not in page
        assert "Unsubscribe" not in page
        assert not re.search("[\ue000-\uf8ff]", page)


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["draft", "scheduled", "preparing", "paused", "missed", "cancelled"])
def test_an_issue_that_is_not_out_is_not_public(browser: Client, status: str) -> None:
    dispatch = make_delivery().dispatch
    type(dispatch).objects.update(status=status, due_at=timezone.now())
    assert browser.get(f"/weekly/{issue_of(dispatch).number}/").status_code == 404
    assert issue_of(dispatch).title not in text_of(browser.get("/weekly/"))


@pytest.mark.django_db
def test_a_draft_is_not_public(browser: Client) -> None:
    issue = make_issue(make_newsletter())
    for name in (issue.number, issue.public_id, 0, 10**30, "9" * 5000, "draft", "-1"):
        assert browser.get(f"/weekly/{name}/").status_code == 404


@pytest.mark.django_db
def test_an_issue_is_not_shown_under_another_newsletter(browser: Client) -> None:
    dispatch = make_delivery().dispatch
    make_newsletter(slug="other")
    assert browser.get(f"/other/{issue_of(dispatch).public_id}/").status_code == 404


@pytest.mark.django_db
def test_issues_are_listed_newest_first_a_page_at_a_time(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "ISSUES_PER_PAGE", 2)
    weekly = make_newsletter(description="What the week <brought>.")
    titles = [issue_of(make_dispatch(weekly, readers=1, title=f"Title {number}")).title for number in range(3)]
    first, second = (text_of(browser.get(f"/weekly/?page={number}")) for number in (1, 2))
    assert first.index(titles[2]) < first.index(titles[1])
    assert titles[0] not in first
    assert titles[0] in second
    assert "What the week &lt;brought&gt;." in first
    assert text_of(browser.get("/weekly/?page=nonsense")) == first


@pytest.mark.django_db
def test_the_first_page_lists_the_newsletters(browser: Client) -> None:
    assert "no newsletter here yet" in text_of(browser.get("/"))
    make_newsletter(name="Tea & Tides")
    page = text_of(browser.get("/"))
    assert "Tea &amp; Tides" in page
    assert 'href="/weekly/"' in page


@pytest.mark.django_db
def test_pages_speak_the_newsletters_language_and_direction(browser: Client) -> None:
    make_newsletter(slug="tides", language="ar")
    make_newsletter(slug="other", language="tlh-x1")
    assert '<html lang="ar" dir="rtl">' in text_of(browser.get("/tides/"))
    assert '<html lang="tlh-x1" dir="ltr">' in text_of(browser.get("/other/"))


def test_no_newsletter_takes_the_path_of_another_page() -> None:
    for pattern in get_resolver().url_patterns:
        first = str(pattern.pattern).partition("/")[0]
        if first and not first.startswith("<") and first not in ("favicon.ico", ".well-known"):
            with pytest.raises(ValidationError, match="choose another word"):
                slugs.validate_newsletter_slug(first)
    for slug in ("Admin", "mailbox", "static"):
        with pytest.raises(ValidationError, match="choose another word"):
            slugs.validate_newsletter_slug(slug)
    with pytest.raises(ValidationError):
        slugs.validate_newsletter_slug("a/b")
    slugs.validate_newsletter_slug("weekly")


# Looks and headers


def properties(css: str) -> list[dict[str, str]]:
    """The custom properties of the light and the dark scheme."""
    return [dict(re.findall(r"--([\w-]+):([^;}]+)", block)) for block in re.findall(r":root\{([^}]*)\}", css)]


@pytest.mark.parametrize("accent", ["#0b57d0", "#ffff00", "#000000", "#ffffff", "#808080", "#ff8a00", "#7a7a7a"])
def test_every_accent_can_be_read(accent: str) -> None:
    schemes = properties(
        theming.stylesheet(ThemeContent(accent=accent, dark_accent=accent, text="#eeeeee", muted="#dddddd"))
    )
    assert len(schemes) == 2
    for scheme in schemes:
        assert scheme["accent"] == accent
        assert contrast(scheme["on-accent"], accent) >= 4.5
        for ground in (scheme["background"], scheme["surface"]):
            assert min(contrast(scheme[name], ground) for name in ("text", "muted", "link")) >= 4.5


@pytest.mark.django_db
def test_the_theme_is_served_as_a_stylesheet_and_carries_nothing_else(browser: Client) -> None:
    newsletter = make_newsletter()
    assert properties(text_of(browser.get("/weekly/theme.css")))[0]["accent"] == ThemeContent.accent
    Theme.objects.create(
        newsletter=newsletter, accent="#123456", font="Georgia, serif", dark_accent="red;}*{", muted="#12"
    )
    Theme.objects.update(font="x;} body{display:none}")
    response = browser.get("/weekly/theme.css")
    assert response["Content-Type"] == "text/css"
    light, dark = properties(text_of(response))
    assert (light["accent"], dark["accent"]) == ("#123456", ThemeContent.dark_accent)
    assert light["muted"] == ThemeContent.muted
    assert light["font"] == ThemeContent.font
    assert "display" not in text_of(response)
    assert '<link rel="stylesheet" href="/weekly/theme.css">' in text_of(browser.get("/weekly/"))


@pytest.mark.django_db
def test_pages_carry_strict_headers_and_nothing_inline(browser: Client) -> None:
    token = token_of(make_delivery())
    for path in ("/", "/weekly/", f"/u/{token}", f"/p/{token}", "/nowhere/at/all"):
        response = browser.get(path)
        policy = response["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response["Referrer-Policy"] == "same-origin"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "camera=()" in response["Permissions-Policy"]
        assert not response.cookies
        page = text_of(response)
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", page)
        assert re.search(r'<html lang="en" dir="ltr">', page)
        assert len(re.findall("<h1", page)) == 1
        assert all(tag in page for tag in ("<main", "<header", "<title>", 'name="viewport"'))


@pytest.mark.django_db
def test_the_admin_keeps_its_own_headers(browser: Client) -> None:
    response = browser.get("/admin/login/")
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert response["Referrer-Policy"] == "same-origin"


@pytest.mark.django_db
def test_a_logo_is_shown_from_where_it_stands_and_from_nowhere_else(browser: Client) -> None:
    newsletter = make_newsletter()
    Theme.objects.create(newsletter=newsletter, logo_url="https://images.example:8443/logo.png", logo_alt="Our ship")
    response = browser.get("/weekly/subscribe")
    assert '<img class="logo" src="https://images.example:8443/logo.png" alt="Our ship">' in text_of(response)
    assert "img-src 'self' https://images.example:8443;" in response["Content-Security-Policy"]
    Theme.objects.update(logo_url="javascript:alert(1)")
    response = browser.get("/weekly/subscribe")
    assert "javascript" not in text_of(response)
    assert "img-src 'self';" in response["Content-Security-Policy"]


@pytest.mark.django_db
def test_browsers_find_an_icon_where_no_page_names_one(browser: Client) -> None:
    response = browser.get(browser.get("/favicon.ico")["Location"])
    assert (response.status_code, response["Content-Type"]) == (200, "image/svg+xml")
    response.close()


def paths_of(delivery: Delivery) -> dict[str, str]:
    """A path for each URL of the site but the admin's, by its name."""
    assert delivery.subscriber
    weekly, token = delivery.dispatch.newsletter, token_of(delivery)
    record = consent.request(delivery.subscriber, weekly, source="test", evidence=consent.Evidence())
    link = one_time.issue(delivery.subscriber, OneTimeLink.Purpose.VISIT)
    return {
        "healthz": "/healthz",
        "readyz": "/readyz",
        "pixel": f"/o/{tracking.delivery_token(delivery.pk)}",
        "anonymous-pixel": path_of(tracking.pixel_url(delivery.dispatch_id, individual=False)),
        "click": path_of(tracking.click_url(delivery.dispatch_id, URL)),
        "individual-click": f"{path_of(tracking.click_url(1, URL))}/{tracking.delivery_token(delivery.pk)}",
        "unsubscribe": f"/u/{token}",
        "undo": f"/u/{token}/undo",
        "preferences": f"/p/{token}",
        "web-view": f"/i/{token}",
        "confirm": path_of(tracking.confirm_url(record.pk)),
        "account": "/account",
        "one-time-link": f"/a/{link}",
        "download": f"/a/{link}/download",
        "change-address": f"/a/{link}/address",
        "erase": f"/a/{link}/erase",
        "gpc": "/.well-known/gpc.json",
        "provider-events": "/webhooks/nobody/",
        "icon": "/favicon.ico",
        "home": "/",
        "newsletter": "/weekly/",
        "subscribe": "/weekly/subscribe",
        "theme": "/weekly/theme.css",
        "public-issue": f"/weekly/{issue_of(delivery.dispatch).number}/",
    }


@pytest.mark.django_db
def test_every_path_outside_the_admin_is_strict_and_calls_no_foreign_host(browser: Client) -> None:
    paths = paths_of(make_delivery())
    named = {pattern.name for pattern in get_resolver().url_patterns if isinstance(pattern, URLPattern)}
    assert named == set(paths), "a new path: show it here"
    for method in ("GET", "POST", "PUT"):
        for name, path in [*paths.items(), ("nothing", "/no/such/page")]:
            if (method, name) == ("POST", "erase"):
                continue
            response = browser.generic(method, path)
            assert response.status_code < 500, name
            policy = response["Content-Security-Policy"]
            for rule in ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action"):
                assert rule in policy, name
            assert "script-src" not in policy
            assert ("unsafe-inline" in policy) == (
                name in ("web-view", "public-issue") and response.status_code == 200
            ), name
            assert response["Referrer-Policy"] == "same-origin"
            assert response["X-Content-Type-Options"] == "nosniff"
            assert response["X-Frame-Options"] == "DENY"
            assert not response.cookies
            page = text_of(response) if "html" in response.get("Content-Type", "") else ""
            assert not re.search(r"<script|javascript:|\son\w+=", page)
            loaded = re.findall(r"""<(?:link|img|iframe|form)\b[^>]*?\b(?:src|href|action)="([^"]*)\"""", page)
            assert all(url.startswith(("/", "?")) and not url.startswith("//") for url in loaded), (name, loaded)
            assert not re.search(r"@import|url\(", page)


@pytest.mark.django_db
def test_only_public_pages_may_be_indexed(browser: Client) -> None:
    token = token_of(make_delivery())
    for path in ("/", "/weekly/"):
        assert "noindex" not in text_of(browser.get(path))
    for path in (f"/u/{token}", f"/p/{token}"):
        response = browser.get(path)
        assert "noindex" in text_of(response)
        assert "noindex" in response["X-Robots-Tag"]


# Health and errors


@pytest.mark.django_db
def test_a_healthy_server_says_so(browser: Client) -> None:
    for path in ("/healthz", "/readyz"):
        response = browser.get(path)
        assert (response.status_code, response.content) == (200, b"ok\n")


def test_without_the_database_the_process_is_alive_but_not_ready(browser: Client, database_down: None) -> None:
    assert browser.get("/healthz").status_code == 200
    assert browser.get("/readyz").status_code == 503


def test_what_breaks_shows_a_page_without_the_database(browser: Client, database_down: None) -> None:
    response = browser.get("/weekly/")
    assert response.status_code == 500
    assert "Try again in a minute" in text_of(response)
    assert not response.cookies


def test_an_unknown_path_says_what_to_do(browser: Client, database_down: None) -> None:
    response = browser.get("/no/such/page")
    assert response.status_code == 404
    assert "Open the link from the mail again" in text_of(response)
    assert "noindex" in response["X-Robots-Tag"]


def test_an_unreadable_request_says_what_to_do(browser: Client) -> None:
    response = browser.get("/", HTTP_HOST="not a host")
    assert response.status_code == 400
    assert "Go back, reload the page" in text_of(response)


@pytest.mark.django_db
def test_an_unknown_newsletter_is_not_found(browser: Client) -> None:
    assert browser.get("/nowhere/").status_code == 404
    assert browser.get("/nowhere/theme.css").status_code == 404
    assert not Newsletter.objects.exists()


@pytest.mark.django_db
def test_merge_fields_show_their_fallback_to_visitors_and_are_escaped(browser: Client) -> None:
    weekly = make_newsletter()
    make_reader(weekly)
    issue = make_issue(weekly, title='For {{ name|default:"you & me" }}')
    issue.sections.filter(heading="News").update(body='Dear {{ name|default:"R&D <team>" }}')
    dispatch = scheduling.schedule(issue)
    scheduling.start_due()
    scheduling.prepare(dispatch)
    assert "For you &amp; me" in text_of(browser.get("/weekly/"))
    page = text_of(browser.get(f"/weekly/{issue.number}/"))
    assert "R&amp;D &lt;team&gt;" in page
    assert "{{" not in page
