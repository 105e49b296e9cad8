"""Newsletters: what they are called, how they look, and their recurring sections."""

from __future__ import annotations

import zoneinfo
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from newsletter import utm
from newsletter.admin import base, previews, sample
from newsletter.content import Profile, ThemeContent
from newsletter.models import Dispatch, Issue, Newsletter, StandingSection, Theme
from newsletter.slugs import validate_newsletter_slug
from subscribers import tiers
from subscribers.models import Subscription

UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_hosts")
_UTM_FIELDS = ", ".join(f"{{{name}}} ({what})" for name, what in utm.FIELDS.items())
LOGO = {"logo_url": "Logo: its address", "logo_alt": "Logo in words"}
SAMPLE_UPGRADE_URL = "https://example.org/membership"


class NewsletterForm(forms.ModelForm):  # type: ignore[type-arg]
    """A newsletter's particulars; the hosts whose links are tagged on one line."""

    utm_hosts = forms.CharField(
        label="Hosts",
        required=False,
        widget=base.TextInput,
        help_text="Only links to these hosts and what is below them, as in example.org; empty: every link.",
    )

    class Meta:
        model = Newsletter
        fields = (
            "slug",
            "name",
            "description",
            "from_name",
            "from_address",
            "reply_to",
            "language",
            "time_zone",
            "postal_address",
            "upgrade_url",
            "tracking",
            "ask_first",
            *UTM,
        )
        labels = {"upgrade_url": "Upgrade page"}
        # 600 options of a select would take longer to draw than all the rest of the page.
        widgets = {"time_zone": base.TextInput(attrs={"list": "time-zones", "autocomplete": "off"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            # The model's default is for trials on one machine: no mail server elsewhere takes mail from it.
            self.initial["from_address"] = ""
        self.initial["utm_hosts"] = " ".join(self.instance.utm_hosts)

    def clean_utm_hosts(self) -> list[str]:
        """The hosts."""
        try:
            return utm.hosts_in(self.cleaned_data["utm_hosts"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error

    def clean_slug(self) -> str:
        """A slug that is no other page's path."""
        slug: str = self.cleaned_data["slug"]
        validate_newsletter_slug(slug)
        return slug


class StandingSectionForm(forms.ModelForm):  # type: ignore[type-arg]
    """A recurring section; its aliases on one line."""

    aliases = forms.CharField(
        required=False, widget=base.TextInput, help_text="Other headings that mean it, with semicolons between."
    )

    class Meta:
        model = StandingSection
        fields = ("name", "aliases", "position")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["aliases"] = "; ".join(self.instance.aliases)

    def clean_aliases(self) -> list[str]:
        """The headings."""
        return [alias.strip() for alias in self.cleaned_data["aliases"].split(";") if alias.strip()]


class ThemeInline(base.StackedInline[Theme, Newsletter]):
    """How the newsletter's mail looks."""

    model = Theme
    can_delete = False
    min_num = max_num = 1
    fieldsets = (
        ("Light", {"fields": ("accent", "background", "surface", "text", "muted")}),
        ("Dark", {"fields": ("dark_accent", "dark_background", "dark_surface", "dark_text", "dark_muted")}),
        ("Frame", {"fields": ("font", "width", "logo_url", "logo_alt", "footer")}),
    )

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Colours get the browser's colour picker."""
        if db_field.name in LOGO:
            kwargs["label"] = LOGO[db_field.name]
        if db_field.name.removeprefix("dark_") in ("accent", "background", "surface", "text", "muted"):
            kwargs["widget"] = base.ColourInput
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class StandingSectionInline(base.TabularInline[StandingSection, Newsletter]):
    """The newsletter's recurring sections, in the order readers are offered them."""

    model = StandingSection
    form = StandingSectionForm
    fields = ("name", "aliases", "position")
    ordering_field = "position"
    hide_ordering_field = True


@admin.register(Newsletter)
class NewsletterAdmin(base.ModelAdmin[Newsletter]):
    """The pages of newsletters. Beside the form a sample issue shows the theme as it stands in the form."""

    form = NewsletterForm
    change_form_template = "admin/newsletter/newsletter/change_form.html"
    list_display = ("name", "slug", "sender", "language", "time_zone", "tracking")
    search_fields = ("name", "slug")
    nothing_yet = "A newsletter has a name, a sender and a look. Everything else follows from it."
    inlines = (ThemeInline, StandingSectionInline)
    fieldsets = (
        (None, {"fields": ("name", "slug", "description", "language", "time_zone")}),
        ("Sender", {"fields": ("from_name", "from_address", "reply_to", "postal_address")}),
        ("Readers", {"fields": ("tracking", "ask_first", "upgrade_url")}),
        (
            "Web statistics",
            {
                "fields": (*UTM, "tagged_link"),
                "description": f"What links say to your own web statistics (UTM). In a value may stand {_UTM_FIELDS}.",
            },
        ),
    )

    @admin.display(description="sender")
    def sender(self, row: Newsletter) -> str:
        """The From header."""
        return f"{row.sender_name} <{row.from_address}>"

    @admin.display(description="A link becomes")
    def tagged_link(self, row: Newsletter) -> str:
        """An example, which the preview's script keeps up with the form."""
        return format_html('<output id="tagged-link">{}</output>', _tagged_link(row))

    def get_readonly_fields(self, request: HttpRequest, obj: Newsletter | None = None) -> tuple[str, ...]:
        """What a link becomes, and the slug once it stands in links that readers keep."""
        return ("tagged_link", *(("slug",) if obj else ()))

    def get_prepopulated_fields(self, request: HttpRequest, obj: Newsletter | None = None) -> dict[str, Any]:
        """The slug is made of the name while the newsletter is new."""
        return {} if obj else {"slug": ("name",)}

    def has_delete_permission(self, request: HttpRequest, obj: Newsletter | None = None) -> bool:
        """A newsletter with issues, mail or readers stays: deleting it would take their history along."""
        kept = obj and any(model.objects.filter(newsletter=obj).exists() for model in (Issue, Dispatch, Subscription))
        return super().has_delete_permission(request, obj) and not kept

    def save_model(self, request: HttpRequest, obj: Newsletter, form: Any, change: bool) -> None:
        """Save the newsletter; the first one brings the site's first tiers."""
        if not change:
            tiers.ensure_default()
        super().save_model(request, obj, form, change)

    def get_urls(self) -> list[URLPattern]:
        """With the frame that shows a sample issue, for a newsletter that is there and for a new one."""
        name = "newsletter_newsletter_preview"
        view = self.admin_site.admin_view(self.preview)
        return [path("preview/", view, name=name), path("<int:pk>/preview/", view, name=name), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """The form, and where its preview comes from."""
        row = kwargs.get("obj")
        context["time_zones"] = sorted(zoneinfo.available_timezones())
        context["preview_url"] = reverse("admin:newsletter_newsletter_preview", args=[row.pk] if row else [])
        return super().render_change_form(request, context, *args, **kwargs)

    def preview(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """A sample issue: by GET as the newsletter is saved, by POST as the form says, without saving anything."""
        row = None if pk is None else self.get_object(request, str(pk))
        if pk is not None and row is None:
            raise Http404("There is no such newsletter.")
        if not (self.has_view_permission(request, row) or (row is None and self.has_add_permission(request))):
            raise PermissionDenied
        dark = request.POST.get("preview_scheme") == "dark"
        if request.method != "POST" or not self.has_change_permission(request, row):
            return _sample(row or Newsletter(name="Your newsletter"), None, dark=dark)
        return self._preview_form(request, row, dark=dark)

    def _preview_form(self, request: HttpRequest, row: Newsletter | None, *, dark: bool) -> HttpResponse:
        form = self.get_form(request, row, change=row is not None)(request.POST, instance=row or Newsletter())
        theme_form = next(
            inline.get_formset(request, row)(data=request.POST, instance=form.instance, prefix="theme").forms[0]
            for inline in self.get_inline_instances(request, row)
            if isinstance(inline, ThemeInline)
        )
        # What is right in the form is in its instance then. Of what is wrong, the page shows two things at once; the
        # rest is said when the form is saved.
        wrong_theme, wrong_utm = _problems(theme_form), _problems(form, of=UTM)
        link = " ".join(wrong_utm) or _tagged_link(form.instance)
        if wrong_theme:
            return previews.with_link(previews.problems(wrong_theme), link)
        return previews.with_link(_sample(form.instance, theme_form.instance.content(), dark=dark), link)


def _tagged_link(row: Newsletter) -> str:
    """An address of the newsletter's own as its next issue would lead to it."""
    host = row.utm_hosts[0] if row.utm_hosts else "example.org"
    latest = Issue.objects.filter(newsletter=row.pk, number__isnull=False).order_by("-number").first()
    number = latest.number + 1 if latest and latest.number else 1
    content = row.content(number=number, title="The title", subject="", preheader="", sections=())
    return utm.tagger(content)(f"https://{host}/page?a=b#part")


def _problems(form: Any, *, of: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with the fields `of` a form, or with any, each with its label."""
    return [
        f"{form.fields[name].label}: {sentence}"
        for name, sentences in form.errors.items()
        for sentence in sentences
        if not of or name in of
    ]


def _sample(row: Newsletter, theme: ThemeContent | None, *, dark: bool) -> HttpResponse:
    """The sample issue in the name of `row`; in its saved theme where none is given."""
    content = row.content(
        theme=theme,
        number=None,
        title="A sample issue",
        subject="A sample issue",
        preheader="",
        sections=sample.SECTIONS,
    )
    return previews.mail(replace(content, upgrade_url=content.upgrade_url or SAMPLE_UPGRADE_URL), Profile(), dark=dark)
