"""Where an e-mail provider calls: answered once what it tells is kept, and before any of it is written down."""

from __future__ import annotations

import logging
from http import HTTPStatus

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.views.decorators.csrf import csrf_exempt

from newsletter import incoming, intake
from newsletter.views.pages import NotFound

logger = logging.getLogger(__name__)


@csrf_exempt
def provider_events(request: HttpRequest, provider: str) -> HttpResponse:
    """A provider's webhook. 200: it is kept. 400: it cannot be read. 401, 403: nothing proves whose it is. 411: it does
    not say how long it is. 413: it is too large. 500: our mistake, or no place to keep it; the provider calls again."""
    expected = incoming.expected()
    if provider not in incoming.PROVIDERS or provider != expected:
        raise NotFound("No events of this e-mail provider are taken here: PROVIDER or EVENTS_FROM names whose are.")
    if not incoming.is_checked(provider):
        problems = " ".join(problem for problem, _ in incoming.problems())
        logger.error("Events from %s are refused: %s", provider, problems)
        return _answer(HTTPStatus.FORBIDDEN, "Nothing is set that would prove whose events these are.")
    if request.method == "HEAD" or (request.method == "GET" and incoming.PROVIDERS[provider].asks_by_get):
        return _answer(HTTPStatus.OK)  # a provider's look at whether there is a page
    if request.method != "POST":
        return HttpResponseNotAllowed(["HEAD", "POST"])
    return _take(request, provider)


def _take(request: HttpRequest, provider: str) -> HttpResponse:
    try:
        incoming.take(provider, request)
    except incoming.Refused as error:
        logger.warning("A call to the page for events from %s is refused: %s", provider, error)
        if error.ask:
            answer = _answer(HTTPStatus.UNAUTHORIZED, "Give the user and password of WEBHOOK_SECRET.")
            answer["WWW-Authenticate"] = 'Basic realm="events"'
            return answer
        return _answer(HTTPStatus.FORBIDDEN, "Nothing proves that this call is the provider's.")
    except incoming.Unsized as error:
        logger.error("Events from %s are refused: %s", provider, error)
        return _answer(HTTPStatus.LENGTH_REQUIRED, "Say by Content-Length how many bytes come.")
    except incoming.TooLarge as error:
        logger.error("Events from %s are refused: %s", provider, error)
        return _answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{error} Send fewer events at a time.")
    except incoming.Unreadable as error:
        logger.error("Events from %s cannot be read: %s", provider, error)
        return _answer(HTTPStatus.BAD_REQUEST, "This cannot be read.")
    except (incoming.Untold, intake.NotKept, ImproperlyConfigured) as error:
        logger.error("Events from %s have to come again: %s", provider, error)
        return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Please call again.")
    return _answer(HTTPStatus.OK)


def _answer(status: HTTPStatus, sentence: str = "") -> HttpResponse:
    return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
