"""An issue from a file or pasted text: show what was found, let the author say who sees what, then save.

Between the two steps the server keeps nothing: the text travels in the form, packed, and is read again when it is
saved. It needs no signature, since whoever posts it may write an issue anyway and it is read with the same care; and
it cannot be too large for a form, since an issue has at most `authoring.MAX_BYTES`. What is shown is no guess: it is
the import itself, rolled back.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import escape

from newsletter import authoring, fields, importing, rendering, scheduling, wording
from newsletter.admin import base
from newsletter.admin.issues import previewing
from newsletter.authoring import ImportRefused, ParsedIssue
from newsletter.content import IssueContent, TrackingMode
from newsletter.models import Issue, Newsletter, Section
from subscribers.models import FREE_LEVEL, Tier

EVERYONE = "everyone"
# What may be posted beside the text itself; Django refuses larger forms (DATA_UPLOAD_MAX_MEMORY_SIZE).
MAX_PACKED = 2_000_000


@dataclass(frozen=True)
class Source:
    """The bytes of an issue and the name of the file they came from ("" for pasted text)."""

    data: bytes
    filename: str

    def packed(self) -> str:
        """The bytes as text for a form. Raises ImportRefused where they would not fit one."""
        text = base64.b64encode(zlib.compress(self.data, 9)).decode("ascii")
        if len(text) > MAX_PACKED:
            raise ImportRefused("The text is too long for a form: import it by `manage.py import_issue`.")
        return text

    @classmethod
    def unpacked(cls, text: str, filename: str) -> Source:
        """What `packed` packed. Raises ImportRefused for anything else."""
        try:
            unzip = zlib.decompressobj()
            data = unzip.decompress(base64.b64decode(text, validate=True), authoring.MAX_BYTES + 1)
        except (binascii.Error, zlib.error, ValueError) as error:
            raise ImportRefused("The text got lost on the way: choose the file again.") from error
        return cls(data, filename)


class SourceForm(forms.Form):
    """The first step: a newsletter, and a file or a text."""

    newsletter = forms.ModelChoiceField(Newsletter.objects.order_by("name"), empty_label=None)
    file = forms.FileField(
        required=False, widget=forms.FileInput(attrs={"accept": ".md,.markdown,.txt,text/markdown,text/plain"})
    )
    text = forms.CharField(required=False, strip=False, widget=forms.Textarea(attrs={"rows": 10}))

    def clean(self) -> dict[str, Any]:
        """One of the two, and no more than an issue may have."""
        cleaned = super().clean() or self.cleaned_data
        if "file" not in self.errors and not cleaned.get("file") and not (cleaned.get("text") or "").strip():
            raise forms.ValidationError("Choose a file, or paste the text of the issue.")
        return cleaned

    def source(self) -> Source:
        """What the valid form brought; a file wins over a text. Raises ImportRefused for one that is far too large."""
        file = self.cleaned_data.get("file")
        if not file:
            return Source(self.cleaned_data["text"].encode(), "")
        # One byte more than is allowed: enough for the reader to refuse it in its own words.
        return Source(file.read(authoring.MAX_BYTES + 1), file.name)


class FoundForm(forms.Form):
    """The second step: what travelled along, and the author's choices."""

    newsletter = forms.ModelChoiceField(Newsletter.objects.all(), widget=forms.HiddenInput)
    packed = forms.CharField(widget=forms.HiddenInput)
    filename = forms.CharField(required=False, max_length=300, widget=forms.HiddenInput)
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    keep_headings = forms.BooleanField(
        required=False,
        label="Keep the headings as recurring sections",
        help_text="The next issue is then recognised by them, with or without their emoji.",
    )


@dataclass(frozen=True)
class FoundSection:
    """A section as it would be stored, and which audience is chosen for it."""

    field: str
    heading: str
    words: int
    recurring: str
    chosen: str


