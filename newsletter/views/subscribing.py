"""Subscribing by a form, and confirming by the link in the mail that follows.

Looking (GET, HEAD) confirms nothing: programs follow every link of a mail. What the form answers is the same for every
address.
"""

from __future__ import annotations

import hashlib
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from newsletter import tracking
from newsletter.models import Newsletter
from newsletter.views.pages import NotFound, language_of, page, private
from newsletter.views.posting import evidence_of, from_our_pages, slow_down, too_many
from subscribers import addresses, consent, subscribing
from subscribers.models import ConsentRecord, Subscriber, Subscription


class AddressField(forms.CharField):
    """An address as a person types it, in any script; cleaned to an `addresses.Address`."""

    default_error_messages = {
        "required": gettext_lazy("Write your e-mail address."),
        "invalid": gettext_lazy("That is no e-mail address. Write it like name@example.org."),
    }

    def clean(self, value: Any) -> Any:
        """Raises ValidationError for anything mail cannot be sent to."""
        text = super().clean(value)
        try:
            return addresses.parse(text)
        except addresses.AddressError as error:
            raise forms.ValidationError(self.error_messages["invalid"]) from error


class SubscribeForm(forms.Form):
    """What somebody types who wants a newsletter. People never see `website`: who fills it in is a program."""

    address = AddressField(max_length=320)
    name = forms.CharField(max_length=subscribing.NAME_LENGTH, required=False)
    website = forms.CharField(required=False)


def words(newsletter: Newsletter) -> list[str]:
    """What the form says that subscribing means, in the active language: what a subscriber agrees to."""
    said = [
        _("We send a mail to this address; %(name)s comes once you confirm there.") % {"name": newsletter.name},
        _("You can leave at any time, with one click in any issue."),
    ]
    match newsletter.tracking:
        case Newsletter.Tracking.INDIVIDUAL:
            said.append(_("We count openings and clicks. Before we note which are yours, we ask you when you confirm."))
        case Newsletter.Tracking.ANONYMOUS:
            said.append(_("We count openings and clicks without knowing whose they are."))
    return said


def words_version(newsletter: Newsletter) -> str:
    """A hash by which the words somebody agreed to are recognised later."""
    with language_of(newsletter):
        return hashlib.sha256("\n".join(words(newsletter)).encode()).hexdigest()


def question() -> list[str]:
    """What the tick on the confirmation page agrees to, in the active language: apart from subscribing, and as the
    answer the tick's label."""
    return [
        _("Note which issues I open and which links I follow"),
        _(
            "It shows the author what is read. Without the tick you get the same mail, and what you open is counted "
            "without saying that it was you. It holds for every newsletter of this site; you can change it at any "
            "time by the preferences in each mail."
        ),
    ]


def question_version(newsletter: Newsletter) -> str:
    """A hash by which the words of the question are recognised later."""
    with language_of(newsletter):
        return hashlib.sha256("\n".join(question()).encode()).hexdigest()


def form_context(newsletter: Newsletter, form: SubscribeForm | None = None) -> dict[str, Any]:
    """What the template of the form needs; `form` is one that was sent and cannot be used."""
    with language_of(newsletter):
        return {"subscribe_form": form, "words": words(newsletter), "subscribe_to": newsletter}


@from_our_pages
@require_http_methods(["GET", "HEAD", "POST"])
def subscribe(request: HttpRequest, slug: str) -> HttpResponse:
    """The form on a page of its own; POST asks the address's owner by mail and always answers the same."""
    newsletter = get_object_or_404(Newsletter, slug=slug)
    if request.method != "POST":
        if "sent" in request.GET:
            return private(page("subscribe_sent", {}, newsletter=newsletter))
        return page("subscribe", form_context(newsletter), newsletter=newsletter)
    if too_many(request, "subscribe"):
        return slow_down(newsletter)
    form = SubscribeForm(request.POST)
    if not form.is_valid():
        return private(page("subscribe", form_context(newsletter, form), newsletter=newsletter, status=400))
    if not form.cleaned_data["website"]:
        subscribing.ask(
            newsletter,
            form.cleaned_data["address"],
            name=form.cleaned_data["name"],
            evidence=evidence_of(request, text_version=words_version(newsletter)),
        )
    return private(HttpResponseRedirect(f"{reverse('subscribe', args=[slug])}?sent"))


@from_our_pages
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a button, POST confirms; doing it twice is as good as once."""
    try:
        requested = subscribing.find(token)
        newsletter = requested.newsletter if requested else subscribing.newsletter_of(token)
    except tracking.BadToken as error:
        raise NotFound(
            _("The link is incomplete. Open it from the mail again, or copy it with its last character.")
        ) from error
    if requested is None or newsletter is None:
        return _over(newsletter)
    others = subscribing.others_asked_for(requested)
    if request.method == "POST":
        chosen = request.POST.getlist("also")
        for each in [requested, *(other for other in others if str(other.pk) in chosen)]:
            _confirm(request, each)
        if _asks(requested, others):
            _answer(request, requested)
        return private(HttpResponseRedirect(reverse("confirm", args=[token])))
    if subscribing.would_change(requested):
        with language_of(newsletter):
            asked = question() if _asks(requested, others) else None
        return private(page("confirm", {"token": token, "others": others, "question": asked}, newsletter=newsletter))
    subscription = Subscription.objects.filter(subscriber=requested.subscriber, newsletter=newsletter).first()
    if subscription is None or subscription.status == Subscription.Status.UNSUBSCRIBED or requested.subscriber is None:
        return _over(newsletter)
    readers_token = tracking.reader_token(requested.subscriber.public_id, newsletter.public_id)
    return private(page("confirmed", {"preferences": readers_token}, newsletter=newsletter))


def _confirm(request: HttpRequest, requested: ConsentRecord) -> None:
    evidence = evidence_of(request, text_version=requested.text_version)
    consent.confirm(requested, source=subscribing.CONFIRMATION, evidence=evidence)


def _asks(requested: ConsentRecord, others: list[ConsentRecord]) -> bool:
    """Whether confirming this asks for consent to tracking: only the owner of the address can give it, so it is asked
    here and not where anybody may type any address."""
    offered = [each.newsletter for each in (requested, *others) if each.newsletter]
    if requested.subscriber is None or all(each.tracking != Newsletter.Tracking.INDIVIDUAL for each in offered):
        return False
    return consent.may_ask_about_tracking(requested.subscriber)


def _answer(request: HttpRequest, requested: ConsentRecord) -> None:
    """Note the answer to `question`; who wanted no counting at all and does not agree now keeps that."""
    newsletter, subscriber = requested.newsletter, requested.subscriber
    assert newsletter is not None  # noqa: S101 - asked before
    assert subscriber is not None  # noqa: S101
    agreed = "tracking" in request.POST
    if agreed or subscriber.tracking != Subscriber.Tracking.OFF:
        consent.choose_tracking(
            subscriber,
            tracking=Subscriber.Tracking.AGREED if agreed else Subscriber.Tracking.ANONYMOUS,
            source=subscribing.CONFIRMATION,
            evidence=evidence_of(request, text_version=question_version(newsletter)),
        )


def _over(newsletter: Newsletter | None) -> HttpResponse:
    context = form_context(newsletter) if newsletter else {}
    return private(page("confirm_over", context, newsletter=newsletter, status=410))
