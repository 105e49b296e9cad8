"""How a page is made: from a template and a context, in the newsletter's language, without session or cookie."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation

from newsletter import security
from newsletter.models import Newsletter, Theme

NOT_INDEXED = "noindex, nofollow"


class NotFound(Http404):
    """A 404 whose words are for the visitor: what is missing and what to do."""


def page(
    template: str, context: dict[str, Any], *, newsletter: Newsletter | None = None, status: int = 200
) -> HttpResponse:
    """The page `templates/pages/{template}.html`, in the look and language of `newsletter` where there is one.

    Rendered without the request, so that no context processor touches session, cookies or database.
    """
    theme = Theme.objects.filter(newsletter=newsletter).first() if newsletter else None
    logo = security.origin(theme.logo_url) if theme else ""
    with language_of(newsletter):
        values = {
            "newsletter": newsletter,
            "theme": theme if logo else None,
            "language": newsletter.language if newsletter else translation.get_language(),
            "bidi": translation.get_language_bidi(),
            **context,
        }
        response = HttpResponse(render_to_string(f"pages/{template}.html", values), status=status)
    response["Content-Security-Policy"] = security.page_policy(logo)
    return response


def language_of(newsletter: Newsletter | None) -> translation.override:
    """The language of `newsletter` for the time of a `with`, or the site's."""
    return translation.override(newsletter.language if newsletter else translation.get_language())


def private(response: HttpResponse) -> HttpResponse:
    """`response` marked as one reader's: kept by no cache and no search engine."""
    response["Cache-Control"] = "no-store"
    response["X-Robots-Tag"] = NOT_INDEXED
    return response