def audience_choices() -> list[tuple[str, str]]:
    """Who may see a section, as values for `_apply` and words for the author."""
    choices = [(EVERYONE, "Everyone")]
    for tier in Tier.objects.filter(level__gt=FREE_LEVEL):
        choices += [
            (f"{tier.pk}:hide", f"{tier} and above"),
            (f"{tier.pk}:tease", f"{tier} and above; others see the heading with an upgrade button"),
            (f"{tier.pk}:below", f"Below {tier} (an invitation to upgrade)"),
        ]
    return choices


def page(request: HttpRequest, model_admin: base.ModelAdmin[Issue]) -> HttpResponseBase:
    """The page that imports: a GET shows the form, a POST with `step` found saves, any other shows what it found."""
    if request.method != "POST":
        return _ask(request, model_admin, SourceForm())
    if request.POST.get("step") == "found":
        return _save(request, model_admin)
    form = SourceForm(request.POST, request.FILES)
    if not form.is_valid():
        return _ask(request, model_admin, form)
    try:
        return _show(request, model_admin, form.cleaned_data["newsletter"], form.source())
    except (ImportRefused, scheduling.NotNow) as error:
        form.add_error(None, str(error))
        return _ask(request, model_admin, form)


def _ask(request: HttpRequest, model_admin: base.ModelAdmin[Issue], form: SourceForm) -> HttpResponse:
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.model._meta,
        "title": "Import an issue",
        "form": form,
        "newsletters": Newsletter.objects.exists(),
        "limit_mb": authoring.MAX_BYTES // 1024 // 1024,
        "back": reverse("admin:newsletter_issue_changelist"),
    }
    return TemplateResponse(request, "admin/newsletter/issue/import.html", context)


def _show(
    request: HttpRequest,
    model_admin: base.ModelAdmin[Issue],
    newsletter: Newsletter,
    source: Source,
    *,
    chosen: Sequence[str] | None = None,
    keep_headings: bool = False,
) -> HttpResponse:
    """What `source` would become. Raises ImportRefused or scheduling.NotNow where it cannot become an issue."""
    packed = source.packed()
    with _rehearsed():
        stored, parsed = _stored(newsletter, source, chosen, keep_headings=keep_headings)
        issue = stored.issue
        sections = list(issue.sections.select_related("tier", "standing_section"))
        content = issue.content()
    form = FoundForm(
        initial={
            "newsletter": newsletter,
            "packed": packed,
            "filename": source.filename,
            "seen": "" if stored.is_new else _seen(issue.pk),
            "keep_headings": keep_headings,
        }
    )
    checks = previewing.checks(content)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.model._meta,
        "title": "Import an issue: what was found",
        "form": form,
        "parsed": parsed,
        "newsletter": newsletter,
        "is_new": stored.is_new,
        "notes": [*parsed.notes, *stored.warnings],
        "checks": checks,
        "words": sum(wording.count(section.body) for section in sections),
        "sections": [_found(index, section) for index, section in enumerate(sections)],
        "choices": audience_choices(),
        "preview": _preview(content),
        "back": reverse("admin:newsletter_issue_import"),
    }
    return TemplateResponse(request, "admin/newsletter/issue/found.html", context)


def _save(request: HttpRequest, model_admin: base.ModelAdmin[Issue]) -> HttpResponseBase:
    form = FoundForm(request.POST)
    if not form.is_valid():
        messages.error(request, "The text got lost on the way: choose the file again.")
        return HttpResponseRedirect(reverse("admin:newsletter_issue_import"))
    newsletter, keep_headings = form.cleaned_data["newsletter"], form.cleaned_data["keep_headings"]
    try:
        source = Source.unpacked(form.cleaned_data["packed"], form.cleaned_data["filename"])
        chosen = _chosen(request)
        with transaction.atomic():
            overtaken = not _still(form.cleaned_data["seen"])
            stored, _ = _stored(newsletter, source, chosen, keep_headings=keep_headings)
            overtaken = overtaken or stored.is_new != (form.cleaned_data["seen"] == "")
            transaction.set_rollback(overtaken)
        if overtaken:
            messages.warning(request, "Somebody changed the issue meanwhile: look again, then save.")
            return _show(request, model_admin, newsletter, source, chosen=chosen, keep_headings=keep_headings)
    except (ImportRefused, scheduling.NotNow) as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(reverse("admin:newsletter_issue_import"))
    model_admin.log_addition(request, stored.issue, "Imported.")
    for warning in stored.warnings:
        messages.warning(request, warning)
    messages.success(request, f"“{stored.issue}” is {'imported' if stored.is_new else 'updated'}.")
    return HttpResponseRedirect(reverse("admin:newsletter_issue_change", args=[stored.issue.pk]))


