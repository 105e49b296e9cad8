"""The preview beside a newsletter's form, in a real Chromium: it follows the form by itself."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.browsing import Watched, chromium_at, serve
from tests.conftest import Start
from tests.making import make_newsletter

PASSWORD = "a long one for a test"
FRAMES = ".masthead-preview iframe"


def log_in(page: Page, site: str, path: str) -> None:
    page.goto(f"{site}/admin/login/?next={path}")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.django_db(transaction=True)
def test_each_change_of_a_colour_is_shown_in_the_one_frame_and_adds_no_step_back(chromium: str, start: Start) -> None:
    User.objects.create_superuser("ada", password=PASSWORD)
    path = reverse("admin:newsletter_newsletter_change", args=[make_newsletter().pk])
    site = serve(start)
    with chromium_at(chromium) as browser:
        watched = Watched(browser)
        page = watched.page
        page.set_viewport_size({"width": 1280, "height": 300})  # so low that the mail is scrolled
        log_in(page, site, path)
        expect(page.frame_locator(FRAMES).get_by_text("Story of the week").first).to_be_visible()
        page.locator(FRAMES).evaluate("frame => frame.contentWindow.scrollTo(0, 40)")
        steps = page.evaluate("history.length")
        for colour in ("#a1b2c3", "#c3b2a1"):
            page.locator("[name=theme-0-accent]").fill(colour)
            page.wait_for_function(
                """([frames, colour]) => [...document.querySelectorAll(frames)].some((frame) =>
                    frame.checkVisibility() && frame.contentDocument.documentElement?.outerHTML.includes(colour))""",
                arg=[FRAMES, colour],
            )
            expect(page.locator(FRAMES)).to_have_count(1)
            assert page.locator(FRAMES).evaluate("frame => frame.contentWindow.scrollY") == 40
        assert page.evaluate("history.length") == steps
        assert watched.complaints == []
        watched.close()


@pytest.mark.django_db(transaction=True)
def test_what_a_link_becomes_follows_the_fields_for_web_statistics(chromium: str, start: Start) -> None:
    User.objects.create_superuser("ada", password=PASSWORD)
    newsletter = make_newsletter()
    path = reverse("admin:newsletter_newsletter_change", args=[newsletter.pk])
    site = serve(start)
    with chromium_at(chromium) as browser:
        watched = Watched(browser)
        page = watched.page
        log_in(page, site, path)
        link = page.locator("#tagged-link")
        expect(link).to_have_text("https://example.org/page?a=b#part")
        page.get_by_label("Campaign").fill("{newsletter}-{number}")
        expect(link).to_have_text("https://example.org/page?a=b&utm_campaign=weekly-1#part")
        page.get_by_label("Hosts").fill("shop.example.net")
        expect(link).to_have_text("https://shop.example.net/page?a=b&utm_campaign=weekly-1#part")
        page.get_by_label("Campaign").fill("{nummer}")
        expect(link).to_have_text(re.compile("^Campaign: Between braces there may stand"))
        page.locator("[name=theme-0-accent]").evaluate("field => { field.type = 'text'; field.value = 'red' }")
        page.get_by_label("Campaign").fill("<b>{number}</b>")
        expect(page.frame_locator(f"{FRAMES}:not([hidden])").get_by_text("Write a colour like")).to_be_visible()
        expect(link).to_have_text("https://shop.example.net/page?a=b&utm_campaign=%3Cb%3E1%3C%2Fb%3E#part")
        newsletter.refresh_from_db()
        assert (newsletter.utm_campaign, newsletter.utm_hosts) == ("", [])
        assert watched.complaints == []
        watched.close()
