"""The redirect leads where the author's link led, for any link, and nowhere else; a wish for privacy is heeded."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletter import events, intake, tracking
from newsletter.intake import Channel
from newsletter.models import Delivery, Event
from newsletter.views import hits
from newsletter.views.pages import NotFound
from tests.making import BROWSER, make_dispatch, make_newsletter, take_in
from tests.test_links import urls

URL = "https://example.com/a?b=c&b=d#e"
ask = RequestFactory()


def static_of(url: str) -> str:
    return tracking.click_url(1, url).rpartition("/c/")[2]


@pytest.fixture(autouse=True)
def nothing_waits() -> None:
    """What these tests leave waiting is nobody else's."""
    intake.drain(Channel.HIT, lambda entries: None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=urls, method=st.sampled_from(["GET", "HEAD"]))
def test_any_link_leads_where_it_led(url: str, method: str) -> None:
    response = hits.click(ask.generic(method, "/"), static_of(url))
    location = response["Location"]
    assert response.status_code == 302
    assert location.isascii()
    there, here = urlsplit(url), urlsplit(location)
    assert (here.scheme, here.username, here.password, here.port) == (
        there.scheme,
        there.username,
        there.password,
        there.port,
    )
    assert here.hostname == (there.hostname or "").replace("bücher", "xn--bcher-kva")
    # What was percent-encoded stays so, and only what no header may hold is encoded now.
    if url.isascii():
        assert location == url
    else:
        assert [unquote(part) for part in here[2:]] == [unquote(part) for part in there[2:]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=80)
    | st.text("ABCabc019-_", max_size=80)
    | st.sampled_from(
        ["https://evil.example", "//evil.example", "/\\evil.example", "@evil.example", "%2F%2Fevil.example"]
    )
)
def test_nobody_makes_it_lead_elsewhere(text: str) -> None:
    good = static_of(URL)
    for forged in {text, good + text, text + good, good[:40] + text + good[40:]} - {good}:
        with pytest.raises(NotFound):
            hits.click(ask.get("/"), forged)
    # What follows the link says whose click it is and nothing of where it leads.
    assert hits.click(ask.get("/", {"url": text, "next": text}), good, text)["Location"] == URL


@pytest.mark.django_db
def test_a_query_that_is_hung_onto_the_link_changes_nothing(client: Client) -> None:
    path = tracking.click_url(1, URL).removeprefix("http://127.0.0.1:8000")
    response = client.get(f"{path}?url=https://evil.example&fbclid=1")
    assert response["Location"] == URL
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["Sec-GPC", "DNT"])
@pytest.mark.parametrize("what", ["pixel", "click"])
def test_a_wish_for_privacy_is_counted_without_saying_whose_it_is(client: Client, header: str, what: str) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    token = tracking.delivery_token(dispatch.deliveries.get().pk)
    link = tracking.click_url(dispatch.pk, URL).removeprefix("http://127.0.0.1:8000")
    path = f"/o/{token}" if what == "pixel" else f"{link}/{token}"
    answer = client.get(path, headers={header: "1", "User-Agent": BROWSER}, REMOTE_ADDR="203.0.113.9")
    assert answer.status_code == (200 if what == "pixel" else 302)
    take_in()
    event = Event.objects.get()
    assert (event.dispatch, event.delivery, event.subscriber, event.agent, event.network) == (
        dispatch,
        None,
        None,
        "",
        "",
    )
    # It is judged like every other, so that reports stay right, and stays so when it is judged anew.
    assert event.judged == "person"
    events.judge_stored(dispatch.pk)
    event.refresh_from_db()
    assert event.judged == "person"
    delivery = Delivery.objects.get()
    assert (delivery.any_open_at, delivery.any_click_at) == (None, None)
    assert dispatch.tallies.get(judged="person", url="").readers == 0


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["0", "", "yes"])
def test_only_the_wish_itself_is_one(client: Client, value: str) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    token = tracking.delivery_token(dispatch.deliveries.get().pk)
    client.get(f"/o/{token}", headers={"Sec-GPC": value, "User-Agent": BROWSER})
    take_in()
    assert Event.objects.get().delivery is not None


@pytest.mark.django_db
def test_who_leaves_with_a_wish_for_privacy_has_left_and_says_nothing_else(client: Client) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    delivery = dispatch.deliveries.get()
    assert delivery.subscriber
    token = tracking.reader_token(delivery.subscriber.public_id, dispatch.newsletter.public_id, delivery.pk)
    client.post(f"/u/{token}", headers={"Sec-GPC": "1", "User-Agent": BROWSER})
    event = Event.objects.get(kind="unsubscribe")
    assert (event.delivery, event.agent, event.network) == (delivery, "", "")
    assert delivery.subscriber.subscriptions.get().status == "unsubscribed"
