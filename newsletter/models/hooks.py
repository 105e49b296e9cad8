"""Webhooks: where the author's own systems are told what happened. Rows are the queue here too."""

from __future__ import annotations

import uuid
from typing import ClassVar, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from newsletter.models.newsletters import Newsletter
from subscribers.models import Subscriber


class HookQuerySet(models.QuerySet["Hook"]):
    def working(self) -> Self:
        """Those that are called: wanted, and not switched off after failing."""
        return self.filter(enabled=True, disabled_at=None)


class Hook(models.Model):
    """An address of the author's own systems, and what is told to it.

    `enabled` is the author's word; `disabled_at` the site's, after long failure: what happens meanwhile waits. Every
    change of the fields from `failures` on is made in `newsletter.hooks.turns`.
    """

    newsletter = models.ForeignKey(
        Newsletter, models.CASCADE, null=True, blank=True, related_name="hooks", help_text="Empty: the whole site."
    )
    name = models.CharField(max_length=100, help_text="For you: what is called there.")
    url = models.CharField("URL", max_length=500)
    kinds = models.JSONField("what it is told", default=list)
    enabled = models.BooleanField(default=True, help_text="While it is off, nothing is kept for it.")
    secret = models.CharField(max_length=100, editable=False)
    old_secret = models.CharField(max_length=100, blank=True, default="", editable=False)
    old_secret_until = models.DateTimeField(null=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="In a row.")
    failing_since = models.DateTimeField(null=True, editable=False)
    last_failure = models.CharField(max_length=300, blank=True, default="", editable=False)
    succeeded_at = models.DateTimeField("last success", null=True, editable=False)
    rests_until = models.DateTimeField(null=True, editable=False, help_text="Not called before.")
    disabled_at = models.DateTimeField(null=True, editable=False)
    disabled_reason = models.CharField(max_length=300, blank=True, default="", editable=False)
    called_at = models.DateTimeField(null=True, editable=False)
    rung_at = models.DateTimeField(null=True, editable=False)
    lease_token = models.UUIDField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    # Until when it was looked whether time ended a membership.
    looked_at = models.DateTimeField(db_default=Now(), editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = HookQuerySet.as_manager()

    class Meta:
        verbose_name = "webhook"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(lease_token=None, leased_until=None)
                | Q(lease_token__isnull=False, leased_until__isnull=False),
                name="a_hook_lease_has_a_token_and_an_end",
            ),
            models.CheckConstraint(condition=Q(secret__startswith="whsec_"), name="a_hook_signs"),  # noqa: S106
        ]

    def __str__(self) -> str:
        return self.name


class Occurrence(models.Model):
    """Something that happened and that a hook wants to know: written in the transaction of the change itself.

    It names people by their public ids. Address and name are looked up when the call is made, so that erasing a person
    takes them from here too.
    """

    class Kind(models.TextChoices):
        REQUESTED = "subscription.requested", "Asked for, not confirmed yet"
        CONFIRMED = "subscription.confirmed", "Subscribed: confirmed by the reader"
        ENTERED = "subscription.entered", "Subscribed: entered by staff or from a file"
        PAUSED = "subscription.paused", "Paused"
        RESUMED = "subscription.resumed", "Resumed"
        UNSUBSCRIBED = "subscription.unsubscribed", "Unsubscribed"
        UPGRADED = "membership.upgraded", "A higher tier gained"
        DOWNGRADED = "membership.downgraded", "A tier lost"
        BOUNCED = "subscriber.bounced", "Mail does not arrive there any more"
        COMPLAINED = "subscriber.complained", "Complained of spam"
        SUPPRESSED = "subscriber.suppressed", "Suppressed by staff"
        UNSUPPRESSED = "subscriber.unsuppressed", "May be written to again"
        ADDRESS_CHANGED = "subscriber.address_changed", "Address changed"
        ERASED = "subscriber.erased", "Erased"
        SENT = "issue.sent", "An issue is sent"
        TEST = "hook.test", "A test"

    public_id = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=30, choices=Kind)
    at = models.DateTimeField(db_default=Now(), db_index=True)
    newsletter = models.ForeignKey(Newsletter, models.CASCADE, null=True, related_name="+")
    subscriber = models.ForeignKey(Subscriber, models.SET_NULL, null=True, related_name="+")
    data = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.kind} ({self.public_id})"


class CallQuerySet(models.QuerySet["Call"]):
    def due(self) -> Self:
        """Those to be made now, by the database's clock."""
        return self.filter(status=Call.Status.WAITING, due_at__lte=Now())


class Call(models.Model):
    """One occurrence told to one hook. Every change of `status` is made in `newsletter.hooks.turns`.

    WAITING -> CALLING -> ACCEPTED | WAITING (due_at later) | GIVEN_UP
    CALLING -> WAITING where the worker died; ACCEPTED, GIVEN_UP -> WAITING by the author's word
    """

    class Status(models.TextChoices):
        WAITING = "waiting"
        CALLING = "calling"
        ACCEPTED = "accepted"
        GIVEN_UP = "given_up", "Given up"

    hook = models.ForeignKey(Hook, models.CASCADE, related_name="calls", db_index=False)
    occurrence = models.ForeignKey(Occurrence, models.CASCADE, related_name="calls")
    status = models.CharField(max_length=8, choices=Status, default=Status.WAITING)
    due_at = models.DateTimeField(db_default=Now())
    tries = models.PositiveSmallIntegerField(default=0, help_text="Since it was asked for last.")
    number = models.PositiveIntegerField(default=0, help_text="Of the latest try, over all times.")
    status_code = models.PositiveSmallIntegerField(null=True)
    answer = models.CharField(max_length=300, blank=True, default="")
    tried_at = models.DateTimeField(null=True)
    took = models.DurationField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = CallQuerySet.as_manager()

    class Meta:
        verbose_name = "webhook call"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["occurrence", "hook"], name="one_call_per_hook_and_occurrence"),
            models.CheckConstraint(
                condition=~Q(status__in=["calling", "accepted", "given_up"]) | Q(number__gt=0),
                name="nothing_called_without_a_try",
            ),
        ]
        # The first for the queue; the others for the lists, one per way to narrow them.
        indexes: ClassVar = [
            models.Index(fields=["hook", "due_at", "id"], condition=Q(status="waiting"), name="call_waiting"),
            models.Index(fields=["hook", "status", "id"], name="call_by_both"),
            models.Index(fields=["hook", "id"], name="call_by_hook"),
            models.Index(fields=["status", "id"], name="call_by_status"),
        ]

    def __str__(self) -> str:
        return f"Call {self.pk} ({self.get_status_display().lower()})"
