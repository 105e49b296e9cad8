"""Addresses that are never written to, and the record of what people agreed to."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from newsletter.admin import acting, base
from subscribers import addresses, consent
from subscribers.admin import finding, footprints
from subscribers.models import ConsentRecord, Subscriber, Suppression

LIFTED_BEFORE = "Somebody has lifted it already."


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
    change_form_outer_before_template = "admin/subscribers/lift.html"
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

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one, with a button that leads to lifting it; deleting is called so there."""
        row = self.get_object(request, object_id)
        buttons = []
        if row and self.has_delete_permission(request, row):
            lift = reverse("admin:subscribers_suppression_delete", args=[row.pk])
            buttons.append(acting.Button("Lift…", self._keeping_the_list(request, lift), asks=True))
        context = {**(extra_context or {}), "buttons": buttons, "show_delete": False}
        return super().change_view(request, object_id, form_url, context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Asks before it lifts, and why: the reason is kept with the person's consent."""
        if self.get_object(request, object_id) is None:
            messages.info(request, LIFTED_BEFORE)
            return HttpResponseRedirect(self._back(request))
        longest = ConsentRecord._meta.get_field("reason").max_length
        if request.method == "POST" and not _reason(request):
            messages.error(request, "Nothing is lifted: say why mail may go to this address again.")
            return HttpResponseRedirect(request.get_full_path())
        context = {
            "title": "Lift a suppression",
            "verb": "Lift",
            "reason_label": "Why may mail go to this address again?",
            "reason_length": longest,
            "back": self._back(request),
        }
        return super().delete_view(request, object_id, {**(extra_context or {}), **context})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What lifting means, in a sentence."""
        return ["Mail may go to this address again.", "Where it bounces again, it is suppressed again."], {}, set(), []

    def delete_model(self, request: HttpRequest, obj: Suppression) -> None:
        """Lift it, and say what was lifted for whom."""
        if consent.lift(obj, reason=_reason(request), source=footprints.source(request)):
            messages.success(request, self._lifted(request, obj))
        else:
            messages.info(request, LIFTED_BEFORE)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """Back to where they came from."""
        return HttpResponseRedirect(self._back(request))

    def _lifted(self, request: HttpRequest, row: Suppression) -> str:
        person = Subscriber.objects.filter(fingerprint=row.fingerprint).first()
        if person is None:
            whom = "an address that no reader has"
        else:
            may_see = request.user.has_perm("subscribers.view_subscriber")
            whom = str(person) if may_see else f"subscriber {person.pk}"
        others = Suppression.objects.filter(fingerprint=row.fingerprint)
        still = " Another suppression of this address still stands." if others.exists() else ""
        return f"Lifted for {whom}: {row.get_reason_display().lower()}, {self.scope(row)}.{still}"

    def _back(self, request: HttpRequest) -> str:
        """The page they came from: the reader's that `?reader=` names, else the list, with its filters and its page."""
        reader = request.GET.get("reader", "")
        if reader.isascii() and reader.isdecimal() and len(reader) < 19:
            return reverse("admin:subscribers_subscriber_change", args=[reader])
        return self._keeping_the_list(request, reverse("admin:subscribers_suppression_changelist"))

    def _keeping_the_list(self, request: HttpRequest, address: str) -> str:
        """`address`, with what the list showed: its search and its page."""
        filters = self.get_preserved_filters(request)
        return add_preserved_filters({"preserved_filters": filters, "opts": self.opts}, address)

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
