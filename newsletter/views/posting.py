"""Posts to forms of ours: only from pages of ours, and not too many from one network.

No page for readers sets a cookie. What a post may do is said by the token in its path or is open to everybody, so there
is nothing that another site could borrow from the browser but the visitor's own click; where the browser says that a
form was sent from elsewhere, it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from newsletter import events
from newsletter.models import Newsletter
from newsletter.views.pages import page, private
from subscribers.consent import Evidence
from subscribers.models import FormPost

Parameters = ParamSpec("Parameters")
View = Callable[Concatenate[HttpRequest, Parameters], HttpResponse]

POSTS_AN_HOUR = 60  # of one form, from one /24 or /48: a whole office may subscribe, a flood does not get through


def from_our_pages(view: View[Parameters]) -> View[Parameters]:
    """`view` for forms without a cookie: a POST that the browser says was sent from another site gets a 403.

    Browsers say so in Sec-Fetch-Site, or where that is missing in Origin. A program that sends neither carries no
    visitor's rights that could be abused.
    """

    @csrf_exempt
    @wraps(view)
    def guarded(request: HttpRequest, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> HttpResponse:
        if request.method == "POST" and _sent_from_elsewhere(request):
            return private(
                page(
                    "403", {"sentence": _("The form was sent from another site. Open it here, then send.")}, status=403
                )
            )
        return view(request, *args, **kwargs)

    return guarded


def _sent_from_elsewhere(request: HttpRequest) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.get_host()


def too_many(request: HttpRequest, form: str) -> bool:
    """Count one use of the open form called `form`; whether its network has used it too often within the hour."""
    network = events.hit_of(request).network
    lately = FormPost.objects.filter(form=form, network=network, at__gt=Now() - timedelta(hours=1))
    if lately.count() >= POSTS_AN_HOUR:
        return True
    FormPost.objects.create(form=form, network=network)
    return False


def slow_down(newsletter: Newsletter | None = None) -> HttpResponse:
    """The answer to a network that uses a form too often."""
    response = private(page("429", {}, newsletter=newsletter, status=429))
    response["Retry-After"] = "3600"
    return response


def evidence_of(request: HttpRequest, *, text_version: str = "") -> Evidence:
    """Where an answer came from, cut down to what may be kept; `text_version` is the hash of the words shown."""
    hit = events.hit_of(request)
    return Evidence(text_version=text_version, network=hit.network, agent=hit.agent)
