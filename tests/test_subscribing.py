"""Subscribing by a form: asked once a day at most, confirmed by the address's owner alone, and nothing given away."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from django.db.models import F
from django.test import Client
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from newsletter import sending, tasks, tracking
from newsletter.models import Delivery, Dispatch, Newsletter
from newsletter.settings import ENV
from newsletter.views import posting
from newsletter.views import subscribing as pages
from subscribers import addresses, consent, tidying
from subscribers.models import ConsentRecord, FormPost, Subscriber, Subscription, Suppression
from tests.making import make_newsletter, make_reader, make_subscriber
from tests.smtp_sink import SmtpSink

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

Status = Subscription.Status
Action = ConsentRecord.Action
ADDRESS = "ada@readers.example"


@pytest.fixture
def browser() -> Client:
    """A browser that checks forms as in production."""
    return Client(enforce_csrf_checks=True, REMOTE_ADDR="203.0.113.77", headers={"User-Agent": "Browser/1.0"})


@pytest.fixture
def weekly(db: None) -> Newsletter:
    return make_newsletter()


def sign_up(browser: Client, address: str = ADDRESS, *, slug: str = "weekly", **fields: str) -> Response:
    return browser.post(f"/{slug}/subscribe", {"address": address, **fields})


def mails() -> list[Delivery]:
    """The single messages, oldest first."""
    rows = Delivery.objects.filter(dispatch__kind=Dispatch.Kind.SINGLE).order_by("pk")
    return list(rows.select_related("dispatch__newsletter", "dispatch__revision", "subscriber"))


def link_in(delivery: Delivery) -> str:
    """The path behind the button of a mail."""
    found = re.search(r"\]\((http[^)]+)\)\{\.button\}", delivery.dispatch.revision.content.sections[0].body)
    assert found
    return urlsplit(found[1]).path


def status_of(address: str = ADDRESS, *, slug: str = "weekly") -> str:
    return Subscription.objects.get(subscriber__address_key=address, newsletter__slug=slug).status


def confirm(browser: Client, path: str, **fields: object) -> Response:
    return browser.post(path, fields, follow=True)


def age(delta: timedelta) -> None:
    """Let everything that the form wrote have happened `delta` ago."""
    ConsentRecord.objects.update(at=F("at") - delta)
    Subscription.objects.update(changed_at=F("changed_at") - delta, created_at=F("created_at") - delta)
    FormPost.objects.update(at=F("at") - delta)


# The form


def test_the_form_stands_on_the_newsletters_page_and_on_its_own(browser: Client, weekly: Newsletter) -> None:
    for path in ("/weekly/", "/weekly/subscribe"):
        response = browser.get(path)
        page = response.content.decode()
        assert 'action="/weekly/subscribe"' in page
        assert not re.search("<script", page)
        assert not response.cookies


def test_a_new_address_is_pending_and_asked_by_one_mail(browser: Client, weekly: Newsletter) -> None:
    response = sign_up(browser, name="Ada")
    assert (response.status_code, response["Location"]) == (302, "/weekly/subscribe?sent")
    assert "Look into your mail" in browser.get(response["Location"]).content.decode()
    assert status_of() == Status.PENDING
    assert not Subscription.objects.mailable().exists()
    (mail,) = mails()
    assert mail.subscriber is not None
    assert (mail.subscriber.address, mail.subscriber.name) == (ADDRESS, "Ada")
    assert link_in(mail).startswith("/y/")


def test_the_evidence_says_what_was_agreed_to_and_from_which_network(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    confirm(browser, link_in(mails()[0]))
    requested, subscribed = ConsentRecord.objects.exclude(action=Action.TRACKING_ANONYMOUS).order_by("pk")
    assert [requested.action, subscribed.action] == [Action.REQUESTED, Action.SUBSCRIBED]
    for record in (requested, subscribed):
        assert record.text_version == pages.words_version(weekly)
        assert (record.network, record.agent) == ("203.0.113.0/24", "Browser/1.0")
    Newsletter.objects.update(tracking=Newsletter.Tracking.OFF)
    weekly.refresh_from_db()
    assert pages.words_version(weekly) != requested.text_version


@pytest.mark.django_db(transaction=True)
def test_the_mail_holds_nothing_that_was_typed_but_the_address(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_newsletter()
    sign_up(browser, name="Buy http://evil.example now")
    with SmtpSink() as sink:
        monkeypatch.setitem(ENV.__dict__, "smtp_url", sink.url)
        monkeypatch.delattr(sending._local, "transport", raising=False)
        sending.send_batch(mails()[0].batch)
        sending._local.transport.close()
        monkeypatch.delattr(sending._local, "transport")
        (received,) = sink.messages()
    mail = received.parsed()
    parts = [part.get_content() for part in mail.walk() if not part.is_multipart()]
    for text in (*mail.values(), *parts):
        assert "evil" not in text
        assert "Buy" not in text
    assert mail["To"] == ADDRESS
    assert mail["Auto-Submitted"] == "auto-generated"
    assert all(f"http://127.0.0.1:8000{link_in(mails()[0])}" in part for part in parts)


@pytest.mark.parametrize(
    "typed",
    ["", "ada", "ada@", "@readers.example", "a b@readers.example", "ada@readers.example\r\nBcc: eve@evil.example",
     "ada@readers.example,eve@evil.example", "<ada@readers.example>", "Ada <ada@readers.example>",
     "a" * 400 + "@x.example", "ada@readers.example\x00", "ada@localhost", '"a\r\nb"@readers.example'],
)  # fmt: skip
def test_what_is_no_address_is_refused_beside_its_field(browser: Client, weekly: Newsletter, typed: str) -> None:
    response = sign_up(browser, typed)
    page = response.content.decode()
    assert response.status_code == 400
    assert 'aria-invalid="true" aria-describedby="subscribe-error"' in page
    assert 'role="alert"' in page
    assert not Subscriber.objects.exists()
    assert not mails()


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("jörg@bücher.example", "jörg@xn--bcher-kva.example"),
        ("  Ada@Readers.Example ", ADDRESS),
        ("用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v"),
        ("ada+tag@readers.example", "ada+tag@readers.example"),
    ],
)
def test_addresses_of_every_script_are_taken(browser: Client, weekly: Newsletter, typed: str, key: str) -> None:
    assert sign_up(browser, typed).status_code == 302
    assert Subscriber.objects.get().address_key == key


def test_what_fills_in_the_hidden_field_gets_the_answer_and_nothing_else(browser: Client, weekly: Newsletter) -> None:
    plain, caught = sign_up(browser, "eve@readers.example"), sign_up(browser, website="http://evil.example")
    assert (plain.status_code, plain["Location"]) == (caught.status_code, caught["Location"])
    assert not Subscriber.objects.filter(address_key=ADDRESS).exists()


def test_a_name_is_one_line_and_never_changes_a_known_reader(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser, "new@readers.example", name=" Ada\r\nBcc: \u202ex ")
    assert Subscriber.objects.get().name == "Ada Bcc: x"
    make_subscriber(ADDRESS, name="Her own")
    sign_up(browser, name="Somebody else's idea")
    assert Subscriber.objects.get(address_key=ADDRESS).name == "Her own"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Sec-Fetch-Site", "same-origin", 302),
        ("Sec-Fetch-Site", "none", 302),
        ("Origin", "http://testserver", 302),
        ("Accept", "text/html", 302),
    ],
)
def test_another_site_cannot_send_the_form(
    browser: Client, weekly: Newsletter, name: str, value: str, status: int
) -> None:
    response = browser.post("/weekly/subscribe", {"address": ADDRESS}, headers={name: value})
    assert response.status_code == status
    assert ("from another site" in response.content.decode()) == (status == 403)
    assert Subscriber.objects.exists() == (status == 302)


# Nobody learns who is known here, and nobody is pestered


def test_the_answer_is_the_same_for_every_address(browser: Client, weekly: Newsletter) -> None:
    make_reader(weekly, "active@readers.example")
    make_reader(weekly, "paused@readers.example", status=Status.PAUSED)
    make_reader(weekly, "left@readers.example", status=Status.UNSUBSCRIBED)
    make_subscriber("never@readers.example")
    key = addresses.fingerprint("blocked@readers.example")
    consent.suppress(key, reason=Suppression.Reason.MANUAL, source="test")
    answers = set()
    for name in ("active", "paused", "left", "never", "blocked", "unknown", "active", "unknown"):
        response = sign_up(browser, f"{name}@readers.example")
        answers.add((response.status_code, response["Location"], response.content, tuple(response.headers.items())))
    assert len(answers) == 1


def test_an_address_gets_one_mail_a_day_however_often_somebody_asks(browser: Client, weekly: Newsletter) -> None:
    make_newsletter(slug="other", name="The Other")
    for slug in ("weekly", "other", "weekly", "other"):
        sign_up(browser, slug=slug)
    assert len(mails()) == 1
    age(timedelta(hours=23))
    sign_up(browser)
    assert len(mails()) == 1
    age(timedelta(hours=2))
    sign_up(browser)
    assert len(mails()) == 2


def test_a_request_without_mail_does_not_put_the_next_mail_off(browser: Client, weekly: Newsletter) -> None:
    make_newsletter(slug="other", name="The Other")
    sign_up(browser)
    age(timedelta(hours=20))
    sign_up(browser, slug="other")
    age(timedelta(hours=5))
    sign_up(browser)
    assert len(mails()) == 2


def test_who_gets_it_already_is_told_so_once_a_day(browser: Client, weekly: Newsletter) -> None:
    reader = make_reader(weekly, ADDRESS)
    sign_up(browser)
    sign_up(browser)
    (mail,) = mails()
    assert "already" in mail.dispatch.revision.content.subject
    token = tracking.reader_token(reader.subscriber.public_id, weekly.public_id)
    assert link_in(mail) == f"/p/{token}"
    assert status_of() == Status.ACTIVE


def test_an_address_that_an_operator_suppressed_gets_no_mail(browser: Client, weekly: Newsletter) -> None:
    consent.suppress(addresses.fingerprint(ADDRESS), reason=Suppression.Reason.MANUAL, source="test")
    assert sign_up(browser).status_code == 302
    assert not mails()
    assert not Subscriber.objects.exists()


def test_a_network_is_slowed_down_whatever_it_types(
    browser: Client, weekly: Newsletter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "POSTS_AN_HOUR", 2)
    sign_up(browser, "one@readers.example")
    sign_up(browser, "not an address")
    response = sign_up(browser, "three@readers.example")
    assert (response.status_code, response["Retry-After"]) == (429, "3600")
    assert "Wait an hour" in response.content.decode()
    assert not Subscriber.objects.filter(address_key="three@readers.example").exists()
    other_network = browser.post("/weekly/subscribe", {"address": "a@readers.example"}, REMOTE_ADDR="198.51.100.1")
    assert other_network.status_code == 302
    assert set(FormPost.objects.values_list("network", flat=True)) == {"203.0.113.0/24", "198.51.100.0/24"}
    age(timedelta(hours=1, seconds=1))
    assert sign_up(browser, "three@readers.example").status_code == 302


# Confirming


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_following_the_link_confirms_nothing(browser: Client, weekly: Newsletter, method: str) -> None:
    sign_up(browser)
    response = browser.generic(method, link_in(mails()[0]))
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies
    assert status_of() == Status.PENDING


def test_pressing_the_button_confirms_and_again_is_as_good(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    path = link_in(mails()[0])
    for _ in range(2):
        response = confirm(browser, path)
        assert "You are subscribed" in response.content.decode()
    assert status_of() == Status.ACTIVE
    assert ConsentRecord.objects.filter(action=Action.SUBSCRIBED).count() == 1
    assert ADDRESS not in response.content.decode()


def test_the_link_works_for_two_weeks_and_then_offers_the_form(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    path = link_in(mails()[0])
    age(timedelta(days=13, hours=23))
    assert browser.get(path).status_code == 200
    age(timedelta(hours=2))
    for response in (browser.get(path), confirm(browser, path)):
        assert response.status_code == 410
        assert 'action="/weekly/subscribe"' in response.content.decode()
    assert status_of() == Status.PENDING
    sign_up(browser)
    assert "You are subscribed" in confirm(browser, link_in(mails()[1])).content.decode()


def test_a_link_that_is_not_ours_says_what_to_do(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    good = link_in(mails()[0]).removeprefix("/y/")
    record = ConsentRecord.objects.get()
    for token in (good[:-1], "forged", "A" * 26, tracking.delivery_token(record.pk), "A" * 9000):
        for response in (browser.get(f"/y/{token}"), browser.post(f"/y/{token}")):
            assert response.status_code == 404
            assert "Open it from the mail again" in response.content.decode()
    assert status_of() == Status.PENDING


def test_a_link_for_one_thing_is_worth_nothing_for_another(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    token = link_in(mails()[0]).removeprefix("/y/")
    for path in ("/u/", "/p/", "/i/", "/a/"):
        assert browser.post(path + token).status_code in (403, 404, 410)


def test_who_left_comes_back_by_confirming_alone(browser: Client, weekly: Newsletter) -> None:
    reader = make_reader(weekly, ADDRESS)
    consent.unsubscribe(reader, source="test")
    sign_up(browser)
    assert status_of() == Status.UNSUBSCRIBED
    confirm(browser, link_in(mails()[0]))
    assert status_of() == Status.ACTIVE


def test_leaving_counts_more_than_a_link_from_before(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    path = link_in(mails()[0])
    confirm(browser, path)
    age(timedelta(minutes=1))
    consent.unsubscribe(Subscription.objects.get(), source="test")
    assert confirm(browser, path).status_code == 410
    assert status_of() == Status.UNSUBSCRIBED


@pytest.mark.parametrize("reason", ["complaint", "hard bounce", "erased"])
def test_confirming_anew_lifts_what_kept_the_address_out(browser: Client, weekly: Newsletter, reason: str) -> None:
    make_reader(weekly, ADDRESS)
    key = addresses.fingerprint(ADDRESS)
    consent.suppress(key, reason=Suppression.Reason(reason), source="test")
    consent.suppress(key, reason=Suppression.Reason(reason), newsletter=weekly, source="test")
    sign_up(browser)
    assert not Subscription.objects.mailable().exists()
    confirm(browser, link_in(mails()[0]))
    assert Subscription.objects.mailable().exists()
    assert ConsentRecord.objects.filter(action=Action.UNSUPPRESSED).count() == 1


def test_a_complaint_after_the_request_stays(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    path = link_in(mails()[0])
    confirm(browser, path)
    age(timedelta(minutes=1))
    consent.suppress(addresses.fingerprint(ADDRESS), reason=Suppression.Reason.COMPLAINT, source="test")
    confirm(browser, path)
    assert not Subscription.objects.mailable().exists()


def test_a_complaint_about_the_site_stays_for_other_newsletters(browser: Client, weekly: Newsletter) -> None:
    reader = make_reader(weekly, ADDRESS)
    other = make_newsletter(slug="other", name="The Other")
    Subscription.objects.create(subscriber=reader.subscriber, newsletter=other, status=Status.ACTIVE)
    consent.suppress(addresses.fingerprint(ADDRESS), reason=Suppression.Reason.COMPLAINT, source="test")
    sign_up(browser)
    confirm(browser, link_in(mails()[0]))
    assert [each.newsletter for each in Subscription.objects.mailable()] == [weekly]


def test_an_operators_word_is_not_lifted_by_confirming(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    consent.suppress(addresses.fingerprint(ADDRESS), reason=Suppression.Reason.MANUAL, source="test")
    age(-timedelta(minutes=1))
    confirm(browser, link_in(mails()[0]))
    assert not Subscription.objects.mailable().exists()


def test_one_mail_confirms_what_else_was_asked_for_that_day_if_ticked(browser: Client, weekly: Newsletter) -> None:
    for slug in ("tides", "teas"):
        make_newsletter(slug=slug, name=f"The {slug}")
    for slug in ("weekly", "tides", "teas"):
        sign_up(browser, slug=slug)
    path = link_in(mails()[0])
    page = browser.get(path).content.decode()
    assert "checked" not in page
    wanted = ConsentRecord.objects.get(newsletter__slug="teas").pk
    assert f'value="{wanted}"' in page
    confirm(browser, path, also=[wanted, 999999, "x"])
    assert [status_of(slug=slug) for slug in ("weekly", "tides", "teas")] == [
        Status.ACTIVE,
        Status.PENDING,
        Status.ACTIVE,
    ]


def test_a_request_for_one_address_confirms_no_other(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    sign_up(browser, "eve@readers.example")
    eves = ConsentRecord.objects.get(subscriber__address_key="eve@readers.example")
    confirm(browser, link_in(mails()[0]), also=[eves.pk])
    assert status_of("eve@readers.example") == Status.PENDING


# What time ends


def test_a_request_that_nobody_confirms_is_forgotten_after_thirty_days(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    path = link_in(mails()[0])
    age(timedelta(days=29))
    tidying.tidy()
    assert status_of() == Status.PENDING
    age(timedelta(days=2))
    tasks.tidy()
    assert not Subscriber.objects.exists()
    assert not Subscription.objects.exists()
    assert not ConsentRecord.objects.exists()
    assert browser.get(path).status_code == 410
    assert ADDRESS not in json.dumps(list(Delivery.objects.values()), default=str)


def test_forgetting_a_request_leaves_a_reader_of_something_else(browser: Client, weekly: Newsletter) -> None:
    reader = make_reader(make_newsletter(slug="other"), ADDRESS)
    sign_up(browser)
    age(timedelta(days=31))
    tidying.tidy()
    assert [each.pk for each in Subscription.objects.all()] == [reader.pk]


def test_what_was_confirmed_is_kept(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    confirm(browser, link_in(mails()[0]))
    age(timedelta(days=400))
    tidying.tidy()
    assert status_of() == Status.ACTIVE
    assert ConsentRecord.objects.filter(action=Action.REQUESTED).exists()
    assert not FormPost.objects.exists()


def test_asking_again_keeps_a_request_alive(browser: Client, weekly: Newsletter) -> None:
    sign_up(browser)
    age(timedelta(days=29))
    sign_up(browser)
    age(timedelta(days=2))
    tidying.tidy()
    assert status_of() == Status.PENDING


def test_a_pause_ends_by_itself(weekly: Newsletter) -> None:
    soon, later, never = (make_reader(weekly) for _ in range(3))
    for reader, until in ((soon, -1), (later, 1), (never, None)):
        when = timezone.now() + timedelta(seconds=until * 3600) if until else None
        consent.pause(reader, source="test", until=when)
    tidying.tidy()
    assert [each.pk for each in Subscription.objects.mailable()] == [soon.pk]
    record = ConsentRecord.objects.get(action=Action.RESUMED)
    assert record.source == "end of the pause"


class TestAnyText(TestCase):
    """Whatever is typed, the answer is a page or the redirect, and no mail has a header that was typed."""

    @settings(max_examples=40, deadline=None)
    @given(address=st.text(max_size=60), name=st.text(max_size=300))
    def test_anything_typed_is_answered(self, address: str, name: str) -> None:
        if not Newsletter.objects.exists():
            make_newsletter()
        response = Client().post("/weekly/subscribe", {"address": address, "name": name})
        assert response.status_code in (302, 400, 429)
        for subscriber in Subscriber.objects.all():
            assert "\n" not in subscriber.name + subscriber.address
            assert "\r" not in subscriber.name + subscriber.address
