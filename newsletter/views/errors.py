"""Pages for what went wrong: each says what to do next, and none needs the database."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from newsletter.security import ADMIN
from newsletter.views.pages import NOT_INDEXED, NotFound, page


def _error(status: int, sentence: str = "", *, template: str = "") -> HttpResponse:
    response = page(template or str(status), {"sentence": sentence}, status=status)
    response["X-Robots-Tag"] = NOT_INDEXED
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: a request that could not be read."""
    return _error(400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403: a page that is not for this visitor; staff read whom to ask."""
    return _error(403, template="staff_403" if _is_at_work(request) else "")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404, in the words of the view where it had some for the visitor; staff read where to look instead."""
    if _is_at_work(request):
        return _error(404, template="staff_404")
    return _error(404, str(exception) if isinstance(exception, NotFound) else "")


def broken(request: HttpRequest) -> HttpResponse:
    """500: our own mistake."""
    return _error(500)


def _is_at_work(request: HttpRequest) -> bool:
    """Whether somebody signed in is in the admin, which has asked the database for them before anything goes wrong."""
    return request.path.startswith(ADMIN) and request.user.is_authenticated
