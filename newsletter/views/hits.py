"""The open pixel and the redirect: they ask no database, so that nothing it does holds up an answer."""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import iri_to_uri, punycode
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from newsletter import events, intake, security, tracking
from newsletter.intake import Channel
from newsletter.views.pages import NotFound

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

GIF = b64decode("R0lGODlhAQABAIAAAAAAAAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")


def _note(request: HttpRequest, kind: events.Kind, **what: Any) -> None:
    """Keep a hit until a worker writes it down. Where neither Redis nor the disk takes it, that costs the hit, never
    the answer."""
    try:
        intake.put(Channel.HIT, [events.entry_of(kind, events.hit_of(request), **what)])
    except intake.NotKept as error:
        logger.error("%s", error)


def _pixel(status: int = 200) -> HttpResponse:
    response = HttpResponse(GIF, content_type="image/gif", status=status)
    response["Cache-Control"] = "no-store"
    return response


@csrf_exempt  # a form is answered 405, and not with words about cookies
@require_safe
def pixel(request: HttpRequest, token: str) -> HttpResponse:
    """The pixel of one delivery. A forged token gets the picture too, so that no mail shows a broken image."""
    try:
        delivery_id = tracking.read_delivery_token(token)
    except tracking.BadToken:
        return _pixel(status=404)
    _note(request, events.Kind.OPEN, delivery_id=delivery_id)
    return _pixel()


@csrf_exempt
@require_safe
def anonymous_pixel(request: HttpRequest, token: str) -> HttpResponse:
    """The pixel that all readers of a dispatch share."""
    try:
        dispatch_id = tracking.read_dispatch_token(token)
    except tracking.BadToken:
        return _pixel(status=404)
    _note(request, events.Kind.OPEN, dispatch_id=dispatch_id)
    return _pixel()


@csrf_exempt
@require_safe
def click(request: HttpRequest, static: str, token: str = "") -> HttpResponse:
    """Lead on to the URL in `static`; `token` says whose click it is, and one that is damaged costs only that."""
    try:
        dispatch_id, url = tracking.read_click(static)
    except tracking.BadToken as error:
        raise NotFound(
            _("The link is incomplete, so we cannot tell where it leads. Open it from the mail again.")
        ) from error
    delivery_id = None
    if token:
        try:
            delivery_id = tracking.read_delivery_token(token)
        except tracking.BadToken:
            logger.info("A click on dispatch %s came with a damaged delivery token", dispatch_id)
    forged = bool(token) and delivery_id is None
    _note(request, events.Kind.CLICK, delivery_id=delivery_id, dispatch_id=dispatch_id, url=url, forged=forged)
    response = HttpResponse(status=302)
    response["Location"] = _location(url)
    response["Cache-Control"] = "no-store"
    return response


def _location(url: str) -> str:
    """`url` in ASCII: the host in Punycode, the rest percent-encoded, query and fragment kept."""
    netloc = urlsplit(url).netloc
    user, at, host = netloc.rpartition("@")
    name, colon, port = host.partition(":")
    if not name.isascii():
        try:
            url = url.replace(netloc, f"{user}{at}{punycode(name)}{colon}{port}", 1)
        except UnicodeError:
            logger.info("A link leads to a host that no domain name can stand for: %s", name)
    return iri_to_uri(url)


class Shortcut:
    """WSGI: answers a pixel or a redirect before `django` has made it a request like others, with all that signals,
    sessions, forms and the table of paths take. What it cannot answer goes on to `django`, and so to its page."""

    def __init__(self, django: WSGIApplication) -> None:
        self._django = django
        self._headers: dict[bool, list[tuple[str, str]]] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the request of `environ` (PEP 3333)."""
        is_hit = environ["PATH_INFO"][:3] in {"/o/", "/c/"} and environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        answer = self._answer(environ) if is_hit else None
        if answer is None:
            return self._django(environ, start_response)
        status, headers, content = answer
        start_response(status, headers)
        return [content] if environ["REQUEST_METHOD"] != "HEAD" else []

    def _answer(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes] | None:
        request = WSGIRequest(environ.copy())  # it decodes the path in place, and Django would do so once more
        secure = request.is_secure()
        try:
            response = None if settings.SECURE_SSL_REDIRECT and not secure else _respond(request)
        except Exception:  # Django meets it too, and has a page for it or tells somebody
            return None
        if response is None:
            return None
        if secure not in self._headers:
            self._headers[secure] = list(security.headers_of(request).items())
        headers = [*response.items(), *self._headers[secure], ("Content-Length", str(len(response.content)))]
        return f"{response.status_code} {response.reason_phrase}", headers, response.content


def _respond(request: HttpRequest) -> HttpResponse | None:
    """The answer, where the path is one of those that `newsletter.urls` leads here."""
    match request.path_info.split("/"):
        case ["", "o", token] if token:
            return pixel(request, token)
        case ["", "o", "d", token] if token:
            return anonymous_pixel(request, token)
        case ["", "c", static] if static:
            return click(request, static)
        case ["", "c", static, token] if static and token:
            return click(request, static, token)
    return None
