"""An issue in the browser, through the same gate and renderer as its mail.

No reader's name stands in it, and nothing in it is tracked: the page has been asked for already.
"""

from __future__ import annotations

import re
from html import escape

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from newsletter import fields, gate, rendering, tracking
from newsletter.content import IssueContent, Profile, TrackingMode
from newsletter.models import Delivery, Dispatch, Issue
from newsletter.security import ISSUE_POLICY
from newsletter.views import readers
from newsletter.views.pages import NotFound, page, private
from subscribers.models import Subscriber, tier_level_of

# The element around all that is seen (layout.mjml): in a browser it is the page's main landmark.
_AROUND_ALL = re.compile(r'<div(?=[^>]*\sclass="page")')
PUBLISHED = (Dispatch.Status.SENDING, Dispatch.Status.SENT)


def published(slug: str) -> QuerySet[Dispatch]:
    """The dispatches that made issues of this newsletter public, newest first."""
    dispatches = Dispatch.objects.filter(issue__isnull=False, newsletter__slug=slug, status__in=PUBLISHED)
    return dispatches.select_related("issue", "revision").order_by("-snapshot_at", "-pk")


def public_path(issue: Issue, slug: str) -> str:
    """The path of an issue's public page; its number where it has one."""
    return reverse("public-issue", args=[slug, issue.public_id if issue.number is None else issue.number])


def _shown(content: IssueContent, profile: Profile, links: dict[str, str], *, for_reader: bool) -> HttpResponse:
    rendered = rendering.render(
        gate.view(content, profile), tracking=TrackingMode.OFF, medium=rendering.Medium.WEB, for_reader=for_reader
    )
    table = fields.SlotTable(list(rendered.slots))
    html = _AROUND_ALL.sub('<div role="main"', rendered.html, count=1)
    response = HttpResponse(table.fill(html, links, quote=escape))
    response["Content-Security-Policy"] = ISSUE_POLICY
    return response


@require_safe
def for_reader(request: HttpRequest, token: str) -> HttpResponse:
    """The issue of a delivery as its reader may see it now; free for whoever was erased since."""
    reader = readers.find(token)
    delivery = (
        Delivery.objects.select_related("dispatch__revision")
        .filter(pk=reader.said.delivery_id or 0, dispatch__newsletter=reader.newsletter, dispatch__issue__isnull=False)
        .first()
    )
    if delivery is None or reader.newsletter is None:
        return private(page("issue_gone", {}, newsletter=reader.newsletter, status=404))
    content = delivery.dispatch.revision.content
    said = reader.said
    links = tracking.reader_urls(
        said.subscriber_public_id, said.newsletter_public_id, delivery.pk, upgrade_url=content.upgrade_url
    )
    return private(_shown(content, _profile_now(reader), links, for_reader=True))


def _profile_now(reader: readers.Reader) -> Profile:
    """What the reader holds and chose at this moment; the free view where there is nobody any more."""
    if reader.subscriber is None:
        return Profile()
    subscription = reader.subscription()
    return Profile(
        tier_level=Subscriber.objects.annotate(level=tier_level_of("pk"))
        .values_list("level", flat=True)
        .get(pk=reader.subscriber.pk),
        muted=subscription.muted_sections if subscription else frozenset(),
    )


@require_safe
def for_everybody(request: HttpRequest, slug: str, issue: int) -> HttpResponse:
    """A published issue, by number or public id, as a free reader sees it. Raises NotFound for any other."""
    candidates = published(slug)
    dispatch = candidates.filter(issue__number=issue).first() or candidates.filter(issue__public_id=issue).first()
    if dispatch is None:
        raise NotFound(_("There is no such issue, or it has not been published yet."))
    content = dispatch.revision.content
    links = {"upgrade_url": content.upgrade_url or settings.SITE_URL + reverse("newsletter", args=[slug])}
    return _shown(content, Profile(), links, for_reader=False)
