"""What the admin's log keeps of work on people: which row and which fields, no name that erasing would leave there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from newsletter.admin import base


def source(request: HttpRequest) -> str:
    """Who of the staff does it, for a ConsentRecord: by number, since user names tend to be addresses."""
    return f"staff {request.user.pk}"


class NamelessLog(base.ModelAdmin[base.Row]):
    """Pages whose log entries name rows by their number."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        """Log that `obj` was added."""
        return _log(request, obj, ADDITION, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        """Log that `obj` was changed."""
        return _log(request, obj, CHANGE, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model] | QuerySet[Any]) -> list[LogEntry]:
        """Log that these rows were deleted."""
        return [_log(request, row, DELETION, []) for row in queryset]

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """What changed: the fields, and of rows below the form only what they are."""
        message: Any = super().construct_change_message(request, form, formsets, add)
        for part in message:
            for change in part.values():
                if "object" in change:
                    change["object"] = ""
        return message


def _log(request: HttpRequest, row: Model, flag: int, message: Any) -> LogEntry:
    # As Django writes it, but for the name of the row.
    return LogEntry.objects.create(
        user_id=request.user.pk,  # type: ignore[misc]
        content_type_id=ContentType.objects.get_for_model(row, for_concrete_model=False).pk,
        object_id=str(row.pk),
        object_repr=f"{row._meta.verbose_name} {row.pk}",
        action_flag=flag,
        change_message=message,
    )
