"""Pages for what went wrong: each says what to do next, and none needs the database."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from newsletter.views.pages import NOT_INDEXED, NotFound, page


def _error(status: int, sentence: str = "") -> HttpResponse:
    response = page(str(status), {"sentence": sentence}, status=status)
    response["X-Robots-Tag"] = NOT_INDEXED
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: a request that could not be read."""
    return _error(400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403: a page that is not for this visitor."""
    return _error(403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404, in the words of the view where it had some for the visitor."""
    return _error(404, str(exception) if isinstance(exception, NotFound) else "")


def broken(request: HttpRequest) -> HttpResponse:
    """500: our own mistake."""
    return _error(500)
