"""An issue as its author writes it, and the revisions that dispatches pin."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from newsletter.content import Audience, AudienceKind, IssueContent, SectionContent, WhenLocked
from newsletter.models.newsletters import Newsletter, StandingSection, validate_line
from subscribers.models import random_id


class Issue(models.Model):
    """One edition of a newsletter. Whether it is scheduled or sent is told by its dispatch, never stored here."""

    newsletter = models.ForeignKey(Newsletter, models.PROTECT, related_name="issues")
    number = models.PositiveIntegerField(null=True, blank=True)
    title = models.CharField(max_length=300, validators=[validate_line])
    subject = models.CharField(max_length=300, validators=[validate_line])
    preheader = models.CharField(
        max_length=300, blank=True, validators=[validate_line], help_text="Empty: the first words."
    )
    date = models.DateField(null=True, blank=True)
    public_id = models.BigIntegerField(unique=True, default=random_id, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["newsletter", "number"],
                condition=Q(number__isnull=False),
                name="one_issue_per_number",
                violation_error_message="Another issue of this newsletter has that number.",
            )
        ]

    def __str__(self) -> str:
        return self.title

    def content(self) -> IssueContent:
        """The issue as it stands now, as plain values: what a preview shows and a revision freezes."""
        sections = self.sections.select_related("tier").order_by("position", "pk")
        return self.newsletter.content(
            number=self.number,
            title=self.title,
            subject=self.subject,
            preheader=self.preheader,
            sections=tuple(section.content() for section in sections),
            date=self.date,
        )


class Section(models.Model):
    """A block of an issue, with an audience.

    Deleting a tier leaves the sections that named it with an audience that the gate does not know, so that everybody
    sees what a free reader sees.
    """

    class AudienceChoice(models.TextChoices):
        EVERYONE = AudienceKind.EVERYONE.value, "everyone"
        FROM_TIER = AudienceKind.FROM_TIER.value, "a tier and above"
        BELOW_TIER = AudienceKind.BELOW_TIER.value, "below a tier"

    class WhenLockedChoice(models.TextChoices):
        HIDE = WhenLocked.HIDE.value, "leave it out"
        TEASE = WhenLocked.TEASE.value, "its heading with an upgrade button"

    issue = models.ForeignKey(Issue, models.CASCADE, related_name="sections")
    position = models.PositiveIntegerField(default=0)
    heading = models.CharField(max_length=300, blank=True, validators=[validate_line])
    body = models.TextField(blank=True, help_text="Markdown.")
    audience = models.CharField(max_length=10, choices=AudienceChoice, default=AudienceChoice.EVERYONE)
    tier = models.ForeignKey("subscribers.Tier", models.SET_NULL, null=True, blank=True)
    when_locked = models.CharField(max_length=5, choices=WhenLockedChoice, default=WhenLockedChoice.HIDE)
    standing_section = models.ForeignKey(StandingSection, models.SET_NULL, null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["position", "pk"]

    def __str__(self) -> str:
        return self.heading or "Lead"

    def content(self) -> SectionContent:
        """The section as plain values."""
        return SectionContent(
            heading=self.heading,
            body=self.body,
            audience=Audience(AudienceKind(self.audience), self.tier.level if self.tier else None),
            when_locked=WhenLocked(self.when_locked),
            standing_section=self.standing_section_id,
        )


class Revision(models.Model):
    """An issue's content, frozen; a dispatch sends one, whatever the author edits afterwards."""

    issue = models.ForeignKey(
        Issue, models.PROTECT, null=True, related_name="revisions", help_text="Empty for a single message."
    )
    data = models.JSONField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"Revision {self.pk} of {self.issue or 'a single message'}"

    @property
    def content(self) -> IssueContent:
        """The frozen content."""
        return IssueContent.from_json(self.data)
