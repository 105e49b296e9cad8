"""Strong actions: a page to ask for a one-time link, and what stands behind the link.

The mailed link only shows a button; pressing it uses the link up and leads to pages under a token that nobody was
mailed, for half an hour. No session, no cookie.
"""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from newsletter.views.pages import page, private
from newsletter.views.posting import from_our_pages, slow_down, too_many
from newsletter.views.subscribing import AddressField
from subscribers import account, consent, exporting, one_time
from subscribers.models import ConsentRecord, OneTimeLink

Purpose = OneTimeLink.Purpose


class AddressForm(forms.Form):
    """One address."""

    address = AddressField(max_length=320)


@from_our_pages
@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for a one-time link. The answer is the same whether the address is known here or not."""
    if request.method != "POST":
        return private(page("account_sent" if "sent" in request.GET else "account", {}))
    if too_many(request, "account"):
        return slow_down()
    form = AddressForm(request.POST)
    if not form.is_valid():
        return private(page("account", {"form": form}, status=400))
    account.send_link(form.cleaned_data["address"])
    return private(HttpResponseRedirect(f"{reverse('account')}?sent"))


@from_our_pages
@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, token: str) -> HttpResponse:
    """What a one-time link leads to: a button that uses it up, or the pages behind it."""
    found = one_time.find(token)
    if found is None:
        return _over()
    if found.purpose == Purpose.VISIT:
        return _visit(found, token) if request.method != "POST" else _over()
    newsletter = account.newsletter_for(found.subscriber)
    if request.method != "POST":
        return private(page(f"link_{found.purpose}", {"token": token}, newsletter=newsletter))
    if found.purpose == Purpose.ADDRESS:
        taken = account.take_address(found)
        return private(page("address_taken" if taken else "address_refused", {}, newsletter=newsletter))
    if not one_time.use(found):
        return _over()
    visit = one_time.issue(found.subscriber, Purpose.VISIT)
    return private(HttpResponseRedirect(reverse("one-time-link", args=[visit])))


@from_our_pages
@require_POST
def download(request: HttpRequest, token: str) -> HttpResponse:
    """Everything kept for this person, as a JSON file."""
    found = _find_visit(token)
    if found is None:
        return _over()
    consent.record(found.subscriber, None, ConsentRecord.Action.EXPORTED, account.SOURCE)
    response = JsonResponse(exporting.data(found.subscriber), json_dumps_params={"indent": 2, "ensure_ascii": False})
    response["Content-Disposition"] = 'attachment; filename="my-data.json"'
    return private(response)


@from_our_pages
@require_POST
def change_address(request: HttpRequest, token: str) -> HttpResponse:
    """Ask the owner of the new address by mail; the answer is the same whatever is known of it."""
    found = _find_visit(token)
    if found is None:
        return _over()
    form = AddressForm(request.POST)
    if not form.is_valid():
        return _visit(found, token, form)
    account.ask_for_address(found.subscriber, form.cleaned_data["address"])
    return private(page("address_asked", {"token": token}, newsletter=account.newsletter_for(found.subscriber)))


@from_our_pages
@require_http_methods(["GET", "HEAD", "POST"])
def erase(request: HttpRequest, token: str) -> HttpResponse:
    """Ask once more; POST erases everything."""
    found = _find_visit(token)
    if found is None:
        return _over()
    newsletter = account.newsletter_for(found.subscriber)
    if request.method != "POST":
        return private(page("erase", {"token": token}, newsletter=newsletter))
    consent.erase(found.subscriber, source=account.SOURCE)
    return private(page("erased", {}, newsletter=newsletter))


def _find_visit(token: str) -> OneTimeLink | None:
    found = one_time.find(token)
    return found if found and found.purpose == Purpose.VISIT else None


def _visit(found: OneTimeLink, token: str, form: AddressForm | None = None) -> HttpResponse:
    subscriber = found.subscriber
    context = {
        "token": token,
        "subscriber": subscriber,
        "subscriptions": subscriber.subscriptions.select_related("newsletter").order_by("newsletter__name"),
        "memberships": subscriber.memberships.current().select_related("tier"),
        "form": form,
    }
    newsletter = account.newsletter_for(subscriber)
    return private(page("account_data", context, newsletter=newsletter, status=400 if form else 200))


def _over() -> HttpResponse:
    return private(page("link_over", {}, status=410))
