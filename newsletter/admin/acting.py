"""How staff act on a row: a button by its state, a page that asks, a post that moves it and says what happened.

A look (GET) changes nothing. Who may not do something does not see its button, and is refused if they post it all the
same. What can no longer be done is said in a sentence: of two people who press at once, one is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from newsletter import scheduling
from newsletter.admin import base

Row = TypeVar("Row", bound=Model)
View = Callable[[HttpRequest, Row], HttpResponseBase]

# Schedule, send, pause, resume, cancel, settle; its words stand in the model.
SEND = "newsletter.schedule_dispatch"


@dataclass(frozen=True)
class Button:
    """One thing to do. `asks` buttons lead to a page; the others post at once. `variant` is the theme's name for it.

    `field` names a line of text that is posted along, with what stands in it while it is empty.
    """

    label: str
    address: str
    asks: bool = False
    variant: str = "default"
    icon: str = ""
    field: tuple[str, str] | None = None


@dataclass(frozen=True)
class Question:
    """A page that asks before something is done: what happens, sentence by sentence, and the button that does it."""

    title: str
    sentences: tuple[str, ...]
    button: str
    variant: str = "primary"


def pages(
    model_admin: base.ModelAdmin[Any], rows: Callable[[], Any], views: dict[str, tuple[View[Any], str, tuple[str, ...]]]
) -> list[URLPattern]:
    """Paths `ID/name/` of a model's pages: for each name a view of one row, the permission it needs, its methods.

    `rows` is the queryset the row is taken from. Each is named `admin:APP_MODEL_name`.
    """
    options = model_admin.model._meta
    return [
        path(
            f"<int:pk>/{name}/",
            model_admin.admin_site.admin_view(_checked(view, rows, permission, methods)),
            name=f"{options.app_label}_{options.model_name}_{name}",
        )
        for name, (view, permission, methods) in views.items()
    ]


def _checked(
    view: View[Any], rows: Callable[[], Any], permission: str, methods: tuple[str, ...]
) -> Callable[..., HttpResponseBase]:
    def checked(request: HttpRequest, pk: int) -> HttpResponseBase:
        if not request.user.has_perm(permission):
            raise PermissionDenied
        if request.method not in methods:
            return HttpResponseNotAllowed(methods)
        row = rows().filter(pk=pk).first()
        if row is None:
            raise Http404("It is not there any more.")
        return view(request, row)

    return checked


def act(request: HttpRequest, do: Callable[[], str], back: str) -> HttpResponseRedirect:
    """Do it and go `back`, with the sentence it gives, or the one that says why it cannot be done now."""
    try:
        said = do()
    except scheduling.NotNow as error:
        messages.error(request, str(error))
    else:
        if said:
            messages.success(request, said)
    return HttpResponseRedirect(back)


def ask(
    request: HttpRequest, model_admin: base.ModelAdmin[Any], row: Model, question: Question, back: str
) -> HttpResponse:
    """The page that asks `question` about `row`; its button posts to the same address, its other one goes `back`."""
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.model._meta,
        "original": row,
        "title": question.title,
        "question": question,
        "back": back,
    }
    return TemplateResponse(request, "admin/newsletter/question.html", context)
