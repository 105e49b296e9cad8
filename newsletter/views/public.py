"""What anybody may see: the newsletters of this site and their published issues."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.templatetags.static import static
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from newsletter import fields, theming
from newsletter.content import ThemeContent
from newsletter.models import Dispatch, Newsletter, Theme
from newsletter.views import issues, subscribing
from newsletter.views.pages import page

ISSUES_PER_PAGE = 20


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The newsletters of this site."""
    return page("home", {"newsletters": Newsletter.objects.order_by("name")})


@require_safe
def newsletter(request: HttpRequest, slug: str) -> HttpResponse:
    """What a newsletter is about, and its published issues, newest first; `?page=` turns the page."""
    found = get_object_or_404(Newsletter, slug=slug)
    shown = Paginator(issues.published(slug), ISSUES_PER_PAGE).get_page(request.GET.get("page"))
    entries = [
        {
            "content": (content := dispatch.revision.content),
            "title": fields.for_nobody(content.title),
            "preheader": fields.for_nobody(content.preheader),
            "path": issues.public_path(dispatch.issue, slug),
            "date": content.date or _day(dispatch, found),
        }
        for dispatch in shown
        if dispatch.issue
    ]
    context = {"entries": entries, "shown": shown, **subscribing.form_context(found)}
    return page("newsletter", context, newsletter=found)


def _day(dispatch: Dispatch, newsletter: Newsletter) -> date | None:
    """The day on which it went out, by the newsletter's own clock."""
    return dispatch.snapshot_at and dispatch.snapshot_at.astimezone(ZoneInfo(newsletter.time_zone)).date()


@require_safe
@cache_control(public=True, max_age=300)
def theme(request: HttpRequest, slug: str) -> HttpResponse:
    """The newsletter's colours as a stylesheet."""
    found = get_object_or_404(Newsletter, slug=slug)
    row = Theme.objects.filter(newsletter=found).first()
    return HttpResponse(theming.stylesheet(row.content() if row else ThemeContent()), content_type="text/css")


@require_safe
@cache_control(public=True, max_age=86400)
def global_privacy_control(request: HttpRequest) -> HttpResponseBase:
    """That this site heeds Global Privacy Control: https://www.w3.org/TR/gpc/, section "GPC Support Resource"."""
    return JsonResponse({"gpc": True, "lastUpdate": "2026-11-27"})


@require_safe
@cache_control(public=True, max_age=86400)
def icon(request: HttpRequest) -> HttpResponseBase:
    """The site's icon, where browsers look for one that no page named: beside a mail's HTML or a file."""
    return redirect(static("pages/icon.svg"))
