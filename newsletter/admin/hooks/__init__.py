"""Webhooks: where the author's own systems are told what happened, whether that works, what may be done about it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.timesince import timesince

from newsletter import counting
from newsletter.admin import acting, base
from newsletter.admin.hooks import calls
from newsletter.hooks import destinations, occurring, signing, turns
from newsletter.models import Call, Hook, Occurrence

__all__ = ["HookAdmin", "calls"]

CHANGE = "newsletter.change_hook"
BELOW = "Verify the signature of each call with it: docs/webhooks.md has the lines of Python."


class HookForm(forms.ModelForm):  # type: ignore[type-arg]
    """Where to, and what."""

    kinds = forms.MultipleChoiceField(
        label="What it is told",
        choices=[(kind.value, kind.label) for kind in Occurrence.Kind if kind != Occurrence.Kind.TEST],
        widget=base.CheckboxSelectMultiple,
    )

    class Meta:
        model = Hook
        fields = ("name", "url", "newsletter", "kinds", "enabled")
        help_texts = {"newsletter": "", "name": "What you call it."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "newsletter" in self.fields:
            self.fields["newsletter"].empty_label = "The whole site"  # type: ignore[attr-defined]

    def clean_url(self) -> str:
        """A URL that may be called, as things are now; it is looked at again at every call."""
        url: str = self.cleaned_data["url"]
        try:
            destinations.addresses(destinations.parse(url))
        except (destinations.Refused, destinations.Unresolved) as error:
            raise ValidationError(str(error)) from error
        return url


def state_of(hook: Hook) -> tuple[str, str]:
    """Whether a hook works, in words, and the kind of badge for it."""
    if not hook.enabled:
        return "off", ""
    if hook.disabled_at:
        return "switched off", "danger"
    if hook.failing_since:
        since = timesince(hook.failing_since, depth=1)
        return ("failing" if since.startswith("0") else f"failing for {since}"), "warning"
    return ("works", "success") if hook.succeeded_at else ("not called yet", "info")


@admin.register(Hook)
class HookAdmin(base.ModelAdmin[Hook]):
    """The pages of webhooks."""

    form = HookForm
    change_form_template = "admin/newsletter/hook/change_form.html"
    delete_confirmation_template = "admin/subscribers/delete.html"
    list_display = ("name", "scope", "state", "succeeded_at")
    list_select_related = ("newsletter",)
    search_fields = ("name",)
    ordering = ("name",)
    nothing_yet = "A webhook tells another system of yours, as it happens, who subscribed, left or changed tier."

    @admin.display(description="newsletter")
    def scope(self, row: Hook) -> str:
        """Whose happenings it is told."""
        return row.newsletter.name if row.newsletter else "the whole site"

    @admin.display(description="state")
    def state(self, row: Hook) -> str:
        """Whether it works."""
        words, kind = state_of(row)
        return format_html('<span class="desk-badge" data-kind="{}">{}</span>', kind, words)

    @admin.display(description="secret")
    def shown_secret(self, row: Hook) -> str:
        """What its calls are signed with, for whoever makes the receiver."""
        return format_html('<code class="desk-secret">{}</code><br>{}', row.secret, BELOW)

    def get_fields(self, request: HttpRequest, obj: Hook | None = None) -> Any:
        """With the secret, for who may change it."""
        fields = ("name", "url", "newsletter", "kinds", "enabled")
        return (*fields, "shown_secret") if obj and self.has_change_permission(request, obj) else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Hook | None = None) -> Any:
        """The secret, which only a button changes."""
        return ("shown_secret",)

    def save_model(self, request: HttpRequest, obj: Hook, form: Any, change: bool) -> None:
        """Save what the form holds; a new hook gets its secret."""
        if change:
            obj.save(update_fields=form.changed_data)
        else:
            obj.secret = signing.new_secret()
            super().save_model(request, obj, form, change)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one hook: how it does, its buttons, and the form."""
        hook = self.get_object(request, object_id)
        above = self._above(request, hook) if hook else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **above})

    def _above(self, request: HttpRequest, hook: Hook) -> dict[str, Any]:
        words, kind = state_of(hook)
        log = f"{reverse('admin:newsletter_call_changelist')}?hook__id__exact={hook.pk}"
        number = {
            status: counting.about(Call.objects.filter(hook=hook, status=status))
            for status in (Call.Status.WAITING, Call.Status.GIVEN_UP)
        }
        buttons = self._buttons(hook, given_up=number[Call.Status.GIVEN_UP].number)
        return {
            "hook": hook,
            "state_words": words,
            "state_kind": kind,
            "log": log if request.user.has_perm("newsletter.view_call") else "",
            "waiting": number[Call.Status.WAITING],
            "given_up": number[Call.Status.GIVEN_UP],
            "buttons": buttons if request.user.has_perm(CHANGE) else [],
        }

    def _buttons(self, hook: Hook, *, given_up: int) -> list[acting.Button]:
        def address(name: str) -> str:
            return reverse(f"admin:newsletter_hook_{name}", args=[hook.pk])

        found = []
        if hook.disabled_at:
            found.append(acting.Button("Enable again", address("enable"), variant="primary", icon="play_arrow"))
        elif hook.enabled:
            found.append(acting.Button("Send a test", address("test"), icon="send"))
        if given_up:
            found.append(acting.Button("Send again…", address("again"), asks=True, icon="replay"))
        return [*found, acting.Button("New secret…", address("rotate"), asks=True, icon="key")]

    def get_urls(self) -> list[URLPattern]:
        """Django's, and one for each button."""
        views: dict[str, tuple[acting.View[Any], str, tuple[str, ...]]] = {
            "test": (self._test, CHANGE, ("POST",)),
            "enable": (self._enable, CHANGE, ("POST",)),
            "again": (self._again, CHANGE, ("GET", "POST")),
            "rotate": (self._rotate, CHANGE, ("GET", "POST")),
        }
        return acting.pages(self, Hook.objects.all, views) + super().get_urls()

    def _test(self, request: HttpRequest, hook: Hook) -> HttpResponseBase:
        if not hook.enabled or hook.disabled_at:
            messages.error(request, "It is switched off, so no test was sent: enable it first.")
            return HttpResponseRedirect(_page(hook))
        call = occurring.try_out(hook)
        return HttpResponseRedirect(reverse("admin:newsletter_call_change", args=[call.pk]))

    def _enable(self, request: HttpRequest, hook: Hook) -> HttpResponseBase:
        return acting.act(
            request, lambda: "It is called again, with all that waited." if turns.enable(hook) else "", _page(hook)
        )

    def _again(self, request: HttpRequest, hook: Hook) -> HttpResponseBase:
        given_up = counting.about(Call.objects.filter(hook=hook, status=Call.Status.GIVEN_UP))
        question = acting.Question(
            "Send again what was given up?",
            (
                f"Calls that were given up: {given_up}. Each is made once more, in order, with all its tries.",
                "Each has the id it had, so a receiver that keeps ids takes none of them twice.",
            ),
            "Send again",
        )
        if request.method == "GET":
            return acting.ask(request, self, hook, question, _page(hook))
        return acting.act(request, lambda: f"Calls that go out again: {turns.all_again(hook):,}.", _page(hook))

    def _rotate(self, request: HttpRequest, hook: Hook) -> HttpResponseBase:
        question = acting.Question(
            "Make a new secret?",
            (
                "Every call is signed with the new secret from now on, and for 24 hours with the old one too.",
                "Give the new one to the receiver within that time. A secret that others know is best changed twice.",
            ),
            "Make a new secret",
        )
        if request.method == "GET":
            return acting.ask(request, self, hook, question, _page(hook))

        def do() -> str:
            turns.rotate(hook)
            return "The new secret stands below. The old one signs too for 24 hours."

        return acting.act(request, do, _page(hook))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Asks before it deletes."""
        return super().delete_view(request, object_id, {**(extra_context or {}), "verb": "Delete"})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What deleting means, in a sentence."""
        return ["Nothing more is told there, and the log of its calls is deleted too."], {}, set(), []


def _page(hook: Hook) -> str:
    return reverse("admin:newsletter_hook_change", args=[hook.pk])
