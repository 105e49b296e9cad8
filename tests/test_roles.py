"""Who may see and do what in the admin: every address of it, for every role. A new page that is not listed fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import URLPattern, reverse

from newsletter import roles
from newsletter.hooks import occurring
from newsletter.models import Bounce, Issue, Newsletter
from newsletter.security import page_policy
from subscribers import consent
from subscribers.models import ConsentRecord, Membership, Subscription, Suppression, Tier
from tests.making import make_dispatch, make_hook, make_newsletter, make_reader

pytestmark = pytest.mark.django_db

NOBODY = ""
CHIEF = "superuser"
EDITOR = f"editor {CHIEF}"
WRITERS = f"author {EDITOR}"
PEOPLE = f"analyst {EDITOR}"
STAFF = f"analyst {WRITERS}"
EVERYONE = f"anonymous {STAFF}"

# Who gets a page (200) by GET. `view` covers the list, the row's own page and its history.
MODELS = {
    "newsletter_newsletter": {"view": STAFF, "add": EDITOR, "delete": NOBODY},  # one with readers stays
    "newsletter_issue": {"view": STAFF, "add": WRITERS, "delete": NOBODY},  # one that was dispatched stays
    "newsletter_dispatch": {"view": STAFF, "add": NOBODY, "delete": NOBODY},
    "newsletter_bounce": {"view": STAFF, "add": NOBODY, "delete": NOBODY},
    "newsletter_hook": {"view": PEOPLE, "add": EDITOR, "delete": EDITOR},
    "newsletter_call": {"view": PEOPLE, "add": NOBODY, "delete": NOBODY},
    "subscribers_tier": {"view": STAFF, "add": EDITOR, "delete": EDITOR},
    "subscribers_subscriber": {"view": PEOPLE, "add": EDITOR, "delete": EDITOR},
    "subscribers_subscription": {"view": PEOPLE, "add": NOBODY, "delete": NOBODY},
    "subscribers_membership": {"view": PEOPLE, "add": EDITOR, "delete": EDITOR},
    "subscribers_suppression": {"view": PEOPLE, "add": EDITOR, "delete": EDITOR},
    "subscribers_consentrecord": {"view": PEOPLE, "add": NOBODY, "delete": NOBODY},
    "auth_user": {"view": CHIEF, "add": CHIEF, "delete": CHIEF},
    "auth_group": {"view": CHIEF, "add": CHIEF, "delete": NOBODY},  # the group is one of ours
}
PAGES = {
    "index": STAFF,
    "login": "anonymous",
    "password_change": STAFF,
    "password_change_done": STAFF,
    "search": STAFF,
    "jsi18n": STAFF,
    "auth_user_password_change": CHIEF,
    "newsletter_newsletter_preview": STAFF,
    "newsletter_issue_import": WRITERS,
    "newsletter_issue_frame": STAFF,
    "newsletter_issue_preview": STAFF,
    "newsletter_issue_forms": STAFF,
    "newsletter_issue_send": EDITOR,
    "newsletter_dispatch_live": STAFF,
    "newsletter_dispatch_links": STAFF,
    "newsletter_dispatch_cancel": EDITOR,
    "newsletter_dispatch_accept": EDITOR,
    "newsletter_dispatch_resend": EDITOR,
    "newsletter_dispatch_retry": EDITOR,
    "newsletter_hook_again": EDITOR,
    "newsletter_hook_rotate": EDITOR,
}
# Not looked at, but posted to: who may. Others get 403, or the way to sign in.
POSTS = {
    "newsletter_dispatch_unschedule": EDITOR,
    "newsletter_dispatch_pause": EDITOR,
    "newsletter_dispatch_resume": EDITOR,
    "newsletter_dispatch_note": EDITOR,
    "newsletter_dispatch_cancel": EDITOR,
    "newsletter_dispatch_resend": EDITOR,
    "newsletter_dispatch_accept": EDITOR,
    "newsletter_dispatch_retry": EDITOR,
    "newsletter_hook_test": EDITOR,
    "newsletter_hook_enable": EDITOR,
    "newsletter_hook_again": EDITOR,
    "newsletter_hook_rotate": EDITOR,
    "newsletter_call_again": EDITOR,
}
# Elsewhere: Django's own, without a page of ours. `app_list` shows what a role may see of one app.
OTHERS = {"logout", "autocomplete", "view_on_site", "app_list"}
VERBS = {"changelist": "view", "change": "view", "history": "view", "add": "add", "delete": "delete"}


def names() -> Iterator[str]:
    """The name of every address of the admin."""
    pending: list[Any] = list(admin.site.get_urls())
    while pending:
        pattern = pending.pop()
        if isinstance(pattern, URLPattern):
            if pattern.name:
                yield pattern.name
        else:
            pending += pattern.url_patterns


def expected(name: str) -> str:
    """Who gets the page of that name."""
    model, _, page = name.rpartition("_")
    return PAGES[name] if name in PAGES else MODELS[model][VERBS[page]]


LOOKED_AT = sorted({*PAGES, *(f"{model}_{page}" for model in MODELS for page in VERBS)})


def test_every_address_of_the_admin_says_who_may_see_it() -> None:
    assert set(names()) == {*LOOKED_AT, *POSTS, *OTHERS}


@pytest.fixture
def rows() -> dict[str, int]:
    """One row of each model."""
    newsletter = make_newsletter()
    reader = make_reader(newsletter, tier="paid")
    dispatch = make_dispatch(newsletter)
    consent.choose_tracking(reader.subscriber, tracking=reader.subscriber.Tracking.OFF, source="test")
    hook = make_hook()
    suppression = Suppression.objects.create(fingerprint="f", reason=Suppression.Reason.MANUAL)
    return {
        "newsletter_newsletter": newsletter.pk,
        "newsletter_issue": Issue.objects.get().pk,
        "newsletter_dispatch": dispatch.pk,
        "newsletter_bounce": Bounce.objects.create(kind="bounce", verdict="soft").pk,
        "newsletter_hook": hook.pk,
        "newsletter_call": occurring.try_out(hook).pk,
        "subscribers_tier": Tier.objects.get(slug="paid").pk,
        "subscribers_subscriber": reader.subscriber.pk,
        "subscribers_subscription": reader.pk,
        "subscribers_membership": Membership.objects.get().pk,
        "subscribers_suppression": suppression.pk,
        "subscribers_consentrecord": ConsentRecord.objects.get().pk,
        "auth_user": User.objects.create_user("somebody").pk,
        "auth_group": Group.objects.get(name="author").pk,
    }


def path_of(name: str, rows: dict[str, int]) -> str:
    """The address of that name, for the row of its model where it wants one."""
    model = next((model for model in rows if name.startswith(f"{model}_")), "")
    plain = {"changelist", "add", "import"}
    return reverse(f"admin:{name}", args=[rows[model]] if model and name.rpartition("_")[2] not in plain else [])


def browser_of(role: str) -> Client:
    """A browser of somebody with that role."""
    client = Client()
    if role == CHIEF:
        client.force_login(User.objects.create_superuser("chief"))
    elif role != "anonymous":
        staff = User.objects.create_user(role, is_staff=True)
        staff.groups.add(Group.objects.get(name=role))
        client.force_login(staff)
    return client


@pytest.mark.parametrize("role", EVERYONE.split())
def test_a_role_sees_its_pages_and_no_others(role: str, rows: dict[str, int]) -> None:
    browser = browser_of(role)
    wrong = {}
    for name in LOOKED_AT:
        status = browser.get(path_of(name, rows)).status_code
        if (status == 200) != (role in expected(name).split()) or status not in (200, 302, 403):
            wrong[name] = status
    assert not wrong


@pytest.mark.parametrize("role", EVERYONE.split())
def test_a_role_does_its_acts_and_no_others(role: str, rows: dict[str, int]) -> None:
    browser = browser_of(role)
    wrong = {}
    for name, allowed in POSTS.items():
        answer = browser.post(path_of(name, rows))
        refused = answer.status_code == 403 or "/login/" in answer.headers.get("Location", "")
        if refused == (role in allowed.split()) or answer.status_code not in (302, 403):
            wrong[name] = answer.status_code
    assert not wrong


@pytest.mark.parametrize("role", EVERYONE.split())
def test_only_editors_change_somebodys_consent(role: str, rows: dict[str, int]) -> None:
    browser = browser_of(role)
    for name in ("unsubscribe", "pause", "suppress", "erase"):
        data = {"action": name, "confirmed": "yes", "_selected_action": [rows["subscribers_subscriber"]]}
        browser.post(reverse("admin:subscribers_subscriber_changelist"), data)
        if role not in EDITOR.split():
            assert Subscription.objects.get().status == Subscription.Status.ACTIVE
    gone = not Subscription.objects.filter(pk=rows["subscribers_subscription"]).exists()
    assert gone is (role in EDITOR.split())


@pytest.mark.parametrize("role", ["analyst", "author"])
def test_who_only_reads_a_form_cannot_save_it(role: str, rows: dict[str, int]) -> None:
    browser = browser_of(role)
    for name in ("newsletter_newsletter_change", "newsletter_issue_change"):
        if role == "analyst":
            assert browser.post(path_of(name, rows), {"name": "Mine", "title": "Mine"}).status_code == 403
    for name in ("subscribers_tier_change", "subscribers_subscriber_change"):
        assert browser.post(path_of(name, rows), {"name": "Mine"}).status_code == 403
    assert not Newsletter.objects.filter(name="Mine").exists()


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/admin/auth/user/", 403, "Ask somebody with the role editor"),
        ("/admin/no/such/page/", 404, "from the overview"),
    ],
)
def test_staff_read_whom_to_ask_or_where_to_look_and_nothing_of_a_mail(path: str, status: int, words: str) -> None:
    answer = browser_of("author").get(path)
    assert answer.status_code == status
    assert words in answer.text
    assert f'href="{reverse("admin:index")}"' in answer.text
    assert "the mail" not in answer.text
    assert answer.headers["Content-Security-Policy"] == page_policy()
    assert "noindex" in answer.headers["X-Robots-Tag"]


def test_nobody_without_a_role_gets_past_the_door(rows: dict[str, int], client: Client) -> None:
    client.force_login(User.objects.get(pk=rows["auth_user"]))
    for name in LOOKED_AT:
        if name != "login":
            assert client.get(path_of(name, rows)).status_code == 302, name


def test_autocompletion_is_for_those_who_may_see_the_people(rows: dict[str, int]) -> None:
    query = {"app_label": "subscribers", "model_name": "membership", "field_name": "subscriber", "term": "reader"}
    seen = {role: browser_of(role).get(reverse("admin:autocomplete"), query).status_code for role in STAFF.split()}
    assert seen == {"analyst": 200, "author": 403, "editor": 200, "superuser": 200}


def test_roles_are_set_again_as_they_are_written() -> None:
    author = Group.objects.get(name="author")
    author.permissions.add(Permission.objects.get(codename="schedule_dispatch"))
    roles.ensure()
    roles.ensure()
    assert {group.name for group in Group.objects.all()} == set(roles.ROLES)
    for role, permissions in roles.ROLES.items():
        held = Permission.objects.filter(group__name=role).values_list("content_type__app_label", "codename")
        assert {f"{app}.{name}" for app, name in held} == permissions


def test_a_role_of_ours_is_looked_at_and_one_of_the_sites_own_is_changed(admin_client: Client) -> None:
    ours, own = Group.objects.get(name="author"), Group.objects.create(name="proof-reader")
    for group, status in ((ours, 403), (own, 302)):
        url = reverse("admin:auth_group_change", args=[group.pk])
        assert admin_client.post(url, {"name": "renamed"}).status_code == status
