"""What came back: bounces and complaints one by one, the newest first. Nothing here is edited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from newsletter import feedback
from newsletter.admin import base
from newsletter.bounces import Cause
from newsletter.models import Bounce, Delivery

BADGES = {"complaint": "danger", "hard": "danger", "block": "warning", "soft": "info"}
# Each on one line, however narrow its column.
WORDS = {verdict.name.lower(): verdict.label.replace(" ", "\N{NO-BREAK SPACE}") for verdict in Delivery.Verdict}
# How a report came, as a person would say it; what is not here is a provider's name.
WAYS = {"smtp": "the mail server’s answer while sending", "mail": "a bounce mail"}


class VerdictFilter(admin.SimpleListFilter):
    """One verdict alone."""

    title = "verdict"
    parameter_name = "verdict"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The heaviest first."""
        return [(word, WORDS[word].capitalize()) for word in BADGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Bounce]) -> QuerySet[Bounce]:
        """Those with the verdict that was chosen."""
        return queryset.filter(verdict=self.value()) if self.value() in BADGES else queryset


class ReasonFilter(admin.SimpleListFilter):
    """One reason alone."""

    title = "reason"
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """In the author's words."""
        return [(cause.name, cause.words) for cause in Cause]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Bounce]) -> QuerySet[Bounce]:
        """Those with the reason that was chosen."""
        return queryset.filter(reasons=self.value()) if self.value() in Cause.__members__ else queryset


@admin.register(Bounce)
class BounceAdmin(base.LargeModelAdmin[Bounce]):
    """The list, and the page of one report. Each stands here as it came: the same bounce by two ways twice."""

    list_display = ("at", "verdict_badge", "reason", "domain", "newsletter", "way")
    list_filter = ("newsletter", VerdictFilter, ReasonFilter)
    list_select_related = ("newsletter", "subscriber")
    nothing_yet = (
        "Nothing has come back. Bounces and complaints stand here as soon as a mail server, your provider or the "
        "mailbox for bounces tells of them."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bounce]:
        """Of all events those with a verdict."""
        return _rows()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """What comes back makes one."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Bounce | None = None) -> bool:
        """It stays as it came."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Bounce | None = None) -> bool:
        """Time deletes it."""
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one report."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = _rows().select_related("newsletter", "subscriber", "dispatch__issue", "delivery")
        event = rows.filter(pk=object_id).first() if object_id.isdecimal() and len(object_id) < 19 else None
        if event is None:
            raise Http404("There is no such bounce.")
        may_see_people = request.user.has_perm("subscribers.view_subscriber")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "What came back",
            "original": event,
            "event": event,
            "badge": BADGES[event.verdict],
            "word": WORDS[event.verdict],
            "reason": self.reason(event),
            "way": self.way(event),
            "domain": self.domain(event),
            "counts_as": _counts_as(event),
            "dispatch_page": _page("newsletter_dispatch", event.dispatch_id if _of_an_issue(event) else None),
            "reader_page": _page("subscribers_subscriber", event.subscriber_id) if may_see_people else "",
        }
        return TemplateResponse(request, "admin/newsletter/bounce.html", context)

    @admin.display(description="verdict")
    def verdict_badge(self, row: Bounce) -> str:
        """The verdict, as a badge."""
        return format_html('<span class="desk-badge" data-kind="{}">{}</span>', BADGES[row.verdict], WORDS[row.verdict])

    @admin.display(description="reason")
    def reason(self, row: Bounce) -> str:
        """Why, in plain words."""
        return feedback.words_of(row.verdict, row.reasons)

    @admin.display(description="mailbox at")
    def domain(self, row: Bounce) -> str:
        """Where the reader has their mailbox."""
        return row.subscriber.address_key.rpartition("@")[2] if row.subscriber else "–"

    @admin.display(description="told by")
    def way(self, row: Bounce) -> str:
        """Which way the report came."""
        return WAYS.get(row.source, row.source)


def _rows() -> QuerySet[Bounce]:
    return Bounce.objects.exclude(verdict="")


def _of_an_issue(event: Bounce) -> bool:
    return event.dispatch is not None and event.dispatch.issue_id is not None


def _page(name: str, pk: int | None) -> str:
    return reverse(f"admin:{name}_change", args=[pk]) if pk else ""


def _counts_as(event: Bounce) -> str:
    """What the mail counts as where another report of it weighs more, or ""."""
    verdict = event.delivery.verdict if event.delivery else None
    if verdict is None or Delivery.Verdict(verdict).name.lower() == event.verdict:
        return ""
    return str(Delivery.Verdict(verdict).label)
