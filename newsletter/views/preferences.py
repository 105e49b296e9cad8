"""The weak preferences page: it may choose, pause and leave, and shows no address and no name.

What needs more than that is sent to the address itself, by a one-time link.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, cast

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from newsletter import allowed, events, tracking
from newsletter.content import TrackingMode
from newsletter.models import Newsletter, StandingSection
from newsletter.views import leaving, readers
from newsletter.views.pages import language_of, page, private
from newsletter.views.posting import evidence_of, from_our_pages
from subscribers import account, consent
from subscribers.models import Subscriber, Subscription

SOURCE = "preferences page"

NOTICES = {
    "saved": _("Your choices are saved."),
    "paused": _("Your break has begun: no mail comes."),
    "resumed": _("Mail comes again with the next issue."),
    "left": _("You have left. No more issues will come."),
    "left_all": _("You have left every newsletter of this site."),
    "link": _("A link is on its way to your address. It works once, within an hour."),
}
# How far a reader may be tracked: what the form calls it, and what it means.
TRACKING = {
    TrackingMode.INDIVIDUAL: (
        _("Note which issues I open and which links I follow"),
        _("It shows the author what is read."),
    ),
    TrackingMode.ANONYMOUS: (
        _("Count without saying that it was me"),
        _("How often an issue was opened and a link followed."),
    ),
    TrackingMode.OFF: (_("Do not count me"), _("No opening and no click of yours is noted.")),
}
# How long a break may be, by what the form says; None is until the reader resumes.
BREAKS = {
    "14": (_("For two weeks"), timedelta(days=14)),
    "30": (_("For a month"), timedelta(days=30)),
    "90": (_("For three months"), timedelta(days=90)),
    "": (_("Until I resume"), None),
}


class Choices(forms.Form):
    """What a reader of one newsletter may choose: of the `offered` sections they want the `sections`, by id."""

    offered = forms.TypedMultipleChoiceField(coerce=int, required=False)
    sections = forms.TypedMultipleChoiceField(coerce=int, required=False)
    text_only = forms.BooleanField(required=False)
    tracking = forms.TypedChoiceField(
        choices=[(mode, "") for mode in TrackingMode], coerce=TrackingMode, required=False
    )

    def __init__(self, data: Any, *, sections: list[StandingSection]) -> None:
        super().__init__(data)
        for name in ("offered", "sections"):
            field = cast("forms.TypedMultipleChoiceField", self.fields[name])
            field.choices = [(section.pk, section.name) for section in sections]


@from_our_pages
@require_http_methods(["GET", "HEAD", "POST"])
def preferences(request: HttpRequest, token: str) -> HttpResponse:
    """The page, and what its buttons do: `do` is one of save, pause, resume, leave, leave_all and link."""
    reader = readers.find(token)
    subscription = reader.subscription()
    if reader.subscriber is None:
        return private(page("nothing_kept", {}, newsletter=reader.newsletter))
    sections = list(StandingSection.objects.filter(newsletter=reader.newsletter))
    if request.method == "POST":
        done = _do(request, reader, subscription, sections)
        if done:
            return private(HttpResponseRedirect(f"{reverse('preferences', args=[token])}?done={done}"))
    muted = subscription.muted_sections if subscription else frozenset()
    context = {
        "token": token,
        "subscription": subscription,
        "sections": [(section, section.pk not in muted) for section in sections],
        "text_only": reader.subscriber.text_only,
        "tracking": _tracking_choices(reader),
        "private": events.asks_for_privacy(request),
        "breaks": [(days, title) for days, (title, _length) in BREAKS.items()],
        "others": _others(reader),
        "notice": NOTICES.get(request.GET.get("done", "")),
        "refused": request.method == "POST",
    }
    status = 400 if request.method == "POST" else 200
    return private(page("preferences", context, newsletter=reader.newsletter, status=status))


def _tracking_choices(reader: readers.Reader) -> list[tuple[object, ...]]:
    """How far this reader may be tracked, the least last: each mode that the newsletter knows, whether it is the one
    that holds now, and what it means."""
    assert reader.subscriber is not None  # noqa: S101 - asked before
    now = _tracking_now(reader, reader.subscriber)
    own = TrackingMode(reader.newsletter.tracking) if reader.newsletter else TrackingMode.INDIVIDUAL
    offered = [mode for mode in TRACKING if mode != TrackingMode.INDIVIDUAL or own == TrackingMode.INDIVIDUAL]
    return [(mode, mode == now, *TRACKING[mode]) for mode in offered]


def _tracking_now(reader: readers.Reader, subscriber: Subscriber) -> TrackingMode:
    """The mode that the page shows as chosen. A newsletter that tracks nobody does not speak for the site's others."""
    if subscriber.tracking == Subscriber.Tracking.OFF:
        return TrackingMode.OFF
    mode = allowed.tracking_of(subscriber, reader.newsletter) if reader.newsletter else TrackingMode.ANONYMOUS
    return TrackingMode.ANONYMOUS if mode == TrackingMode.OFF else mode


