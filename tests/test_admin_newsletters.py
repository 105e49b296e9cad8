from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from newsletter.models import Newsletter, StandingSection, Theme
from newsletter.security import ADMIN_POLICY, PREVIEW_POLICY
from subscribers.models import Tier
from tests.making import make_dispatch, make_issue, make_newsletter, make_reader

pytestmark = pytest.mark.django_db

ADD = "admin:newsletter_newsletter_add"
CHANGE = "admin:newsletter_newsletter_change"
PREVIEW = "admin:newsletter_newsletter_preview"


def form(newsletter: Newsletter | None = None, /, **fields: Any) -> dict[str, Any]:
    """The form of a newsletter with its theme and no standing sections; `fields` are what is typed."""
    theme = Theme(newsletter=newsletter) if newsletter else Theme()
    values = {
        "name": "The Lamplighter",
        "slug": "lamplighter",
        "from_address": "desk@lamp.example",
        "language": "en",
        "time_zone": "Europe/Berlin",
        "tracking": "anonymous",
        "theme-TOTAL_FORMS": "1",
        "theme-INITIAL_FORMS": "0",
        "standing_sections-TOTAL_FORMS": "0",
        "standing_sections-INITIAL_FORMS": "0",
        **{f"theme-0-{name}": value for name, value in vars(theme.content()).items()},
    }
    return {**values, **fields}


def sections(*rows: dict[str, Any], initial: int = 0) -> dict[str, Any]:
    """Rows of standing sections, as the form sends them."""
    counts = {"standing_sections-TOTAL_FORMS": str(len(rows)), "standing_sections-INITIAL_FORMS": str(initial)}
    filled = {f"standing_sections-{n}-{name}": value for n, row in enumerate(rows) for name, value in row.items()}
    return {**counts, **filled}


def test_a_newsletter_is_made_with_its_theme_sections_and_the_first_tiers(admin_client: Client) -> None:
    rows = sections({"name": "Models", "aliases": "Models That Dropped; New models ", "position": "0"})
    answer = admin_client.post(reverse(ADD), form(**{"theme-0-accent": "#ff0000", **rows}))
    assert answer.status_code == 302
    newsletter = Newsletter.objects.get()
    assert newsletter.content(number=None, title="", subject="", preheader="", sections=()).theme.accent == "#ff0000"
    assert StandingSection.objects.get().aliases == ["Models That Dropped", "New models"]
    assert Tier.objects.count() == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("slug", "admin"), ("time_zone", "Mars/Olympus"), ("theme-0-accent", "red"), ("theme-0-width", "10000")],
)
def test_what_cannot_be_used_is_not_saved(admin_client: Client, name: str, value: str) -> None:
    answer = admin_client.post(reverse(ADD), form(**{name: value}))
    assert answer.status_code == 200
    assert not Newsletter.objects.exists()
    assert "Constraint" not in answer.text


def test_the_address_a_new_newsletter_is_sent_from_is_asked_for(admin_client: Client) -> None:
    field = admin_client.get(reverse(ADD)).context["adminform"].form["from_address"]
    assert not field.value()
    assert field.field.required
    answer = admin_client.post(reverse(ADD), form(from_address=""))
    assert "from_address" in answer.context["adminform"].form.errors
    assert not Newsletter.objects.exists()
    newsletter = make_newsletter()
    shown = admin_client.get(reverse(CHANGE, args=[newsletter.pk])).context["adminform"].form["from_address"]
    assert shown.value() == newsletter.from_address


def test_standing_sections_keep_the_order_they_are_dragged_into(admin_client: Client) -> None:
    newsletter = make_newsletter()
    first, second = (
        StandingSection.objects.create(newsletter=newsletter, name=name, position=number)
        for number, name in enumerate(("One", "Two"))
    )
    rows = sections(
        {"id": first.pk, "newsletter": newsletter.pk, "name": "One", "aliases": "", "position": "1"},
        {"id": second.pk, "newsletter": newsletter.pk, "name": "Two", "aliases": "", "position": "0"},
        initial=2,
    )
    assert admin_client.post(reverse(CHANGE, args=[newsletter.pk]), form(newsletter, **rows)).status_code == 302
    assert [row.name for row in newsletter.standing_sections.all()] == ["Two", "One"]


def test_a_slug_stays_as_it_is_once_links_carry_it(admin_client: Client) -> None:
    newsletter = make_newsletter()
    admin_client.post(reverse(CHANGE, args=[newsletter.pk]), form(newsletter, slug="other", name="Renamed"))
    newsletter.refresh_from_db()
    assert (newsletter.slug, newsletter.name) == ("weekly", "Renamed")


@pytest.mark.parametrize("what", ["a reader", "an issue", "nothing"])
def test_a_newsletter_is_deleted_only_while_nothing_hangs_on_it(admin_client: Client, what: str) -> None:
    newsletter = make_newsletter()
    if what == "a reader":
        make_reader(newsletter)
    if what == "an issue":
        make_issue(newsletter)
    admin_client.post(reverse("admin:newsletter_newsletter_delete", args=[newsletter.pk]), {"post": "yes"})
    assert Newsletter.objects.exists() is (what != "nothing")


