"""Subscribers: the people, with what they read, what they hold and what they agreed to."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timezone import localtime

from newsletter.admin import base
from subscribers import addresses, consent
from subscribers.admin import acts, finding, footprints, standing
from subscribers.models import ConsentRecord, Membership, Subscriber, Subscription, Suppression


def _each(change: Any) -> Any:
    """A change of one subscription, made to all of a person's."""

    def change_all(person: Subscriber, source: str) -> bool:
        rows = Subscription.objects.filter(subscriber=person).select_related("subscriber", "newsletter")
        return bool(sum(change(row, source=source) for row in rows))

    return change_all


def _suppress(person: Subscriber, source: str) -> bool:
    consent.suppress(person.fingerprint, reason=Suppression.Reason.MANUAL, source=source)
    return True


def _erase(person: Subscriber, source: str) -> bool:
    consent.erase(person, source=source)
    return True


ERASING = (
    "The address, the name, memberships, subscriptions and choices are deleted for good. Deliveries go on counting "
    "without a name, and a keyed hash keeps imports from bringing the address back."
)
ACTS = (
    acts.Act(
        "unsubscribe",
        "Unsubscribe from everything",
        "Unsubscribe these people from every newsletter?",
        "They get no more mail, at once: what is queued for them is skipped. Only they can come back.",
        "{} people unsubscribed.",
        _each(consent.unsubscribe),
    ),
    acts.Act(
        "pause",
        "Pause everything",
        "Pause all that these people read?",
        "No mail of any newsletter until somebody resumes it.",
        "{} people paused.",
        _each(consent.pause),
    ),
    acts.Act(
        "resume",
        "Resume everything",
        "Resume what these people paused?",
        "What is paused comes again from the next issue on; what they left stays left.",
        "{} people resumed.",
        _each(consent.resume),
    ),
    acts.Act(
        "suppress",
        "Suppress",
        "Never write to these people again?",
        "No mail of this site goes to their addresses, whatever they subscribe to, until an operator lifts it.",
        "{} people suppressed.",
        _suppress,
    ),
    acts.Act("erase", "Erase", "Erase these people?", ERASING, "{} people erased.", _erase, permission="delete"),
)


class SubscriberForm(forms.ModelForm):  # type: ignore[type-arg]
    """A person's particulars; the address is checked and compared as everywhere."""

    parsed: addresses.Address

    class Meta:
        model = Subscriber
        fields = ("address", "name", "text_only", "tracking")

    def clean_address(self) -> str:
        """The address as given, of which nobody else has the same one."""
        try:
            self.parsed = addresses.parse(self.cleaned_data["address"])
        except addresses.AddressError as error:
            raise ValidationError(str(error)) from error
        if Subscriber.objects.filter(address_key=self.parsed.key).exclude(pk=self.instance.pk).exists():
            raise ValidationError("Somebody is here with this address already: search for it in the list.")
        return self.parsed.given


class MembershipInline(base.TabularInline[Membership, Subscriber]):
    """The tiers a person holds."""

    model = Membership
    fields = ("tier", "kind", "starts_at", "ends_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """With the tier that each names."""
        return super().get_queryset(request).select_related("tier", "subscriber")


class SubscriptionInline(base.TabularInline[Subscription, Subscriber]):
    """What a person reads. A new row enrols them; the state of one changes on its own page."""

    model = Subscription
    fields = ("newsletter", "state", "changed")
    readonly_fields = ("state", "changed")
    can_delete = False
    verbose_name_plural = "subscriptions"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        """With the newsletter of each."""
        return super().get_queryset(request).select_related("newsletter", "subscriber")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Through `consent` alone, on the subscription's page."""
        return False

    @admin.display(description="status")
    def state(self, row: Subscription) -> str:
        """The status, leading to the page where it changes."""
        if row.pk is None:
            return "active from now on"
        return format_html(
            '<a class="text-primary-600 underline dark:text-primary-500" href="{}">{}</a>',
            reverse("admin:subscribers_subscription_change", args=[row.pk]),
            row.get_status_display(),
        )

    @admin.display(description="changed at")
    def changed(self, row: Subscription) -> str | None:
        """When the status last changed, of a row that is stored."""
        return date_format(localtime(row.changed_at), "DATETIME_FORMAT") if row.pk else None


class ConsentRecordInline(base.TabularInline[ConsentRecord, Subscriber]):
    """What a person agreed to and withdrew."""

    model = ConsentRecord
    fields = ("at", "action", "newsletter", "source", "reason")
    readonly_fields = fields
    ordering = ("-at", "-pk")
    can_delete = False
    verbose_name_plural = "consent"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ConsentRecord]:
        """With the newsletter of each."""
        return super().get_queryset(request).select_related("newsletter")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Records are made by what they record."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A record is never changed."""
        return False


