"""What came back. Written by `newsletter.events` alone."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from newsletter.models.dispatches import Delivery, Dispatch
from newsletter.models.newsletters import Newsletter
from subscribers.models import Subscriber


class Event(models.Model):
    """One hit or notice as it came, never merged or dropped: counts can be made anew from these rows."""

    class Kind(models.TextChoices):
        OPEN = "open"
        CLICK = "click"
        UNSUBSCRIBE = "unsubscribe"

    kind = models.CharField(max_length=11, choices=Kind)
    at = models.DateTimeField(db_default=Now())
    newsletter = models.ForeignKey(Newsletter, models.CASCADE, null=True)
    # None for anonymous tracking; the rows outlive the delivery and the reader.
    dispatch = models.ForeignKey(Dispatch, models.SET_NULL, null=True, related_name="events")
    delivery = models.ForeignKey(Delivery, models.SET_NULL, null=True, related_name="events")
    subscriber = models.ForeignKey(Subscriber, models.SET_NULL, null=True, related_name="events")
    url = models.TextField(blank=True, default="", help_text="Where a click led.")
    method = models.CharField(max_length=7, blank=True, default="")
    agent = models.CharField(max_length=300, blank=True, default="", help_text="The User-Agent header, cut.")
    network = models.CharField(max_length=43, blank=True, default="", help_text="The sender's network: /24 or /48.")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["dispatch", "kind", "at"], name="event_by_dispatch")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"