def test_the_preview_shows_the_form_and_saves_nothing(admin_client: Client) -> None:
    newsletter = make_newsletter()
    typed = form(newsletter, name="Not yet", **{"theme-0-accent": "#a1b2c3", "theme-0-footer": "A *new* footer."})
    text = admin_client.post(reverse(PREVIEW, args=[newsletter.pk]), typed).text
    assert "#a1b2c3" in text
    assert "Not yet" in text
    assert "<em>new</em>" in text
    newsletter.refresh_from_db()
    assert newsletter.name == "The Weekly"
    assert not Theme.objects.exists()


def test_the_preview_of_a_new_newsletter_needs_no_name_yet(admin_client: Client) -> None:
    assert "Story of the week" in admin_client.get(reverse(PREVIEW)).text
    text = admin_client.post(reverse(PREVIEW), form(name="", slug="", **{"theme-0-accent": "#a1b2c3"})).text
    assert "#a1b2c3" in text
    assert not Newsletter.objects.exists()


def test_the_preview_says_what_is_wrong_with_a_theme(admin_client: Client) -> None:
    text = admin_client.post(reverse(PREVIEW), form(**{"theme-0-accent": "red"})).text
    assert "Write a colour like #0b57d0." in text


def test_the_preview_by_get_shows_what_is_saved(admin_client: Client) -> None:
    newsletter = make_newsletter()
    Theme.objects.create(newsletter=newsletter, accent="#0a0b0c")
    assert "#0a0b0c" in admin_client.get(reverse(PREVIEW, args=[newsletter.pk])).text


@pytest.mark.parametrize(("scheme", "condition"), [("light", "not all"), ("dark", "all")])
def test_the_preview_follows_the_chosen_mail_app_whatever_the_browser_prefers(
    admin_client: Client, scheme: str, condition: str
) -> None:
    text = admin_client.post(reverse(PREVIEW), form(preview_scheme=scheme)).text
    assert "prefers-color-scheme" not in text
    assert re.search(rf"@media {condition}\s*{{", text)


def test_a_preview_may_be_framed_by_the_admin_alone_and_runs_nothing(admin_client: Client) -> None:
    answer = admin_client.get(reverse(PREVIEW))
    assert answer.headers["Content-Security-Policy"] == PREVIEW_POLICY
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self'" in PREVIEW_POLICY
    assert "script-src" not in PREVIEW_POLICY
    assert "default-src 'none'" in PREVIEW_POLICY


def test_a_page_of_the_admin_is_never_framed_and_takes_nothing_from_elsewhere(admin_client: Client) -> None:
    answer = admin_client.get(reverse(ADD))
    assert answer.headers["Content-Security-Policy"] == ADMIN_POLICY
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "http" not in ADMIN_POLICY
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", answer.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*type=.(?:application/json|text/template))[^>]*>", answer.text)


def test_a_new_site_says_what_to_do_first(admin_client: Client) -> None:
    assert reverse(ADD) in admin_client.get(reverse("admin:index")).text


@pytest.mark.parametrize(
    ("there", "label"),
    [
        ((), "Add the address"),
        (("address",), "Add a reader"),
        (("address", "reader"), "Write the first issue"),
        (("address", "reader", "issue"), ""),
    ],
)
def test_the_first_page_names_the_next_step(admin_client: Client, there: tuple[str, ...], label: str) -> None:
    newsletter = make_newsletter(postal_address="1 Lamp Street" if "address" in there else "")
    if "reader" in there:
        make_reader(newsletter)
    if "issue" in there:
        make_issue(newsletter)
    step = admin_client.get(reverse("admin:index")).context["glances"][0].step
    assert (step.label if step else "") == label


def test_the_first_page_shows_what_is_under_way(admin_client: Client) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3, title="The running issue")
    shown = admin_client.get(reverse("admin:index")).context["running"]
    assert [(one.dispatch, one.share, one.line) for one in shown] == [(dispatch, 0, "0 of 3 accepted")]


def test_the_way_to_a_list_names_each_step_once() -> None:
    for model in admin.site._registry:
        assert model._meta.app_config.verbose_name.lower() != model._meta.verbose_name_plural, model


def test_web_statistics_are_set_and_the_page_shows_what_a_link_becomes(admin_client: Client) -> None:
    newsletter = make_newsletter()
    make_issue(newsletter, number=11)
    typed = {"utm_source": "{newsletter}", "utm_medium": "email", "utm_campaign": "{newsletter}-{number}"}
    hosts = "example.org, https://shop.example.net/basket  bücher.example"
    page = reverse(CHANGE, args=[newsletter.pk])
    assert admin_client.post(page, form(newsletter, **typed, utm_hosts=hosts)).status_code == 302
    newsletter.refresh_from_db()
    assert newsletter.utm_hosts == ["example.org", "shop.example.net", "bücher.example"]
    shown = admin_client.get(page).content.decode().replace("&amp;", "&")
    link = "https://example.org/page?a=b&utm_source=weekly&utm_medium=email&utm_campaign=weekly-12#part"
    assert link in shown
    assert 'value="example.org shop.example.net bücher.example"' in shown


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("utm_campaign", "{nummer}", "Between braces there may stand"),
        ("utm_hosts", "example.org not_a_host!", "“not_a_host!” is no host"),
    ],
)
def test_web_statistics_that_cannot_be_used_are_refused(admin_client: Client, name: str, value: str, said: str) -> None:
    newsletter = make_newsletter()
    answer = admin_client.post(reverse(CHANGE, args=[newsletter.pk]), form(newsletter, **{name: value}))
    assert said in answer.content.decode()
    newsletter.refresh_from_db()
    assert (newsletter.utm_campaign, newsletter.utm_hosts) == ("", [])
