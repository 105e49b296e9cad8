"""Pixels and redirects are answered before Django's handler, as it would answer them, and without the database."""

from __future__ import annotations

import io
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.signals import request_started
from django.core.wsgi import get_wsgi_application
from pytest_django import Settings

from newsletter import intake, tracking
from newsletter.intake import Channel
from newsletter.views.hits import GIF, Shortcut
from newsletter.wsgi import application

URL = "https://example.com/a?b=c#d"
SITE = "http://127.0.0.1:8000"
DELIVERY = tracking.delivery_token(7)
CLICK = tracking.click_url(3, URL).removeprefix(SITE)

PATHS = {
    "pixel": f"/o/{DELIVERY}",
    "forged pixel": "/o/AAAA",
    "anonymous pixel": tracking.pixel_url(3, individual=False).removeprefix(SITE),
    "forged anonymous pixel": "/o/d/AAAA",
    "click": CLICK,
    "a reader's click": f"{CLICK}/{DELIVERY}",
    "click with a damaged token": f"{CLICK}/AAAA",
    "forged click": "/c/AAAA",
    "no pixel": "/o/",
    "what is no token": "/o/ä",
    "a click on what is no token": "/c/🏆",
    "a click with what is no token": "/c/🏆/ä",
    "a slash too many": f"/o/{DELIVERY}/",
}

Answer = tuple[str, list[tuple[str, str]], bytes]


def answer_of(application: WSGIApplication, path: str, *, method: str = "GET", scheme: str = "http") -> Answer:
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.encode().decode("latin-1"),
        "wsgi.url_scheme": scheme,
        "HTTP_HOST": "127.0.0.1:8000",
        "wsgi.input": io.BytesIO(),
    }
    setup_testing_defaults(environ)
    said: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> None:
        said.append((status, sorted(headers)))

    body = application(environ, start_response)  # type: ignore[arg-type]
    content = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    # Servers drop what stands in an answer to HEAD.
    return *said[0], b"" if method == "HEAD" else content


def hits() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    intake.drain(Channel.HIT, found.extend)
    return [{name: value for name, value in hit.items() if name not in {"key", "at"}} for hit in found]


def refuse(environ: object, start_response: object) -> list[bytes]:
    raise AssertionError("Django was asked.")


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_answers_and_notes_what_django_does(path: str, method: str) -> None:
    django = get_wsgi_application()
    wanted, noted = answer_of(django, path, method=method), hits()
    assert answer_of(Shortcut(django), path, method=method) == wanted
    assert hits() == noted


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["pixel", "anonymous pixel", "click", "a reader's click"])
def test_a_form_is_told_that_only_looking_is_allowed(name: str) -> None:
    status, headers, _ = answer_of(Shortcut(get_wsgi_application()), PATHS[name], method="POST")
    assert (status, dict(headers)["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")


@pytest.mark.django_db
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_site_with_encryption_asks_for_it(settings: Settings, scheme: str) -> None:
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 3600
    django = get_wsgi_application()
    wanted = answer_of(django, PATHS["click"], scheme=scheme)
    status, headers, _ = answer_of(Shortcut(django), PATHS["click"], scheme=scheme)
    assert (status, headers) == wanted[:2]
    assert ("Strict-Transport-Security" in dict(headers)) == (scheme == "https")


@pytest.mark.parametrize("name", ["pixel", "anonymous pixel", "click", "a reader's click"])
def test_django_is_not_asked(name: str) -> None:
    status, headers, content = answer_of(Shortcut(refuse), PATHS[name])
    if "click" in name:
        assert (status, dict(headers)["Location"]) == ("302 Found", URL)
    else:
        assert (status, content) == ("200 OK", GIF)


def test_so_does_what_the_web_server_runs() -> None:
    asked: list[object] = []

    def note(**told: object) -> None:
        asked.append(told)

    request_started.connect(note)
    try:
        status, _, content = answer_of(application, PATHS["pixel"])
    finally:
        request_started.disconnect(note)
    assert (status, content, asked) == ("200 OK", GIF, [])


@pytest.mark.parametrize("path", ["/", "/i/AAAA", "/other/x", "/c", "/healthz"])
def test_all_else_is_django_s(path: str) -> None:
    with pytest.raises(AssertionError, match="Django was asked"):
        answer_of(Shortcut(refuse), path)