@admin.register(Subscriber)
class SubscriberAdmin(footprints.NamelessLog[Subscriber], base.LargeModelAdmin[Subscriber]):
    """The pages of the people."""

    form = SubscriberForm
    list_display = ("address", "name", "tier", "created_at")
    search_fields = ("address_key", "name")
    search_help_text = finding.HELP
    nothing_yet = "Readers come by the form on a newsletter’s page, by an import, or one by one from here."
    fields = ("address", "name", "text_only", "tracking", "created_at")
    readonly_fields = ("created_at",)
    inlines = (SubscriptionInline, MembershipInline, ConsentRecordInline)
    actions = [act.as_action() for act in ACTS]
    change_form_outer_before_template = "admin/subscribers/above.html"
    delete_confirmation_template = "admin/subscribers/delete.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscriber]:
        """With the name of the highest tier that each holds now."""
        held = Membership.objects.current().filter(subscriber=OuterRef("pk")).order_by("-tier__level")
        return super().get_queryset(request).annotate(tier_name=Subquery(held.values("tier__name")[:1]))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Subscriber], search_term: str
    ) -> tuple[QuerySet[Subscriber], bool]:
        """The people with that address, or whose name begins so."""
        return (finding.people(search_term, queryset) if search_term else queryset), False

    def get_fields(self, request: HttpRequest, obj: Subscriber | None = None) -> tuple[str, ...]:
        """Since when a person is here, once they are."""
        return self.fields if obj else self.fields[:-1]

    def get_inlines(self, request: HttpRequest, obj: Subscriber | None) -> Any:
        """A person who is not here yet has no history."""
        return self.inlines if obj else self.inlines[:2]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one person, with what may be done beside its form; deleting is called erasing there."""
        row = self.get_object(request, object_id)
        above = {**acts.buttons(ACTS, self, request, row), **standing.standing(request, row)} if row else {}
        context = {**(extra_context or {}), **above, "show_delete": False}
        return super().change_view(request, object_id, form_url, context)

    def save_model(self, request: HttpRequest, obj: Subscriber, form: Any, change: bool) -> None:
        """Save a person; a new address and a choice of tracking go the way of every consent."""
        source = footprints.source(request)
        if not change:
            obj.address_key = form.parsed.key
            obj.fingerprint = addresses.fingerprint(form.parsed.key)
            super().save_model(request, obj, form, change)
            return
        obj.save(update_fields=["name", "text_only"])
        if "tracking" in form.changed_data:
            consent.choose_tracking(obj, tracking=Subscriber.Tracking(form.cleaned_data["tracking"]), source=source)
        if "address" in form.changed_data:
            with transaction.atomic():
                key = form.parsed.key
                target = Subscriber.objects.create(
                    address=form.parsed.given, address_key=key, fingerprint=addresses.fingerprint(key)
                )
                consent.change_address(obj, target, source=source)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save what stands below the form; a new subscription is enrolled."""
        if formset.model is not Subscription:
            super().save_formset(request, form, formset, change)
            return
        formset.save(commit=False)
        for row in formset.new_objects:
            consent.enrol(form.instance, row.newsletter, source=footprints.source(request))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Asks before it erases."""
        return super().delete_view(request, object_id, {**(extra_context or {}), "verb": "Erase"})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What erasing means, in a sentence."""
        return [ERASING], {}, set(), []

    def delete_model(self, request: HttpRequest, obj: Subscriber) -> None:
        """Erase the person."""
        consent.erase(obj, source=footprints.source(request))

    @admin.display(description="tier")
    def tier(self, row: Any) -> str:
        """The name of the highest tier held now."""
        return row.tier_name or "–"
