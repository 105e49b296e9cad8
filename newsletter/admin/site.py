"""The frame around every page of the admin: its title, its colours, where its links lead.

`newsletter.settings.UNFOLD` names these; the theme calls them for each page.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse

# Group by group: its title, and model, title and icon of each link. A link is shown to whoever may see its page.
LINKS = (
    (
        "Publishing",
        (
            ("newsletter.issue", "Issues", "edit_note"),
            ("newsletter.dispatch", "Dispatches", "outgoing_mail"),
            ("newsletter.bounce", "Bounces", "undo"),
            ("newsletter.newsletter", "Newsletters", "newspaper"),
        ),
    ),
    (
        "People",
        (
            ("subscribers.subscriber", "Subscribers", "group"),
            ("subscribers.subscription", "Subscriptions", "mark_email_read"),
            ("subscribers.membership", "Memberships", "card_membership"),
            ("subscribers.tier", "Tiers", "stairs"),
            ("subscribers.suppression", "Suppressions", "block"),
            ("subscribers.consentrecord", "Consent", "fact_check"),
        ),
    ),
    (
        "Site",
        (
            ("newsletter.hook", "Webhooks", "webhook"),
            ("newsletter.call", "Webhook calls", "receipt_long"),
            ("auth.user", "Staff", "badge"),
            ("auth.group", "Roles", "lock_person"),
        ),
    ),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar, as the theme wants it: groups with `title` and `items`; only what this member of staff may see."""
    start = {"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")}
    groups: list[dict[str, Any]] = [{"title": "", "items": [start]}]
    for title, links in LINKS:
        items = [
            {"title": name, "icon": icon, "link": link}
            for model, name, icon in links
            if (link := _list_of(model)) and may_view(request, model)
        ]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups


def may_view(request: HttpRequest, model: str) -> bool:
    """Whether whoever asks may see the pages of `model` ("app.name")."""
    app, name = model.split(".")
    return request.user.has_perm(f"{app}.view_{name}") or request.user.has_perm(f"{app}.change_{name}")


def environment(request: HttpRequest) -> list[str] | None:
    """The badge in the corner, text and colour: nobody is to take a trial site for the one that readers hear from."""
    if settings.DEBUG:
        return ["Debug", "danger"]
    host = urlsplit(settings.SITE_URL).hostname or ""
    return ["Local", "warning"] if host in {"localhost", "127.0.0.1", "::1"} else None


def icon(request: HttpRequest) -> str:
    """The path of the icon in the browser's tab."""
    return static("pages/icon.svg")


def style(request: HttpRequest) -> str:
    """The path of our own styles, on every page."""
    return static("admin/masthead/desk.css")


def _list_of(model: str) -> str:
    """The path of the list of `model`; empty where the admin has no page for it."""
    try:
        return reverse(f"admin:{model.replace('.', '_')}_changelist")
    except NoReverseMatch:
        return ""


def arrange() -> None:
    """What holds for every list: rows are deleted one by one, where what goes with them is said first. The way to the
    pages of Django's own accounts begins as the sidebar has it."""
    admin.site.disable_action("delete_selected")
    apps.get_app_config("auth").verbose_name = "Site"
