"""The form of an issue and its sections: nobody's work is overwritten, and sections keep their order.

Two people may have the same issue open. The form carries when the issue was last saved as its reader saw it; whoever
saves second is told, and nothing of the first one's work is lost.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django import forms
from django.db.models import Max, Model, QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from newsletter import fields, scheduling, wording
from newsletter.admin.base import StackedInline
from newsletter.content import AudienceKind, clean_line
from newsletter.models import Issue, Newsletter, Section
from subscribers.models import FREE_LEVEL

if TYPE_CHECKING:
    IssueModelForm = forms.ModelForm[Issue]
    SectionModelForm = forms.ModelForm[Section]
    SectionInlineFormSet = BaseInlineFormSet[Section, Issue, "SectionForm"]
else:
    IssueModelForm, SectionModelForm, SectionInlineFormSet = forms.ModelForm, forms.ModelForm, BaseInlineFormSet

MERGE_FIELD_HELP = [
    (f'{{{{ {name}|default:"there" }}}}' if name in fields.OPTIONAL_FIELDS else f"{{{{ {name} }}}}", meaning)
    for name, meaning in fields.MERGE_FIELDS.items()
]


class IssueForm(IssueModelForm):
    """An issue without its sections. `seen` is when the issue was last saved, as this form's reader knows it."""

    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        labels = {"preheader": "Preview line"}
        help_texts = {
            "title": "Stands on top of the mail and of its web page.",
            "subject": "What readers see in their inbox. Empty: the title.",
            "preheader": "The line that mail programs show after the subject. Empty: the first words of the issue.",
            "number": "Counts the issues of a newsletter; it stands in the address of the web page.",
            "date": "Stands under the title. It does not decide when the issue goes out.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["seen"] = self.instance.updated_at.isoformat()
        if "subject" in self.fields:
            self.fields["subject"].required = False

    def clean(self) -> dict[str, Any]:
        """Refuses what would overwrite somebody's work, or change an issue that is on its way."""
        cleaned = super().clean() or self.cleaned_data
        cleaned["subject"] = cleaned.get("subject") or cleaned.get("title", "")
        if self.instance.pk:
            self._refuse_if_overtaken()
        return cleaned

    def clean_title(self) -> str:
        """One line, whatever was pasted."""
        return clean_line(self.cleaned_data["title"])

    def clean_subject(self) -> str:
        """One line, whatever was pasted."""
        return clean_line(self.cleaned_data["subject"])

    def clean_preheader(self) -> str:
        """One line, whatever was pasted."""
        return clean_line(self.cleaned_data["preheader"])

    def _refuse_if_overtaken(self) -> None:
        # Locked until the save is through: of two people who save at once, the second waits here and then sees.
        stored = Issue.objects.select_for_update().get(pk=self.instance.pk)
        try:
            scheduling.refuse_unless_editable(stored)
        except scheduling.NotNow as error:
            raise forms.ValidationError(str(error), code="not now") from error
        if self.cleaned_data.get("seen") != stored.updated_at.isoformat():
            self.instance.overtaken = True  # type: ignore[attr-defined]
            saved = forms.model_to_dict(stored)
            differ = [
                str(bound.label).lower()
                for bound in self.visible_fields()
                if bound.name in saved and _differs(bound, saved[bound.name])
            ]
            raise forms.ValidationError(
                format_html(
                    "Somebody saved this issue {} while you had it open, so yours was not saved: it would have "
                    'overwritten theirs.{} <a href="{}" target="_blank" rel="noopener">Open the saved version in a new '
                    "tab</a> and copy over what you changed.",
                    _ago(timezone.now() - stored.updated_at),
                    f" Theirs and yours differ in: {', '.join(differ)}." if differ else "",
                    reverse("admin:newsletter_issue_change", args=[stored.pk]),
                ),
                code="overtaken",
            )


class SectionForm(SectionModelForm):
    """One section. `position` is its place, counted from 1; empty for a new one puts it last."""

    class Meta:
        labels = {
            "position": "Place",
            "body": "Text",
            "audience": "Who sees it",
            "when_locked": "The others see",
            "standing_section": "Recurring section",
        }
        help_texts = {
            "position": "Drag the section by its handle, or write the place it should have.",
            "heading": "Empty for the lead.",
            "body": "",
            "standing_section": "Readers may switch off a recurring section that they do not want.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "position" in self.fields:
            self.fields["position"].required = False
            self.fields["position"].widget.attrs |= {"min": 1}
            self.initial["position"] = self.instance.position + 1 if self.instance.pk else None
        if "body" in self.fields:
            self.fields["body"].widget.attrs |= {"rows": 12, "data-count-words": ""}
        if "audience" in self.fields:
            choices = Section.AudienceChoice.choices
            self.fields["audience"].choices = [(value, label.capitalize()) for value, label in choices]  # type: ignore[attr-defined]
        # What the theme shows of a section that is folded up.
        self.instance.get_inline_title = title_of(self.instance)  # type: ignore[attr-defined]

    def clean_heading(self) -> str:
        """One line, whatever was pasted."""
        return clean_line(self.cleaned_data["heading"])

    def clean_position(self) -> int | None:
        """The place that was asked for; SectionsFormSet turns all of them into an order."""
        position: int | None = self.cleaned_data["position"]
        return position

    def clean(self) -> dict[str, Any]:
        """An audience that names a tier needs one; one that does not forgets it."""
        cleaned = super().clean() or self.cleaned_data
        audience, tier = cleaned.get("audience"), cleaned.get("tier")
        if audience == AudienceKind.EVERYONE:
            cleaned["tier"] = None
        elif audience and tier is None and "tier" not in self.errors:
            self.add_error("tier", "Choose the tier, or let everyone see the section.")
        elif audience == AudienceKind.BELOW_TIER and tier is not None and tier.level <= FREE_LEVEL:
            self.add_error("tier", f"Nobody is below “{tier}”: choose a higher tier.")
        return cleaned

    def _post_clean(self) -> None:
        # A place is no stored position before the whole order is known.
        place = self.cleaned_data.pop("position", None)
        super()._post_clean()  # type: ignore[misc]
        self.cleaned_data["position"] = place

    def place(self) -> tuple[float, bool]:
        """Where the section is to stand among the others: those with smaller values come first.

        One that was given the place of another takes it: it goes before that one when it moved up, after it when it
        moved down.
        """
        asked, had = self.cleaned_data.get("position"), self.initial.get("position")
        if asked is None:
            return (float("inf"), True) if had is None else (had, False)
        if had is None or asked < had:
            return asked - 0.25, False
        return asked + (0.25 if asked > had else 0), False


class SectionsFormSet(SectionInlineFormSet):
    """All sections of an issue: saves them in the order that their places give, counted from 0 without gaps."""

    def clean(self) -> None:
        """Of an issue that somebody else saved meanwhile, says which sections differ from the saved ones."""
        super().clean()
        if not getattr(self.instance, "overtaken", False):
            return
        shown = {form.instance.pk for form in self.forms}
        differ = [
            _name(form["heading"].value())
            for form in self.forms
            if any(_differs(bound, bound.initial) for bound in form.visible_fields())
        ]
        differ += [_name(section.heading) for section in self.instance.sections.exclude(pk__in=shown - {None})]
        if differ:
            raise forms.ValidationError(f"Theirs and yours differ in the sections: {', '.join(differ)}.")

    def save(self, commit: bool = True) -> list[Section]:
        """Save what changed, and the position of every section whose place did."""
        kept = [form for form in self.forms if not self._is_gone(form)]
        for position, form in enumerate(sorted(kept, key=SectionForm.place)):
            if form.instance.position != position and form.instance.pk:
                Section.objects.filter(pk=form.instance.pk).update(position=position)
            form.instance.position = position
        return super().save(commit)

    def _is_gone(self, form: SectionForm) -> bool:
        return form in self.deleted_forms or (form.instance.pk is None and not form.has_changed())


class SectionInline(StackedInline[Section, Issue]):
    """The sections below the issue, draggable. Who may change the issue may change them."""

    model = Section
    form = SectionForm
    formset = SectionsFormSet  # type: ignore[assignment]
    ordering_field = "position"
    ordering = ("position", "pk")
    collapsible = True
    fields = ("heading", "body", "audience", ("tier", "when_locked"), ("standing_section", "position"))
    verbose_name = "section"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Section]:
        """With what they name: their titles say the tier, and sections that are only read say both."""
        return super().get_queryset(request).select_related("tier", "standing_section")

    def get_formset(self, request: HttpRequest, obj: Issue | None = None, **kwargs: Any) -> Any:
        """A formset whose recurring sections are those of the issue's newsletter."""
        formset = super().get_formset(request, obj, **kwargs)
        for name, empty_label in (("tier", "Choose a tier"), ("standing_section", "None")):
            field = formset.form.base_fields.get(name)
            if isinstance(field, forms.ModelChoiceField):
                field.empty_label = empty_label
                if name == "standing_section" and obj is not None:
                    field.queryset = obj.newsletter.standing_sections.all()
                # Asked for once: left to itself, each section's field would ask again.
                choices: Any = field.choices
                field.choices = list(choices)
        return formset

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As for the issue."""
        return request.user.has_perm("newsletter.view_issue") or self._may_change(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As for changing the issue."""
        return self.has_change_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As for changing the issue."""
        return self._may_change(request) and (not isinstance(obj, Issue) or may_still_change(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As for changing the issue."""
        return self.has_change_permission(request, obj)

    @staticmethod
    def _may_change(request: HttpRequest) -> bool:
        return request.user.has_perm("newsletter.change_issue")


def title_of(section: Section) -> str:
    """A section in one line: its heading, who sees it unless that is everyone, how long it is."""
    parts = [section.heading or "Lead"]
    if section.audience == AudienceKind.FROM_TIER:
        parts.append(f"{section.tier or 'a tier that is gone'} and above")
    elif section.audience == AudienceKind.BELOW_TIER:
        parts.append(f"below {section.tier or 'a tier that is gone'}")
    number = wording.count(section.body)
    return " · ".join([*parts, "1 word" if number == 1 else f"{number:,} words"])


def may_still_change(request: HttpRequest, issue: Issue) -> bool:
    """Whether the page of `issue` shows a form. A post is always read as one, so that a text which comes too late is
    shown again beside the reason instead of being lost."""
    return request.method == "POST" or why_not_editable(issue) == ""


def why_not_editable(issue: Issue) -> str:
    """The sentence with which changing `issue` is refused now, or ""; asked once for each object."""
    if not hasattr(issue, "_why_not_editable"):
        try:
            scheduling.refuse_unless_editable(issue)
            issue._why_not_editable = ""  # type: ignore[attr-defined]
        except scheduling.NotNow as error:
            issue._why_not_editable = str(error)  # type: ignore[attr-defined]
    answer: str = issue._why_not_editable  # type: ignore[attr-defined]
    return answer


def next_number(newsletter: Newsletter) -> int:
    """The number that the newsletter's next issue would have."""
    return (Issue.objects.filter(newsletter=newsletter).aggregate(last=Max("number"))["last"] or 0) + 1


def _differs(bound: forms.BoundField, saved: Any) -> bool:
    # A browser ends lines with CR LF, which is no difference to whoever reads them.
    saved, posted = (text.replace("\r\n", "\n") if isinstance(text, str) else text for text in (saved, bound.data))
    return bound.field.has_changed(saved, posted)


def _name(heading: str | None) -> str:
    return f"“{heading}”" if heading else "the lead"


def _ago(span: dt.timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    if minutes < 1:
        return "less than a minute ago"
    if minutes < 120:
        return f"{minutes} minute{'' if minutes == 1 else 's'} ago"
    return f"{minutes // 60} hours ago"
