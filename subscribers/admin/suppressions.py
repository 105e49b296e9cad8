"""Addresses that are never written to, and the record of what people agreed to."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from newsletter.admin import base
from subscribers import addresses, consent
from subscribers.admin import finding, footprints
from subscribers.models import ConsentRecord, Suppression


class SuppressionForm(forms.ModelForm):  # type: ignore[type-arg]
    """Asks for an address; of it only the fingerprint is kept."""

    address = forms.CharField(
        widget=base.TextInput,
        max_length=320,
        help_text="Kept as a hash: enough to know it again, nothing to read it from.",
    )

    class Meta:
        model = Suppression
        fields = ("address", "newsletter")

    def clean_address(self) -> str:
        """The fingerprint of the address."""
        try:
            return addresses.fingerprint(addresses.parse(self.cleaned_data["address"]).key)
        except addresses.AddressError as error:
            raise ValidationError(str(error)) from error


@admin.register(Suppression)
class SuppressionAdmin(footprints.NamelessLog[Suppression], base.LargeModelAdmin[Suppression]):
    """The pages of suppressions: an operator adds one, and takes back what operators and bounces set."""

    form = SuppressionForm
    list_display = ("reason", "scope", "created_at")
    list_select_related = ("newsletter",)
    search_fields = ("fingerprint",)
    search_help_text = "A whole address"
    nothing_yet = (
        "Addresses that are never written to stand here: because mail bounced, by a complaint, or by your word."
    )
    delete_confirmation_template = "admin/subscribers/delete.html"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Suppression], search_term: str
    ) -> tuple[QuerySet[Suppression], bool]:
        """What suppresses the address `search_term`."""
        return (queryset.filter(fingerprint=finding.fingerprint(search_term)) if search_term else queryset), False

    def get_fields(self, request: HttpRequest, obj: Suppression | None = None) -> Any:
        """An address to add one, what is known of one that there is."""
        return ("reason", "scope", "created_at") if obj else ("address", "newsletter")

    def get_readonly_fields(self, request: HttpRequest, obj: Suppression | None = None) -> Any:
        """All of them, once it is made."""
        return ("reason", "scope", "created_at") if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Suppression | None = None) -> bool:
        """A suppression stands or is lifted."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Suppression | None = None) -> bool:
        """Complaints and erasures stay: only the person's own new confirmation undoes them."""
        return super().has_delete_permission(request, obj) and (
            obj is None or obj.reason in consent.LIFTED_BY_OPERATORS
        )

    def save_model(self, request: HttpRequest, obj: Suppression, form: Any, change: bool) -> None:
        """Suppress the address of the form."""
        consent.suppress(
            form.cleaned_data["address"],
            reason=Suppression.Reason.MANUAL,
            newsletter=obj.newsletter,
            source=footprints.source(request),
        )
        obj.pk = Suppression.objects.get(
            fingerprint=form.cleaned_data["address"], newsletter=obj.newsletter, reason=Suppression.Reason.MANUAL
        ).pk

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Asks before it lifts, and why: the reason is kept with the person's consent."""
        longest = ConsentRecord._meta.get_field("reason").max_length
        if request.method == "POST" and not _reason(request):
            messages.error(request, "Nothing is lifted: say why mail may go to this address again.")
            return HttpResponseRedirect(request.get_full_path())
        context = {"verb": "Lift", "reason_label": "Why may mail go to this address again?", "reason_length": longest}
        return super().delete_view(request, object_id, {**(extra_context or {}), **context})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What lifting means, in a sentence."""
        return ["Mail may go to this address again.", "Where it bounces again, it is suppressed again."], {}, set(), []

    def delete_model(self, request: HttpRequest, obj: Suppression) -> None:
        """Lift it."""
        consent.lift(obj, reason=_reason(request), source=footprints.source(request))

    @admin.display(description="scope")
    def scope(self, row: Suppression) -> str:
        """Where no mail goes."""
        return row.newsletter.name if row.newsletter else "the whole site"


def _reason(request: HttpRequest) -> str:
    return " ".join(request.POST.get("reason", "").split())


@admin.register(ConsentRecord)
class ConsentRecordAdmin(base.LargeModelAdmin[ConsentRecord]):
    """The record of consent: to read, never to change."""

    list_display = ("at", "action", "subscriber", "newsletter", "source", "reason")
    list_select_related = ("subscriber", "newsletter")
    search_fields = ("subscriber__address_key",)
    search_help_text = finding.HELP
    nothing_yet = "What readers agree to and withdraw is written down here."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ConsentRecord], search_term: str
    ) -> tuple[QuerySet[ConsentRecord], bool]:
        """What the people whom `search_term` finds agreed to."""
        return (finding.rows_of(search_term, queryset) if search_term else queryset), False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Records are made by what they record."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A record is never changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A record is never deleted."""
        return False
