"""Headers that keep a browser from doing what no page of this site asks for."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' https:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# An issue as a page: mail HTML carries its styles with it, and its images may stand on any host.
ISSUE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' https:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    # Reader links carry a token in their path: no other site is to see it.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), payment=(), "
        "usb=()"
    ),
    "Content-Security-Policy": PAGE_POLICY,
}
# Django's admin brings scripts and styles of its own, and its forms need a referrer.
EXEMPT = "/admin/"


class SecurityHeaders:
    """Middleware: sets each of HEADERS where the view has not set its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer `request`."""
        response = self.get_response(request)
        if not request.path.startswith(EXEMPT):
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        return response
