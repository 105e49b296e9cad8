"""From the issue to its dispatch: choose the moment, see what it means, schedule; or send now and have time to undo.

The time is read off the clock of the newsletter's time zone. What that clock skips or shows twice is said before
anything is scheduled.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from newsletter import outlook, proofs, rendering, scheduling
from newsletter.admin import acting, base
from newsletter.admin.issues import editing, previewing
from newsletter.models import Dispatch, Issue
from newsletter.transports import Result

FARTHEST_AHEAD = dt.timedelta(days=2 * 366)


@dataclass(frozen=True)
class Moment:
    """What a time on the newsletter's clock means. `notes` say what is odd about it, `twice` that it comes twice."""

    wall_time: dt.datetime
    local: dt.datetime
    utc: dt.datetime
    notes: tuple[str, ...]
    twice: bool

    @property
    def words(self) -> str:
        """`Tue 24 Nov 2026, 08:00 WET`"""
        return f"{self.local:%a} {self.local.day} {self.local:%b %Y, %H:%M %Z}"

    @property
    def utc_words(self) -> str:
        """`24 Nov 2026, 08:00 UTC`"""
        return f"{self.utc.day} {self.utc:%b %Y, %H:%M} UTC"

    @property
    def ahead(self) -> str:
        """`in 2 days and 3 hours`, or that it has passed."""
        minutes = round((self.utc - dt.datetime.now(dt.UTC)).total_seconds() / 60)
        if minutes < 0:
            return "already passed"
        days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
        parts = [_some(days, "day"), _some(hours, "hour"), _some(minutes, "minute") if not days else ""]
        return "in " + (" and ".join(part for part in parts if part) or "less than a minute")


def moment(wall_time: dt.datetime, time_zone: str) -> Moment:
    """What the naive `wall_time` means on a clock in `time_zone`, by the rules known now."""
    zone = zoneinfo.ZoneInfo(time_zone)
    utc = scheduling.resolve(wall_time, time_zone)
    local = utc.astimezone(zone)
    notes = []
    twice = wall_time.replace(tzinfo=zone, fold=0).utcoffset() != wall_time.replace(tzinfo=zone, fold=1).utcoffset()
    skipped = local.replace(tzinfo=None, fold=0) != wall_time.replace(fold=0)
    if skipped:
        notes.append(f"The clocks skip {wall_time:%H:%M} on that day: it would start at {local:%H:%M}.")
        twice = False
    if twice:
        notes.append(f"The clocks show {wall_time:%H:%M} twice on that day: choose which one you mean.")
    return Moment(wall_time, local, utc, tuple(notes), twice)