@contextmanager
def _rehearsed() -> Iterator[None]:
    """What is stored inside is taken back at the end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def _stored(
    newsletter: Newsletter, source: Source, chosen: Sequence[str] | None, *, keep_headings: bool
) -> tuple[importing.Stored, ParsedIssue]:
    """Import `source`; `chosen` says section by section who sees it, None leaves that as an earlier import had it.

    Call it inside a transaction. Raises ImportRefused or scheduling.NotNow.
    """
    stored, parsed = importing.import_issue(
        newsletter, source.data, filename=source.filename, keep_headings=keep_headings
    )
    for section, value in zip(stored.issue.sections.order_by("position"), chosen or (), strict=False):
        _give_audience(section, value)
    return stored, parsed


def _give_audience(section: Section, value: str) -> None:
    """Give `section` the audience that `value` of `audience_choices` means. Raises ImportRefused for any other."""
    pk, _, how = value.partition(":")
    section.audience, section.tier = Section.AudienceChoice.EVERYONE, None
    section.when_locked = Section.WhenLockedChoice.HIDE
    if value != EVERYONE:
        section.tier = Tier.objects.filter(pk=int(pk), level__gt=FREE_LEVEL).first() if pk.isdecimal() else None
        if section.tier is None or how not in {"hide", "tease", "below"}:
            raise ImportRefused("A tier was changed meanwhile: choose again who sees each section.")
        below = how == "below"
        section.audience = Section.AudienceChoice.BELOW_TIER if below else Section.AudienceChoice.FROM_TIER
        if how == "tease":
            section.when_locked = Section.WhenLockedChoice.TEASE
    section.save(update_fields=["audience", "tier", "when_locked"])


def _found(index: int, section: Section) -> FoundSection:
    value = EVERYONE
    if section.tier is not None and section.audience != Section.AudienceChoice.EVERYONE:
        from_tier = section.audience == Section.AudienceChoice.FROM_TIER
        value = f"{section.tier.pk}:{section.when_locked if from_tier else 'below'}"
    return FoundSection(
        field=f"audience-{index}",
        heading=section.heading,
        words=wording.count(section.body),
        recurring=section.standing_section.name if section.standing_section else "",
        chosen=value,
    )


def _chosen(request: HttpRequest) -> list[str]:
    """The audiences that were posted, section by section."""
    chosen: list[str] = []
    while (value := request.POST.get(f"audience-{len(chosen)}")) is not None:
        chosen.append(value)
    return chosen


def _seen(pk: int) -> str:
    """The draft of that id and when it was last saved: what `_still` compares."""
    return f"{pk} {Issue.objects.values_list('updated_at', flat=True).get(pk=pk).isoformat()}"


def _still(seen: str) -> bool:
    """Whether the draft is as it was `seen`; locks it. True where none was seen."""
    if not seen:
        return True
    pk = seen.partition(" ")[0]
    issue = Issue.objects.select_for_update().filter(pk=int(pk)).first() if pk.isdecimal() else None
    return issue is not None and seen == f"{issue.pk} {issue.updated_at.isoformat()}"


def _preview(content: IssueContent) -> str:
    """All sections as they will look, or the sentence that says why they cannot be shown."""
    try:
        rendered = rendering.render(previewing.unlocked(content), tracking=TrackingMode.OFF, for_reader=False)
    except rendering.RenderingError as error:
        return str(error)
    return fields.SlotTable(list(rendered.slots)).fill(rendered.html, {}, quote=escape)
