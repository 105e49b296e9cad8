"""What comes back is stored raw, counted once, and never more than newsletter and reader allow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from newsletter import events
from newsletter.events import Hit, Kind
from newsletter.models import Delivery, Event, Newsletter
from subscribers import consent
from subscribers.models import Subscriber
from tests.making import BROWSER, make_dispatch, make_newsletter

COLUMN = {Kind.OPEN: "opened_at", Kind.CLICK: "clicked_at", Kind.UNSUBSCRIBE: "unsubscribed_at"}
TRACKED = [Kind.OPEN, Kind.CLICK]

HIT = Hit("GET", BROWSER, "203.0.113.0/24")


def make_delivery(**fields: str) -> Delivery:
    return make_dispatch(make_newsletter(**fields), readers=1).deliveries.get()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", COLUMN)
def test_every_hit_is_stored_and_the_first_one_noted_once(kind: Kind) -> None:
    delivery = make_delivery()
    assert events.record(kind, delivery_id=delivery.pk, hit=HIT)
    delivery.refresh_from_db()
    first = getattr(delivery, COLUMN[kind])
    assert first is not None
    assert events.record(kind, delivery_id=delivery.pk, hit=HIT)
    delivery.refresh_from_db()
    assert getattr(delivery, COLUMN[kind]) == first
    others = set(COLUMN.values()) - {COLUMN[kind]}
    assert [getattr(delivery, other) for other in others] == [None, None]
    assert Event.objects.filter(kind=kind, delivery=delivery, dispatch=delivery.dispatch).count() == 2


@pytest.mark.django_db
def test_a_hit_is_kept_with_its_agent_network_method_and_url() -> None:
    delivery = make_delivery()
    events.record(Kind.CLICK, delivery_id=delivery.pk, url="https://example.com/", hit=HIT)
    event = Event.objects.get()
    assert (event.agent, event.network, event.method, event.url) == (
        HIT.agent,
        HIT.network,
        "GET",
        "https://example.com/",
    )
    assert (event.subscriber, event.newsletter) == (delivery.subscriber, delivery.dispatch.newsletter)


@pytest.mark.django_db
@pytest.mark.parametrize("hit", [Hit("HEAD", BROWSER), Hit("GET", BROWSER, prefetch=True)], ids=["HEAD", "prefetch"])
@pytest.mark.parametrize("kind", TRACKED)
def test_a_program_looking_ahead_is_stored_but_opens_and_clicks_nothing(kind: Kind, hit: Hit) -> None:
    delivery = make_delivery()
    assert events.record(kind, delivery_id=delivery.pk, hit=hit)
    delivery.refresh_from_db()
    assert getattr(delivery, COLUMN[kind]) is None
    assert Event.objects.get().method == hit.method


@pytest.mark.django_db
@pytest.mark.parametrize("kind", TRACKED)
def test_a_reader_who_turned_tracking_off_is_not_recorded_for_mail_already_sent(kind: Kind) -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    consent.choose_tracking(delivery.subscriber, tracking=Subscriber.Tracking.OFF, source="test")
    assert not events.record(kind, delivery_id=delivery.pk, hit=HIT)
    delivery.refresh_from_db()
    assert getattr(delivery, COLUMN[kind]) is None
    assert not Event.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", TRACKED)
def test_a_newsletter_that_turned_tracking_off_records_nothing_for_mail_already_sent(kind: Kind) -> None:
    delivery = make_delivery()
    Newsletter.objects.update(tracking=Newsletter.Tracking.OFF)
    assert not events.record(kind, delivery_id=delivery.pk, hit=HIT)
    assert not events.record(kind, dispatch_id=delivery.dispatch_id, hit=HIT)
    assert not Event.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", TRACKED)
def test_a_newsletter_that_became_anonymous_no_longer_records_whose_hit_it_is(kind: Kind) -> None:
    delivery = make_delivery()
    Newsletter.objects.update(tracking=Newsletter.Tracking.ANONYMOUS)
    assert events.record(kind, delivery_id=delivery.pk, hit=HIT)
    event = Event.objects.get()
    assert (event.dispatch, event.delivery, event.subscriber, event.network) == (delivery.dispatch, None, None, "")
    delivery.refresh_from_db()
    assert getattr(delivery, COLUMN[kind]) is None


@pytest.mark.django_db
@pytest.mark.parametrize("kind", TRACKED)
def test_an_anonymous_hit_counts_for_its_dispatch_alone(kind: Kind) -> None:
    delivery = make_delivery(tracking="anonymous")
    assert events.record(kind, dispatch_id=delivery.dispatch_id, hit=HIT)
    event = Event.objects.get()
    assert (event.dispatch, event.delivery, event.subscriber, event.network) == (delivery.dispatch, None, None, "")


@pytest.mark.django_db
def test_anonymous_clicks_on_many_links_at_once_are_left_open_and_keep_no_network() -> None:
    delivery = make_delivery(tracking="anonymous")
    urls = [f"https://example.com/{number}" for number in range(6)]
    entries = [events.entry_of(Kind.CLICK, HIT, dispatch_id=delivery.dispatch_id, url=url) for url in urls]
    assert events.write_hits(entries) == 6
    assert set(Event.objects.values_list("judged", "reasons", "network")) == {("unknown", "sweep", "")}
    assert events.judge_stored(delivery.dispatch_id) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("kind", TRACKED)
def test_an_erased_readers_hit_counts_without_saying_whose_it_was(kind: Kind) -> None:
    delivery = make_delivery()
    assert delivery.subscriber
    consent.erase(delivery.subscriber, source="test")
    assert events.record(kind, delivery_id=delivery.pk, hit=HIT)
    event = Event.objects.get()
    assert (event.dispatch, event.delivery, event.network) == (delivery.dispatch, None, "")


@pytest.mark.django_db
def test_erasing_a_reader_takes_network_and_program_out_of_what_came_before() -> None:
    delivery, other = make_dispatch(make_newsletter(), readers=2).deliveries.order_by("pk")
    for each in (delivery, other):
        events.record(Kind.OPEN, delivery_id=each.pk, hit=HIT)
    assert delivery.subscriber
    consent.erase(delivery.subscriber, source="test")
    theirs, others = Event.objects.order_by("delivery")
    assert (theirs.subscriber, theirs.agent, theirs.network) == (None, "", "")
    assert (others.subscriber, others.agent, others.network) == (other.subscriber, HIT.agent, HIT.network)
    assert theirs.judged == "person"
    assert delivery.dispatch.tallies.get(kind="open", judged="person", url="").readers == 2


@pytest.mark.django_db
def test_a_click_outlives_its_delivery() -> None:
    delivery = make_delivery()
    gone = delivery.pk
    delivery.delete()
    assert events.record(Kind.CLICK, delivery_id=gone, dispatch_id=delivery.dispatch_id, hit=HIT)
    assert Event.objects.get().dispatch == delivery.dispatch


@pytest.mark.django_db
@pytest.mark.parametrize("kind", TRACKED)
def test_where_nobody_can_tell_whether_it_may_be_recorded_it_is_not(kind: Kind) -> None:
    assert not events.record(kind, delivery_id=4711, dispatch_id=4711, hit=HIT)
    assert not events.record(kind, hit=HIT)


@pytest.mark.django_db
def test_leaving_is_recorded_whatever_tracking_says() -> None:
    delivery = make_delivery(tracking="off")
    assert delivery.subscriber
    consent.choose_tracking(delivery.subscriber, tracking=Subscriber.Tracking.OFF, source="test")
    assert events.record(Kind.UNSUBSCRIBE, delivery_id=delivery.pk)
    delivery.refresh_from_db()
    assert delivery.unsubscribed_at is not None


@pytest.mark.django_db
def test_leaving_is_recorded_without_a_delivery() -> None:
    newsletter = make_newsletter()
    assert events.record(Kind.UNSUBSCRIBE, delivery_id=4711, newsletter=newsletter)
    assert Event.objects.get().newsletter == newsletter


@pytest.mark.parametrize(
    ("hit", "what", "network"),
    [
        (HIT, {"delivery_id": 7}, HIT.network),
        (HIT, {"dispatch_id": 7}, ""),
        (replace(HIT, private=True), {"delivery_id": 7}, ""),
        (replace(HIT, private=True), {"dispatch_id": 7}, ""),
    ],
    ids=["a delivery", "anonymous", "private", "anonymous and private"],
)
def test_what_waits_to_be_written_down_names_no_network_that_may_never_be_kept(
    hit: Hit, what: dict[str, Any], network: str
) -> None:
    assert events.entry_of(Kind.OPEN, hit, **what).get("network", "") == network


def hit_of(**headers: str) -> Hit:
    return events.hit_of(RequestFactory().get("/", **headers))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("", ""),
        ("unix:", ""),
    ],
)
def test_an_address_is_cut_to_its_network(address: str, network: str) -> None:
    assert hit_of(REMOTE_ADDR=address).network == network


def test_forwarded_for_is_not_believed_without_a_proxy() -> None:
    assert hit_of(REMOTE_ADDR="203.0.113.77", HTTP_X_FORWARDED_FOR="198.51.100.1").network == "203.0.113.0/24"


@pytest.mark.parametrize(
    ("forwarded", "network"),
    [
        ("8.8.4.4", "8.8.4.0/24"),
        ("1.1.1.1, 8.8.4.4", "8.8.4.0/24"),
        ("1.1.1.1, 8.8.4.4, 10.0.0.7", "8.8.4.0/24"),
        ("8.8.4.4:4711", "8.8.4.0/24"),
        ("[2606:4700::1]:443", "2606:4700::/48"),
        ("10.0.0.9, 10.0.0.7", "10.0.0.0/24"),
        ("nonsense", "127.0.0.0/24"),
        ("", "127.0.0.0/24"),
    ],
)
def test_behind_a_proxy_the_last_public_hop_counts(settings: Settings, forwarded: str, network: str) -> None:
    settings.BEHIND_PROXY = True
    assert hit_of(REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR=forwarded).network == network


@pytest.mark.parametrize(
    ("forwarded", "network"),
    [
        ("1.1.1.1, 8.8.4.4, 9.9.9.9", "8.8.4.0/24"),
        ("8.8.4.4, 9.9.9.9, 10.0.0.7", "8.8.4.0/24"),
        ("8.8.4.4", "8.8.4.0/24"),
        ("10.0.0.9", "10.0.0.0/24"),
        ("", "127.0.0.0/24"),
    ],
)
def test_behind_a_cdn_the_hop_before_it_counts(settings: Settings, forwarded: str, network: str) -> None:
    settings.BEHIND_PROXY, settings.PUBLIC_PROXIES = True, 1
    assert hit_of(REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR=forwarded).network == network


def test_an_agent_is_one_clean_line_of_at_most_300_characters() -> None:
    assert hit_of(HTTP_USER_AGENT=f"a\x00\r\n\tb{'c' * 5000}").agent == f"a b{'c' * 297}"
    assert hit_of().agent == ""


@pytest.mark.parametrize(
    "headers",
    [{"HTTP_SEC_PURPOSE": "prefetch;prerender"}, {"HTTP_PURPOSE": "prefetch"}, {"HTTP_X_MOZ": "Prefetch"}],
)
def test_a_browser_that_looks_ahead_says_so(headers: dict[str, str]) -> None:
    assert hit_of(**headers).prefetch
    assert not hit_of().prefetch


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_header_breaks_the_reading_of_a_hit(agent: str, forwarded: str) -> None:
    hit = hit_of(HTTP_USER_AGENT=agent, HTTP_X_FORWARDED_FOR=forwarded, REMOTE_ADDR=forwarded)
    assert len(hit.agent) <= events.AGENT_LENGTH
    assert "\x00" not in hit.agent
    assert len(hit.network) <= len("ffff:ffff:ffff::/48")
