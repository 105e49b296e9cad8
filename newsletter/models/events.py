"""What came back. Written by `newsletter.events` alone."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
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
        ACCEPTED = "accepted"
        DELIVERED = "delivered"
        DEFERRED = "deferred"
        BOUNCE = "bounce"
        COMPLAINT = "complaint"

    class Judged(models.TextChoices):
        PERSON = "person"
        MACHINE = "machine"
        UNKNOWN = "unknown"

    kind = models.CharField(max_length=11, choices=Kind)
    at = models.DateTimeField(db_default=Now())
    # Whatever comes may come again: the same hit or notice has the same key and is one row.
    key = models.UUIDField(null=True, unique=True)
    source = models.CharField(max_length=40, blank=True, default="", help_text="Which way it came: pixel, smtp, mail …")
    newsletter = models.ForeignKey(Newsletter, models.CASCADE, null=True, db_index=False)
    # None for anonymous tracking; the rows outlive the delivery and the reader. The database does not look each of
    # these up: that would lock the rows that a send is writing.
    dispatch = models.ForeignKey(
        Dispatch, models.SET_NULL, null=True, related_name="events", db_index=False, db_constraint=False
    )
    delivery = models.ForeignKey(Delivery, models.SET_NULL, null=True, related_name="events", db_constraint=False)
    subscriber = models.ForeignKey(Subscriber, models.SET_NULL, null=True, related_name="events", db_constraint=False)
    url = models.TextField(blank=True, default="", help_text="Where a click led.")
    method = models.CharField(max_length=7, blank=True, default="")
    agent = models.CharField(max_length=300, blank=True, default="", help_text="The User-Agent header, cut.")
    network = models.CharField(max_length=43, blank=True, default="", help_text="The sender's network: /24 or /48.")
    prefetch = models.BooleanField(default=False, help_text="The request said that nobody had asked for it yet.")
    since_sent = models.FloatField(null=True, help_text="Seconds since the message was handed over.")
    judged = models.CharField(max_length=7, choices=Judged, default=Judged.UNKNOWN, help_text="Who made the hit.")
    reasons = models.CharField(max_length=200, blank=True, default="", help_text="Why it is judged so, with commas.")
    verdict = models.CharField(
        max_length=12, blank=True, default="", help_text="Of what came back: hard, soft, block or complaint."
    )
    detail = models.CharField(max_length=500, blank=True, default="", help_text="What the other side said, no address.")

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["dispatch", "kind", "at"], name="event_by_dispatch"),
            # For the list of what came back, one per way to narrow it: a page is read in its order from the index.
            *(
                models.Index(fields=[*fields, "id"], condition=~Q(verdict=""), name=name)
                for name, fields in (
                    ("event_back", ()),
                    ("event_back_by_newsletter", ("newsletter",)),
                    ("event_back_by_verdict", ("verdict",)),
                    ("event_back_by_reasons", ("reasons",)),
                )
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} on {self.at.day} {self.at:%B %Y, %H:%M %Z}"


class Bounce(Event):
    """An event that has a verdict: a bounce or a complaint."""

    class Meta:
        proxy = True


class BounceMailbox(models.Model):
    """A mailbox that bounces arrive in, read by one worker at a time; what is known of it from look to look.

    `left` are the mails that stay there, by UID, so that they are not fetched each time: see `newsletter.fetching`.
    """

    place = models.CharField(max_length=300, unique=True, help_text="Where it is, without the password.")
    rung_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True, help_text="When it was last read without trouble.")
    trouble = models.CharField(max_length=500, blank=True, default="", help_text="Why it could not be read.")
    left = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "bounce mailboxes"

    def __str__(self) -> str:
        return self.place


class Tally(models.Model):
    """How many opens or clicks a dispatch has, by who made them; kept as they come, so that no report counts rows.

    `url` is "" for all of them, else the link that they came by, whose `url_digest` keeps the row unique.
    """

    dispatch = models.ForeignKey(Dispatch, models.CASCADE, related_name="tallies", db_index=False)
    kind = models.CharField(max_length=11, choices=Event.Kind)
    judged = models.CharField(max_length=7, choices=Event.Judged)
    url_digest = models.CharField(max_length=32, blank=True, default="")
    url = models.TextField(blank=True, default="")
    hits = models.PositiveIntegerField(default=0)
    readers = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "tallies"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dispatch", "kind", "judged", "url_digest"], name="one_tally_of_a_kind")
        ]

    def __str__(self) -> str:
        return f"{self.hits} × {self.kind} by {self.judged}"


class Hour(models.Model):
    """How many hits of one kind a dispatch had in an hour (UTC), by who made them: what the report's picture shows.

    Counted from the rows when hits are judged together, an hour at a time, and kept when those rows have gone.
    """

    dispatch = models.ForeignKey(Dispatch, models.CASCADE, related_name="hours", db_index=False)
    at = models.DateTimeField(help_text="When the hour begins.")
    kind = models.CharField(max_length=11, choices=Event.Kind)
    judged = models.CharField(max_length=7, choices=Event.Judged)
    hits = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dispatch", "at", "kind", "judged"], name="one_count_of_an_hour")
        ]

    def __str__(self) -> str:
        return f"{self.hits} × {self.kind} by {self.judged} from {self.at}"


class Mark(models.Model):
    """How far something got that goes through rows in the order of their ids: it begins after `value` the next time,
    and had `seen` rows up to that one. `begun_at` is when it began last."""

    name = models.CharField(max_length=40, unique=True)
    value = models.BigIntegerField(default=0)
    seen = models.BigIntegerField(default=0)
    begun_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"
