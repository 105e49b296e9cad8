"""Tiers, and who holds one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from newsletter import counting
from newsletter.admin import base
from newsletter.models import Section
from subscribers.admin import finding, footprints
from subscribers.models import Membership, Tier


@admin.register(Tier)
class TierAdmin(base.ModelAdmin[Tier]):
    """The pages of tiers. One that readers hold stays; one that sections name takes them from everybody."""

    list_display = ("name", "level", "slug")
    search_fields = ("name",)
    ordering = ("level",)
    nothing_yet = "A tier says which sections a reader sees. The first newsletter brings the usual ones."
    prepopulated_fields = {"slug": ("name",)}
    delete_confirmation_template = "admin/subscribers/delete.html"

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Asks before it deletes."""
        return super().delete_view(request, object_id, {**(extra_context or {}), "verb": "Delete"})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What deleting means, in sentences; a million memberships are estimated, not read."""
        tiers = list(objs)
        held = counting.about(Membership.objects.filter(tier__in=tiers))
        protected = [f"Readers hold it: memberships: {held}. Give them another tier first."] if held.number else []
        sections = Section.objects.filter(tier__in=tiers).select_related("issue").order_by("-pk")
        named = [
            f"Section “{section}” of “{section.issue}” names it, and would then be shown to nobody."
            for section in sections[:20]
        ]
        if (more := sections.count() - len(named)) > 0:
            named.append(f"So would {more} more.")
        return named or ["No section names it, and no reader holds it."], {}, set(), protected


@admin.register(Membership)
class MembershipAdmin(footprints.NamelessLog[Membership], base.LargeModelAdmin[Membership]):
    """The pages of memberships: why someone holds a tier, and for how long."""

    list_display = ("subscriber", "tier", "kind", "starts_at", "ends_at")
    list_filter = ("tier",)
    list_select_related = ("subscriber", "tier")
    autocomplete_fields = ("subscriber",)
    search_fields = ("subscriber__address_key",)
    search_help_text = finding.HELP
    nothing_yet = "A membership gives a reader a tier, for a time or for good."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Membership], search_term: str
    ) -> tuple[QuerySet[Membership], bool]:
        """Memberships of the people whom `search_term` finds."""
        return (finding.rows_of(search_term, queryset) if search_term else queryset), False
