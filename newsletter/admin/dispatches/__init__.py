"""Dispatches: the state of a send as it happens, its report, and what may be done about it. Nothing here is edited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse

from newsletter import feedback, scheduling, stats
from newsletter.admin import acting, base
from newsletter.admin.dispatches import progress, results, settling
from newsletter.admin.issues import listing
from newsletter.models import Delivery, Dispatch

VIEW = "newsletter.view_dispatch"
PAGE = 50  # deliveries in a list
# Deliveries worth a look, one list each.
LISTS = {
    Delivery.Status.UNCONFIRMED.value: "In doubt",
    Delivery.Status.FAILED.value: "Refused",
    Delivery.Status.SKIPPED.value: "Skipped",
}


@admin.register(Dispatch)
class DispatchAdmin(base.ModelAdmin[Dispatch]):
    """The dispatches of issues, and the page of each."""

    list_display = ("issue", "newsletter", "state", "starts")
    list_display_links = ("issue",)
    list_filter = ("newsletter", "status")
    list_select_related = ("issue", "newsletter")
    search_fields = ("issue__title",)
    ordering = ("-pk",)
    paginator = base.BoundedPaginator
    nothing_yet = (
        "An issue that is scheduled or sent gets its dispatch here: how far it is, who got it, what came of it."
    )

    @admin.display(description="State", ordering="status")
    def state(self, dispatch: Dispatch) -> str:
        """Where it stands, as a badge."""
        return listing.badge(listing.state_of(dispatch))

    @admin.display(description="Starts", ordering="due_at")
    def starts(self, dispatch: Dispatch) -> str:
        """When it begins or began, by the newsletter's clock."""
        return scheduling.when(dispatch)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dispatch]:
        """Those of issues. Single messages are many, and none of them is the author's."""
        return super().get_queryset(request).filter(issue__isnull=False).select_related("issue", "newsletter")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Scheduling an issue makes one."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Dispatch | None = None) -> bool:
        """Only its buttons change it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Dispatch | None = None) -> bool:
        """What was sent is kept."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Django's, the numbers while it runs, and one for each act."""
        acts: dict[str, tuple[acting.View[Any], str, tuple[str, ...]]] = {
            name: (self._act(act), acting.SEND, ("GET", "POST") if act.question else ("POST",))
            for name, act in settling.ACTS.items()
        }
        looks: dict[str, tuple[acting.View[Any], str, tuple[str, ...]]] = {
            "live": (self._live, VIEW, ("GET",)),
            "links": (self._links, VIEW, ("GET",)),
        }
        views = {**looks, **acts}
        return acting.pages(self, self._rows, views) + super().get_urls()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one dispatch. `?list=` names one of LISTS, `?after=` a delivery after which it goes on, `?links=`
        a page of its links."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        dispatch = self._rows().filter(pk=object_id).first() if object_id.isdecimal() else None
        if dispatch is None:
            raise Http404("There is no such dispatch.")
        return TemplateResponse(request, "admin/newsletter/dispatch/page.html", self._context(request, dispatch))

    def _rows(self) -> QuerySet[Dispatch]:
        return Dispatch.objects.filter(issue__isnull=False).select_related("issue", "newsletter")

    def _context(self, request: HttpRequest, dispatch: Dispatch) -> dict[str, Any]:
        live = progress.live(dispatch)
        numbers = progress.report(dispatch)
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Dispatch of “{dispatch.issue}”",
            "original": dispatch,
            "dispatch": dispatch,
            "state": listing.state_of(dispatch, percent=live["percent"]),
            "live": live,
            "live_address": reverse("admin:newsletter_dispatch_live", args=[dispatch.pk]),
            "starts": scheduling.when(dispatch),
            "report": numbers,
            **_returned(request, dispatch),
            "results": results.results(dispatch, numbers, request.GET.get("links", "")),
            "links_address": reverse("admin:newsletter_dispatch_links", args=[dispatch.pk]),
            "sums_agree": stats.sums_agree(numbers),
            "sum_line": progress.sum_line(numbers) if dispatch.candidates is not None else "",
            "skipped": progress.in_words(numbers["skipped"]),
            "notes_taken": progress.notes_taken(dispatch),
            "buttons": settling.buttons(request, dispatch),
            "settling": settling.settling(request, dispatch, live["numbers"]),
            "lists": self._lists(request, dispatch, live["numbers"]),
            "listed": self._listed(request, dispatch, live["numbers"]),
            "may_see_issue": request.user.has_perm("newsletter.view_issue"),
        }

    def _lists(self, request: HttpRequest, dispatch: Dispatch, counts: dict[str, int]) -> list[dict[str, Any]]:
        chosen = _chosen(request, counts)
        return [
            {"name": name, "title": title, "number": counts[name], "chosen": name == chosen}
            for name, title in LISTS.items()
            if counts[name]
        ]

    def _listed(self, request: HttpRequest, dispatch: Dispatch, counts: dict[str, int]) -> dict[str, Any]:
        chosen = _chosen(request, counts)
        after = request.GET.get("after", "")
        rows = Delivery.objects.filter(dispatch=dispatch, status=chosen).order_by("pk")
        if after.isascii() and after.isdigit() and len(after) < 19:
            rows = rows.filter(pk__gt=int(after))
        found = list(rows[: PAGE + 1]) if chosen else []
        may_see = request.user.has_perm("subscribers.view_subscriber")
        return {
            "rows": [(row, _subscriber_page(row) if may_see else "", _why(row)) for row in found[:PAGE]],
            "chosen": chosen,
            "next": f"?list={chosen}&after={found[PAGE - 1].pk}" if len(found) > PAGE else "",
            "first": f"?list={chosen}" if after else "",
        }

    def _live(self, request: HttpRequest, dispatch: Dispatch) -> HttpResponseBase:
        response = JsonResponse(progress.live(dispatch))
        response["Cache-Control"] = "no-store"
        return response

    def _links(self, request: HttpRequest, dispatch: Dispatch) -> HttpResponseBase:
        response = HttpResponse(results.links_as_csv(dispatch), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="links-{dispatch.pk}.csv"'
        return response

    def _act(self, act: settling.Act) -> acting.View[Dispatch]:
        def view(request: HttpRequest, dispatch: Dispatch) -> HttpResponseBase:
            back = reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])
            if request.method == "GET" and act.question:
                question = act.question(dispatch, progress.counts(dispatch))
                return acting.ask(request, self, dispatch, question, back)
            return acting.act(request, lambda: act.do(dispatch, request), back)

        return view


def _chosen(request: HttpRequest, counts: dict[str, int]) -> str:
    """Which list is shown: the one asked for, else the first that has something in it."""
    asked = request.GET.get("list", "")
    return asked if asked in LISTS else next((name for name in LISTS if counts[name]), "")


def _returned(request: HttpRequest, dispatch: Dispatch) -> dict[str, Any]:
    """What came back of it, in groups by verdict."""
    groups = feedback.summary(dispatch)
    listed = f"{reverse('admin:newsletter_bounce_changelist')}?newsletter__id__exact={dispatch.newsletter_id}"
    return {
        "returned": groups,
        "blocked": feedback.refused(groups),
        "bounces_address": listed if request.user.has_perm("newsletter.view_bounce") else "",
    }


def _subscriber_page(delivery: Delivery) -> str:
    if delivery.subscriber_id is None:
        return ""
    return reverse("admin:subscribers_subscriber_change", args=[delivery.subscriber_id])


def _why(delivery: Delivery) -> str:
    if delivery.status == Delivery.Status.SKIPPED:
        return progress.REASONS.get(delivery.reason, delivery.reason)
    return delivery.reply or "No answer was noted."