def _others(reader: readers.Reader) -> list[tuple[Subscription, str]]:
    """The other newsletters that this reader gets or has paused, each with the token of its preferences."""
    assert reader.subscriber is not None  # noqa: S101 - asked before
    found = Subscription.objects.filter(
        subscriber=reader.subscriber, status__in=(Subscription.Status.ACTIVE, Subscription.Status.PAUSED)
    ).exclude(newsletter=reader.newsletter)
    return [
        (each, tracking.reader_token(reader.subscriber.public_id, each.newsletter.public_id))
        for each in found.select_related("newsletter").order_by("newsletter__name")
    ]


def _do(
    request: HttpRequest, reader: readers.Reader, subscription: Subscription | None, sections: list[StandingSection]
) -> str:
    """Do what the button said; the key of the notice, or "" where no button of the page says that."""
    action = request.POST.get("do")
    if action == "leave_all":
        _leave_all(request, reader)
        return "left_all"
    if action == "save":
        return _save(request, reader, subscription, sections)
    if action == "link" and reader.subscriber:
        account.send_link_to(reader.subscriber, reader.newsletter)
        return "link"
    if subscription is None:
        return ""
    if action == "pause":
        days = request.POST.get("days", "")
        if days not in BREAKS:
            return ""
        _, length = BREAKS[days]
        consent.pause(subscription, source=SOURCE, until=timezone.now() + length if length else None)
        return "paused"
    if action == "resume":
        consent.resume(subscription, source=SOURCE)
        return "resumed"
    if action == "leave":
        consent.unsubscribe(subscription, source=SOURCE)
        leaving.note(request, reader.subscriber, reader.newsletter, delivery_id=reader.said.delivery_id)
        return "left"
    return ""


def _save(
    request: HttpRequest, reader: readers.Reader, subscription: Subscription | None, sections: list[StandingSection]
) -> str:
    form = Choices(request.POST, sections=sections)
    if not form.is_valid() or reader.subscriber is None:
        return ""
    chosen = form.cleaned_data
    mode = chosen["tracking"]
    with transaction.atomic():
        if subscription:
            # A section that is newer than the page stays as it is.
            muted = (subscription.muted_sections | set(chosen["offered"])) - set(chosen["sections"])
            consent.choose_sections(subscription, muted=muted & {section.pk for section in sections})
        # What stood there before is nobody's word: a choice is one that differs.
        if mode and mode != _tracking_now(reader, reader.subscriber):
            evidence = evidence_of(request, text_version=_tracking_version(reader.newsletter))
            consent.choose_tracking(reader.subscriber, tracking=allowed.CHOICES[mode], source=SOURCE, evidence=evidence)
        reader.subscriber.text_only = chosen["text_only"]
        reader.subscriber.save(update_fields=["text_only"])
    return "saved"


def _tracking_version(newsletter: Newsletter | None) -> str:
    """A hash by which the words of the choice are recognised later."""
    with language_of(newsletter):
        words = [str(part) for pair in TRACKING.values() for part in pair]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _leave_all(request: HttpRequest, reader: readers.Reader) -> None:
    subscriptions = Subscription.objects.filter(subscriber=reader.subscriber).select_related("subscriber", "newsletter")
    for subscription in subscriptions:
        if consent.unsubscribe(subscription, source=SOURCE):
            here = subscription.newsletter == reader.newsletter
            leaving.note(
                request,
                reader.subscriber,
                subscription.newsletter,
                delivery_id=reader.said.delivery_id if here else None,
            )
