"""Subscriptions: who reads what. Their state changes through `subscribers.consent` alone: nothing here is a field."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from newsletter.admin import base
from newsletter.models import StandingSection
from subscribers import consent
from subscribers.admin import acts, finding, footprints
from subscribers.models import Subscription

ACTS = (
    acts.Act(
        "unsubscribe",
        "Unsubscribe",
        "Unsubscribe these readers?",
        "They get no more mail of the newsletter: what is queued for them is skipped. Only they can come back.",
        "{} unsubscribed.",
        lambda row, source: consent.unsubscribe(row, source=source),
    ),
    acts.Act(
        "pause",
        "Pause",
        "Pause these subscriptions?",
        "No mail of the newsletter until somebody resumes them.",
        "{} paused.",
        lambda row, source: consent.pause(row, source=source),
    ),
    acts.Act(
        "resume",
        "Resume",
        "Resume these subscriptions?",
        "Those that are paused get the next issue again; others stay as they are.",
        "{} resumed.",
        lambda row, source: consent.resume(row, source=source),
    ),
)


@admin.register(Subscription)
class SubscriptionAdmin(footprints.NamelessLog[Subscription], base.LargeModelAdmin[Subscription]):
    """The pages of subscriptions: to look at, and to end, pause and resume."""

    list_display = ("subscriber", "newsletter", "status", "changed_at")
    list_filter = ("newsletter", "status")
    list_select_related = ("subscriber", "newsletter")
    search_fields = ("subscriber__address_key",)
    search_help_text = finding.HELP
    nothing_yet = "Who reads which newsletter stands here."
    fields = ("subscriber", "newsletter", "status", "paused_until", "muted_names", "created_at", "changed_at")
    readonly_fields = fields
    actions = [act.as_action() for act in ACTS]
    change_form_outer_before_template = "admin/subscribers/acts.html"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Subscription], search_term: str
    ) -> tuple[QuerySet[Subscription], bool]:
        """Subscriptions of the people whom `search_term` finds."""
        return (finding.rows_of(search_term, queryset) if search_term else queryset), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A subscription is added on its subscriber's page."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        """Who leaves is unsubscribed: the row is what keeps an import from bringing them back."""
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one subscription, with its buttons in place of a form to save."""
        row = self.get_object(request, object_id)
        offered = acts.buttons(ACTS, self, request, row) if row else {}
        unsaved = {"show_save": False, "show_save_and_continue": False}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **offered, **unsaved})

    @admin.display(description="sections left out")
    def muted_names(self, row: Subscription) -> str:
        """The standing sections that the reader does not want."""
        names = StandingSection.objects.filter(pk__in=row.muted_sections).values_list("name", flat=True)
        return ", ".join(names) or "none"
