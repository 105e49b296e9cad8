"""How a page is made: from a template and a context, in the newsletter's language, without session or cookie."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation

from newsletter.models import Newsletter

NOT_INDEXED = "noindex, nofollow"


class NotFound(Http404):
    """A 404 whose words are for the visitor: what is missing and what to do."""


def page(
    template: str, context: dict[str, Any], *, newsletter: Newsletter | None = None, status: int = 200
) -> HttpResponse:
    """The page `templates/pages/{template}.html`, in the look and language of `newsletter` where there is one.

    Rendered without the request, so that no context processor touches session, cookies or database.
    """
    language = newsletter.language if newsletter else translation.get_language()
    with translation.override(language):
        values = {"newsletter": newsletter, "language": language, "bidi": translation.get_language_bidi(), **context}
        return HttpResponse(render_to_string(f"pages/{template}.html", values), status=status)


def private(response: HttpResponse) -> HttpResponse:
    """`response` marked as one reader's: kept by no cache and no search engine."""
    response["Cache-Control"] = "no-store"
    response["X-Robots-Tag"] = NOT_INDEXED
    return response
