"""What an operator may do to rows: asked once more on a page of its own, done through `subscribers.consent`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin, helpers
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from subscribers.admin import footprints

SHOWN = 20  # rows named on the page that asks


@dataclass(frozen=True)
class Act:
    """Something to do to rows.

    `label` stands on the button, `question` and `consequence` on the page that asks, `done` is the message after it
    with the number of rows that changed. `change` is called with a row and the source for its ConsentRecord, and says
    whether anything changed. `permission` is one of the model's: change, delete.
    """

    name: str
    label: str
    question: str
    consequence: str
    done: str
    change: Callable[[Any, str], bool]
    permission: str = "change"

    def as_action(self) -> Callable[[Any, HttpRequest, QuerySet[Any]], TemplateResponse | None]:
        """An action of Django's admin: the first POST asks, the one with `confirmed` does it."""

        def action(
            model_admin: ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
        ) -> TemplateResponse | None:
            if "confirmed" not in request.POST:
                return _ask(self, model_admin, request, queryset)
            changed = sum(self.change(row, footprints.source(request)) for row in queryset)
            model_admin.message_user(request, self.done.format(changed), messages.SUCCESS)
            return None

        action.__name__ = self.name
        action.short_description = self.label  # type: ignore[attr-defined]
        action.allowed_permissions = (self.permission,)  # type: ignore[attr-defined]
        return action


def buttons(acts: Sequence[Act], model_admin: ModelAdmin[Any], request: HttpRequest, row: Model) -> dict[str, Any]:
    """What `admin/subscribers/acts.html` needs to offer those of `acts` that this operator may do to `row`."""
    allowed = model_admin.get_actions(request)
    return {
        "acts": [act for act in acts if act.name in allowed],
        "acts_url": _list_url(model_admin),
        "acts_row": row.pk,
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
    }


def _ask(act: Act, model_admin: ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse:
    rows = list(queryset)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": act.label,
        "opts": model_admin.opts,
        "act": act,
        "rows": rows[:SHOWN],
        "more": len(rows) - SHOWN,
        "all_rows": rows,
        "acts_url": _list_url(model_admin),
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "admin/subscribers/ask.html", context)


def _list_url(model_admin: ModelAdmin[Any]) -> str:
    return reverse(f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_changelist")
