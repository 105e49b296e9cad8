"""Webhooks in the admin: made by a form that refuses what may not be called, watched, tried out, sent again."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from django.utils import formats, timezone
from playwright.sync_api import expect

from newsletter.hooks import occurring, turns
from newsletter.models import Call, Hook
from tests.browsing import SCHEMES, WIDTHS, Watched, chromium_at, serve
from tests.conftest import Start
from tests.hook_receiver import receiving, say
from tests.making import make_hook, make_newsletter, make_reader
from tests.test_browser import PASSWORD, sign_in

pytestmark = pytest.mark.django_db

LONG_AGO = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)
FORM = {
    "name": "CRM",
    "url": "https://8.8.8.8/hook",
    "kinds": ["subscription.confirmed", "issue.sent"],
    "enabled": "on",
}


def page_of(row: Hook | Call, name: str = "change") -> str:
    return reverse(f"admin:newsletter_{row._meta.model_name}_{name}", args=[row.pk])


def test_a_hook_is_made_with_a_secret_that_its_page_shows(admin_client: Client) -> None:
    assert admin_client.post(reverse("admin:newsletter_hook_add"), FORM).status_code == 302
    hook = Hook.objects.get()
    assert hook.kinds == FORM["kinds"]
    assert hook.secret in admin_client.get(page_of(hook)).text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://8.8.8.8/", "https URL"),
        ("https://127.0.0.1/", "not public"),
        ("https://[::ffff:10.0.0.1]/", "not public"),
        ("https://a:b@8.8.8.8/", "name or password"),
    ],
)
def test_a_url_that_may_not_be_called_is_refused_in_a_sentence(admin_client: Client, url: str, words: str) -> None:
    answer = admin_client.post(reverse("admin:newsletter_hook_add"), {**FORM, "url": url})
    assert words in answer.text
    assert not Hook.objects.exists()


def test_saving_the_form_touches_neither_secret_nor_state(admin_client: Client) -> None:
    hook = make_hook("https://8.8.8.8/hook")
    admin_client.get(page_of(hook))
    turns.rotate(hook)
    secret = Hook.objects.get().secret
    admin_client.post(page_of(hook), {**FORM, "name": "Shop", "newsletter": make_newsletter().pk})
    hook.refresh_from_db()
    assert (hook.name, hook.secret, hook.old_secret != "") == ("Shop", secret, True)


def test_only_who_may_change_a_hook_sees_its_secret(client: Client) -> None:
    hook = make_hook()
    for role, seen in (("analyst", False), ("editor", True)):
        staff = User.objects.create_user(role, is_staff=True)
        staff.groups.add(Group.objects.get(name=role))
        client.force_login(staff)
        answer = client.get(page_of(hook))
        assert answer.status_code == 200
        assert (hook.secret in answer.text) is seen
        assert ("Send a test" in answer.text) is seen


def test_a_hook_that_was_switched_off_says_why_and_is_enabled_again(admin_client: Client) -> None:
    hook = make_hook(disabled_at="2026-11-01T00:00Z", disabled_reason="It answered 410 Gone.")
    text = admin_client.get(page_of(hook)).text
    assert "It answered 410 Gone." in text
    assert "switched off" in admin_client.get(reverse("admin:newsletter_hook_changelist")).text
    assert "enable it first" in admin_client.post(page_of(hook, "test"), follow=True).text
    assert not Call.objects.exists()
    admin_client.post(page_of(hook, "enable"))
    hook.refresh_from_db()
    assert hook.disabled_at is None


def test_a_test_is_sent_and_leads_to_its_page(admin_client: Client) -> None:
    hook = make_hook(kinds=[])
    answer = admin_client.post(page_of(hook, "test"), follow=True)
    assert "hook.test" in answer.text
    assert Call.objects.get().status == Call.Status.WAITING


def test_a_look_at_the_page_that_asks_sends_nothing_again(admin_client: Client) -> None:
    hook = make_hook()
    occurring.try_out(hook)
    Call.objects.update(status=Call.Status.GIVEN_UP, number=8, tries=8)
    assert "Calls that were given up: 1." in admin_client.get(page_of(hook, "again")).text
    assert Call.objects.get().status == Call.Status.GIVEN_UP
    assert "Calls that go out again: 1." in admin_client.post(page_of(hook, "again"), follow=True).text
    assert Call.objects.get().status == Call.Status.WAITING


def test_one_call_is_sent_again_by_its_button(admin_client: Client) -> None:
    call = occurring.try_out(make_hook())
    assert "has not ended" in admin_client.post(page_of(call, "again"), follow=True).text
    Call.objects.update(status=Call.Status.ACCEPTED, number=1, tries=1, status_code=204)
    assert "Send again" in admin_client.get(page_of(call)).text
    admin_client.post(page_of(call, "again"))
    assert Call.objects.get().status == Call.Status.WAITING


def answered_call(**fields: Any) -> Call:
    """A call that was made once and given up."""
    call = occurring.try_out(make_hook())
    said = {"status": "given_up", "number": 8, "tries": 8, "tried_at": LONG_AGO, "status_code": 500, "answer": "No."}
    Call.objects.filter(pk=call.pk).update(**{**said, **fields})
    call.refresh_from_db()
    return call


def test_a_call_that_is_sent_again_says_that_it_waits_and_shows_the_last_answer_as_such(admin_client: Client) -> None:
    call = answered_call()
    assert "What was answered" in admin_client.get(page_of(call)).text
    shown = words(admin_client.post(page_of(call, "again"), follow=True))
    since = Call.objects.get().due_at
    assert f"It has waited to be sent again since {formats.date_format(since, 'DATETIME_FORMAT')}." in shown
    assert "It goes out as soon as it is its turn. This page looks again by itself." in shown
    assert "The last answer" in shown
    assert "What was answered" not in shown


def test_a_call_that_waits_says_when_the_next_try_is(admin_client: Client) -> None:
    call = answered_call(status="waiting", tries=0, due_at=LONG_AGO)
    rests = timezone.now() + dt.timedelta(hours=3)
    Hook.objects.update(rests_until=rests)
    assert f"The next try is on {formats.date_format(rests, 'DATETIME_FORMAT')}." in words(
        admin_client.get(page_of(call))
    )
    later = rests + dt.timedelta(hours=3)
    Call.objects.update(tries=2, due_at=later)
    assert f"Tried 2 times of 8. The next try is on {formats.date_format(later, 'DATETIME_FORMAT')}." in words(
        admin_client.get(page_of(call))
    )
    Hook.objects.update(enabled=False)
    assert "It goes out when the webhook is enabled again." in words(admin_client.get(page_of(call)))


@pytest.mark.parametrize(("number", "shown"), [(1, False), (2, True)])
def test_while_a_call_is_made_only_an_answer_that_came_is_shown(
    admin_client: Client, number: int, *, shown: bool
) -> None:
    page = words(admin_client.get(page_of(answered_call(status="calling", tries=1, number=number))))
    assert "It has been on its way since" in page
    assert ("The last answer" in page) is shown


def words(response: Any) -> str:
    return " ".join(response.text.split())


def test_a_new_secret_is_made_by_its_button(admin_client: Client) -> None:
    hook = make_hook()
    admin_client.get(page_of(hook, "rotate"))
    assert Hook.objects.get().secret == hook.secret
    text = admin_client.post(page_of(hook, "rotate"), follow=True).text
    assert Hook.objects.get().secret in text
    assert Hook.objects.get().old_secret == hook.secret


def test_deleting_a_hook_takes_its_log_along(admin_client: Client) -> None:
    hook = make_hook()
    occurring.try_out(hook)
    assert "the log of its calls" in admin_client.get(page_of(hook, "delete")).text
    admin_client.post(page_of(hook, "delete"), {"post": "yes"})
    assert not Hook.objects.exists()
    assert not Call.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_editor_makes_a_hook_tries_it_and_reads_the_answer(
    chromium: str, start: Start, settings: Any, transactional_db: None
) -> None:
    from newsletter import roles

    roles.ensure()
    editor = User.objects.create_user("ada", password=PASSWORD, is_staff=True)
    editor.groups.add(Group.objects.get(name="editor"))
    reader = make_reader(make_newsletter(), "ada@readers.example")
    site = serve(start, HOOKS_PRIVATE="true")
    start(sys.executable, "manage.py", "work", HOOKS_PRIVATE="true", REDIS_URL="")
    folder = os.environ.get("SCREENSHOTS", "")
    with receiving(say(200, b"Thank you")) as receiver, chromium_at(chromium) as browser:
        watched = Watched(browser)
        page = watched.page
        page.set_default_timeout(20_000)

        def look(name: str) -> None:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    watched.show_at(width=width, scheme=scheme)
                    page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", scheme == "dark")
                    watched.shoot(folder, f"{name}-{width}-{scheme}")
                    assert watched.overflow() == 0, (name, width)
            watched.show_at(width="desktop", scheme="light")

        sign_in(page, site)
        page.goto(f"{site}/admin/newsletter/hook/")
        look("list-empty")
        page.goto(f"{site}/admin/newsletter/hook/add/")
        page.get_by_label("Name").fill("CRM")
        page.get_by_label("URL").fill("https://name:word@example.org/")
        page.get_by_label("Unsubscribed").check()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("with a name or password in it")).to_be_visible()
        look("form-refused")
        page.get_by_label("URL").fill(receiver.url)
        page.get_by_role("button", name="Save and continue editing").click()
        expect(page.get_by_text("not called yet")).to_be_visible()
        look("hook-new")
        page.get_by_role("button", name="Send a test").click()
        expect(page.get_by_text("Thank you")).to_be_visible()
        expect(page.locator(".desk-badge")).to_have_text("accepted")
        look("call-accepted")
        receiver.answer = say(500, b"Out of order")
        page.get_by_role("button", name="Send again").click()
        expect(page.get_by_text("Out of order")).to_be_visible()
        look("call-failing")
        hook = Hook.objects.get()
        from subscribers import consent

        consent.unsubscribe(reader, source="one click")
        Call.objects.filter(occurrence__kind="hook.test").update(status=Call.Status.GIVEN_UP, tries=8, due_at=Now())
        page.goto(f"{site}{page_of(hook)}")
        expect(page.get_by_text("It has failed since")).to_be_visible()
        look("hook-failing")
        page.get_by_role("link", name="Its calls").click()
        expect(page.get_by_role("cell", name="Unsubscribed").first).to_be_visible()
        look("log")
        page.get_by_role("link", name="Webhooks").first.click()
        look("list")
        page.goto(f"{site}{page_of(hook, 'rotate')}")
        look("rotate")
        assert watched.complaints == []
        assert watched.foreign(site) == []


@pytest.mark.django_db(transaction=True)
def test_the_page_of_a_call_shows_by_itself_what_was_answered(chromium: str, start: Start) -> None:
    staff = Client()
    staff.force_login(User.objects.create_superuser("ada"))
    call = occurring.try_out(make_hook())
    address = serve(start)
    with chromium_at(chromium) as browser:
        watched = Watched(browser)
        watched.context.add_cookies([{"name": "sessionid", "value": staff.cookies["sessionid"].value, "url": address}])
        watched.page.goto(address + reverse("admin:newsletter_call_change", args=[call.pk]))
        expect(watched.page.get_by_text("It goes out as soon as it is its turn.")).to_be_visible()
        Call.objects.update(
            status=Call.Status.ACCEPTED, number=1, tries=1, tried_at=Now(), status_code=200, answer="ok"
        )
        expect(watched.page.get_by_role("heading", name="What was answered")).to_be_visible()
        watched.close()
