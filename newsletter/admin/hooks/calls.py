"""The log of webhook calls: what was sent where, what came back, and once more."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html

from newsletter.admin import acting, base
from newsletter.hooks import payload, turns
from newsletter.models import Call

Status = Call.Status

_BADGES = {Status.WAITING: "info", Status.CALLING: "primary", Status.ACCEPTED: "success", Status.GIVEN_UP: "danger"}
ENDED = (Status.ACCEPTED, Status.GIVEN_UP)


@admin.register(Call)
class CallAdmin(base.LargeModelAdmin[Call]):
    """The log, and the page of one call. Nothing here is edited."""

    list_display = ("at", "kind", "hook", "state", "status_code", "tries")
    list_filter = ("hook", "status")
    list_select_related = ("hook", "occurrence")
    nothing_yet = "Each call of a webhook stands here, with what was answered."

    @admin.display(description="happened")
    def at(self, call: Call) -> Any:
        """When it happened."""
        return call.occurrence.at

    @admin.display(description="what")
    def kind(self, call: Call) -> str:
        """What happened."""
        return str(call.occurrence.get_kind_display())

    @admin.display(description="state")
    def state(self, call: Call) -> str:
        """Where it stands."""
        kind = _badge(call)
        return format_html('<span class="desk-badge" data-kind="{}">{}</span>', kind, call.get_status_display().lower())

    def has_add_permission(self, request: HttpRequest) -> bool:
        """What happens makes one."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Call | None = None) -> bool:
        """Only its button changes it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Call | None = None) -> bool:
        """Time deletes it, or deleting its webhook."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Django's, and the button."""
        views: dict[str, tuple[acting.View[Any], str, tuple[str, ...]]] = {
            "again": (self._again, "newsletter.change_hook", ("POST",)),
        }
        return acting.pages(self, _rows, views) + super().get_urls()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one call."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        call = _rows().filter(pk=object_id).first() if object_id.isdecimal() else None
        if call is None:
            raise Http404("There is no such call.")
        again = acting.Button("Send again", reverse("admin:newsletter_call_again", args=[call.pk]), icon="replay")
        may = request.user.has_perm("newsletter.change_hook") and call.status in ENDED
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Call of “{call.hook}”",
            "original": call,
            "call": call,
            "kind": _badge(call),
            "next_try": _next_try(call),
            "answered": call.number > (1 if call.status == Status.CALLING else 0),
            "moving": call.status == Status.CALLING or (call.status == Status.WAITING and not call.tries),
            "message_id": payload.message_id(call.occurrence),
            "body": json.dumps(json.loads(payload.body(call.occurrence)), ensure_ascii=False, indent=2),
            "took": round(call.took.total_seconds() * 1000) if call.took else None,
            "last_try": len(turns.BACK_OFF) + 1,
            "buttons": [again] if may else [],
            "hook_page": reverse("admin:newsletter_hook_change", args=[call.hook_id]),
        }
        return TemplateResponse(request, "admin/newsletter/call/page.html", context)

    def _again(self, request: HttpRequest, call: Call) -> HttpResponseBase:
        if not turns.again(call):
            messages.error(request, "It has not ended yet: it is tried again by itself.")
        return HttpResponseRedirect(reverse("admin:newsletter_call_change", args=[call.pk]))


def _rows() -> QuerySet[Call]:
    return Call.objects.select_related("hook", "occurrence__newsletter", "occurrence__subscriber")


def _next_try(call: Call) -> dt.datetime | None:
    """When a call that waits is tried, or None where it is by its turn alone: a hook that fails rests."""
    later = max(call.due_at, call.hook.rests_until or call.due_at)
    return later if later > dt.datetime.now(dt.UTC) else None


def _badge(call: Call) -> str:
    failing = call.status == Status.WAITING and call.tries
    return "warning" if failing else _BADGES[Status(call.status)]
