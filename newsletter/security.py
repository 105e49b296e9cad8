"""Headers that keep a browser from doing what no page of this site asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.module_loading import import_string

_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def page_policy(image_origin: str = "") -> str:
    """The Content-Security-Policy of a page of ours; `image_origin` is where its newsletter's logo stands, if
    elsewhere."""
    images = f"'self' {image_origin}".rstrip()
    return (
        f"default-src 'none'; style-src 'self'; img-src {images}; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


# An issue as a page: mail HTML carries its styles with it, and its images may stand on any host.
ISSUE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' https:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# The admin: its theme evaluates the expressions in its templates and sets styles; nothing comes from another host.
ADMIN_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# An issue in a frame of the admin. Django's `xframe_options_sameorigin` goes with it.
PREVIEW_POLICY = ISSUE_POLICY.replace("frame-ancestors 'none'", "frame-ancestors 'self'")
ADMIN = "/admin/"
HEADERS = {
    # Reader links carry a token in their path: no other site is to see it. Not `no-referrer`, with which browsers call
    # the origin of our own forms null (Fetch, "append a request Origin header").
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), payment=(), "
        "usb=()"
    ),
    "Content-Security-Policy": page_policy(),
}
ADMIN_HEADERS = {**HEADERS, "Content-Security-Policy": ADMIN_POLICY}


class SecurityHeaders:
    """Middleware: sets each of HEADERS (in the admin ADMIN_HEADERS) where the view has not set its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer `request`."""
        response = self.get_response(request)
        for name, value in (ADMIN_HEADERS if request.path.startswith(ADMIN) else HEADERS).items():
            response.headers.setdefault(name, value)
        return response


def headers_of(request: HttpRequest) -> dict[str, str]:
    """What HEADER_MIDDLEWARE sets on an answer to `request` that has no header of its own."""
    answer = _say_nothing
    for name in reversed(settings.HEADER_MIDDLEWARE):
        answer = import_string(name)(answer)
    response = answer(request)
    del response.headers["Content-Type"]
    return dict(response.items())


def _say_nothing(_: HttpRequest) -> HttpResponseBase:
    return HttpResponse()


def origin(url: str) -> str:
    """`https://host:port` of an http(s) address, fit to stand in a Content-Security-Policy; empty for any other."""
    try:
        parts = urlsplit(url)
        host, port = parts.netloc.rpartition("@")[2].lower(), parts.port
    except ValueError:
        return ""
    host = host.removesuffix(f":{port}") if port is not None else host
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return ""
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