class TimeForm(forms.Form):
    """A day and a time to come on the clock of `zone`; `second` means the later one of a time that comes twice."""

    day = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))
    time = forms.TimeField(widget=forms.TimeInput(attrs={"type": "time"}))
    second = forms.BooleanField(required=False)

    def __init__(self, *args: Any, zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone = zone

    def clean(self) -> dict[str, Any]:
        """Refuses a time that has passed, and one so far ahead that the year must be a slip."""
        cleaned = super().clean() or self.cleaned_data
        if "day" not in cleaned or "time" not in cleaned:
            return cleaned
        now = dt.datetime.now(dt.UTC)
        here = scheduling.wall_time_in(now, self.zone)
        if cleaned["day"] < here.date():
            self.add_error("day", "This day has passed. Choose today or a day to come.")
        elif cleaned["day"] > here.date() + FARTHEST_AHEAD:
            self.add_error("day", "This day is more than two years ahead. Look at the year and correct it.")
        elif self._latest() < now.replace(second=0, microsecond=0):
            self.add_error("time", f"This time has passed: it is {here:%H:%M} now. Choose a later time or another day.")
        return cleaned

    def _latest(self) -> dt.datetime:
        # Of a time that comes twice the later one may be meant, which is asked only after this.
        naive = dt.datetime.combine(self.cleaned_data["day"], self.cleaned_data["time"])
        return max(scheduling.resolve(naive.replace(fold=fold), self.zone) for fold in (0, 1))

    def wall_time(self) -> dt.datetime:
        """The naive time that the valid form says."""
        naive = dt.datetime.combine(self.cleaned_data["day"], self.cleaned_data["time"])
        return naive.replace(fold=int(self.cleaned_data["second"]))


class ProofForm(forms.Form):
    """Where a test mail goes, and which form of the issue it is."""

    address = forms.EmailField(max_length=320, error_messages={"required": "Write the address it should go to."})
    tier = forms.TypedChoiceField(coerce=int)
    text_only = forms.BooleanField(required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tier"].choices = previewing.tier_choices()  # type: ignore[attr-defined]


def page(request: HttpRequest, model_admin: base.ModelAdmin[Issue], issue: Issue) -> HttpResponseBase:
    """The page on which an issue is scheduled or sent.

    A GET with a time shows what it means and asks; the POST (`do`: schedule, now or test) does it.
    """
    if request.method == "POST":
        do = request.POST.get("do")
        if do == "test":
            return _send_proof(request, model_admin, issue)
        return _send_now(request, issue) if do == "now" else _schedule(request, model_admin, issue)
    asked = TimeForm(request.GET, zone=issue.newsletter.time_zone) if "day" in request.GET else None
    return _show(request, model_admin, issue, time_form=asked)


def _show(
    request: HttpRequest,
    model_admin: base.ModelAdmin[Issue],
    issue: Issue,
    *,
    time_form: TimeForm | None = None,
    proof_form: ProofForm | None = None,
) -> HttpResponse:
    zone = issue.newsletter.time_zone
    here = scheduling.wall_time_in(dt.datetime.now(dt.UTC), zone)
    asked = moment(time_form.wall_time(), zone) if time_form and time_form.is_valid() else None
    if time_form is None:
        tomorrow = (here + dt.timedelta(days=1)).date()
        time_form = TimeForm(initial={"day": tomorrow, "time": dt.time(8)}, zone=zone)
    seen = outlook.of(issue.newsletter)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.model._meta,
        "original": issue,
        "title": "Schedule or send",
        "issue": issue,
        "zone": zone,
        "here": here,
        "zone_name": here.replace(tzinfo=zoneinfo.ZoneInfo(zone)).tzname(),
        "time_form": time_form,
        "proof_form": proof_form or ProofForm(initial={"address": request.user.email, "tier": 0}),  # type: ignore[union-attr]
        "moment": asked,
        "checks": previewing.checks(issue.content()),
        "why_not": editing.why_not_editable(issue),
        "unsure": scheduling.unsure(issue),
        "readers": seen.active,
        "undo_seconds": int(scheduling.UNDO_WINDOW.total_seconds()),
        "back": _issue_page(issue),
    }
    return TemplateResponse(request, "admin/newsletter/issue/send.html", context)


def _schedule(request: HttpRequest, model_admin: base.ModelAdmin[Issue], issue: Issue) -> HttpResponseBase:
    form = TimeForm(request.POST, zone=issue.newsletter.time_zone)
    if not form.is_valid():
        return _show(request, model_admin, issue, time_form=form)

    def do() -> str:
        dispatch = scheduling.schedule(issue, form.wall_time(), sure="sure" in request.POST)
        return f"“{issue.title}” is scheduled for {scheduling.when(dispatch)}."

    return acting.act(request, do, _issue_page(issue))


def _send_now(request: HttpRequest, issue: Issue) -> HttpResponseBase:
    try:
        starts = dt.datetime.now(dt.UTC) + scheduling.UNDO_WINDOW
        dispatch = scheduling.schedule(issue, starts, sure="sure" in request.POST)
    except scheduling.NotNow as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(_issue_page(issue))
    return HttpResponseRedirect(dispatch_page(dispatch))


def _send_proof(request: HttpRequest, model_admin: base.ModelAdmin[Issue], issue: Issue) -> HttpResponseBase:
    form = ProofForm(request.POST)
    if not form.is_valid():
        return _show(request, model_admin, issue, proof_form=form)
    choice = previewing.Choice(form.cleaned_data["tier"], form.cleaned_data["text_only"])
    try:
        outcome = proofs.send(issue, form.cleaned_data["address"], choice.profile())
    except (proofs.ProofRefused, rendering.RenderingError, ImproperlyConfigured, ValueError) as error:
        form.add_error(None, str(error))
        return _show(request, model_admin, issue, proof_form=form)
    said = {
        Result.ACCEPTED: "The test mail is on its way to {}.",
        Result.UNKNOWN: "Nobody knows whether the test mail to {} left; look into that mailbox.",
    }.get(outcome.result, "The test mail to {} was not sent. The mail server said: " + (outcome.reply or "nothing."))
    level = messages.SUCCESS if outcome.result == Result.ACCEPTED else messages.ERROR
    messages.add_message(request, level, said.format(form.cleaned_data["address"]))
    return HttpResponseRedirect(reverse("admin:newsletter_issue_send", args=[issue.pk]))


def dispatch_page(dispatch: Dispatch) -> str:
    """The path of the page of `dispatch`."""
    return reverse("admin:newsletter_dispatch_change", args=[dispatch.pk])


def _issue_page(issue: Issue) -> str:
    return reverse("admin:newsletter_issue_change", args=[issue.pk])


def _some(number: int, unit: str) -> str:
    return "" if not number else f"1 {unit}" if number == 1 else f"{number} {unit}s"
