"""A newsletter: its sender, its look, its recurring sections."""

from __future__ import annotations

import secrets
import zoneinfo
from dataclasses import fields
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator, URLValidator
from django.db import models
from django.db.models.functions import Now

from newsletter import utm
from newsletter.content import IssueContent, SectionContent, ThemeContent, TrackingMode, UtmContent, clean_line
from subscribers import addresses

COLOUR = RegexValidator(r"^#[0-9a-fA-F]{6}\Z", "Write a colour like #0b57d0.")
LANGUAGE = RegexValidator(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z", "Write a language like en or pt-BR.")
FONT = RegexValidator(r"^[A-Za-z0-9 ,'_-]+\Z", "Name fonts with letters, digits, spaces, hyphens, commas and quotes.")


def random_newsletter_id() -> int:
    """A random public id of 31 bits; short, since it stands in every link of every mail."""
    return secrets.randbits(31)


def validate_line(value: str) -> None:
    """Refuse text that would not stay one header line: line breaks, control and bidi-override characters."""
    if value != clean_line(value):
        raise ValidationError("Write it on one line, without control characters or doubled spaces.")


def validate_time_zone(value: str) -> None:
    """Refuse what is not a time zone of the IANA database."""
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ValidationError("Name a time zone like Europe/Berlin.") from error


def validate_utm(value: str) -> None:
    """Refuse a UTM value of more than one line, or with a field that there is not."""
    validate_line(value)
    if wrong := utm.problem(value):
        raise ValidationError(wrong)


class WebAddressField(models.URLField):  # type: ignore[type-arg]
    """A URL; one typed into a form without its scheme is taken for https, as Django 6 will."""

    def formfield(self, **kwargs: Any) -> Any:
        """Django's form field, told which scheme to assume."""
        return super().formfield(**{"assume_scheme": "https", **kwargs})

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """For the database it is Django's own field."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.URLField", args, kwargs


class Newsletter(models.Model):
    """A series one may subscribe to."""

    class Tracking(models.TextChoices):
        OFF = TrackingMode.OFF.value, "off"
        ANONYMOUS = TrackingMode.ANONYMOUS.value, "anonymous"
        INDIVIDUAL = TrackingMode.INDIVIDUAL.value, "individual"

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100, validators=[validate_line])
    public_id = models.BigIntegerField(unique=True, default=random_newsletter_id, editable=False)
    description = models.TextField(blank=True)
    from_name = models.CharField(max_length=100, blank=True, validators=[validate_line], help_text="Empty: the name.")
    from_address = models.EmailField(default="newsletter@localhost.localdomain")
    reply_to = models.EmailField(blank=True)
    language = models.CharField(max_length=20, default="en", validators=[LANGUAGE])
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    postal_address = models.CharField(
        max_length=300, blank=True, help_text="Stands in every mail; the law asks for it."
    )
    upgrade_url = WebAddressField(blank=True, help_text="Where a reader gets a higher tier.")
    tracking = models.CharField(max_length=10, choices=Tracking, default=Tracking.ANONYMOUS)
    ask_first = models.BooleanField(
        "only who agreed",
        default=False,
        help_text="With individual tracking: readers who were never asked are counted without saying whose it is.",
    )
    utm_source = models.CharField(
        "source", max_length=100, blank=True, validators=[validate_utm], help_text="utm_source; empty: not added."
    )
    utm_medium = models.CharField(
        "medium", max_length=100, blank=True, validators=[validate_utm], help_text="utm_medium, as a rule: email."
    )
    utm_campaign = models.CharField(
        "campaign",
        max_length=200,
        blank=True,
        validators=[validate_utm],
        help_text="utm_campaign, like {newsletter}-{number}.",
    )
    utm_hosts = models.JSONField(
        "hosts", default=list, blank=True, help_text="Only links to these hosts and what is below them; empty: all."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name

    @property
    def sender_name(self) -> str:
        """The name shown in the From header."""
        return self.from_name or self.name

    def content(self, *, theme: ThemeContent | None = None, **fields: Any) -> IssueContent:
        """Content in this newsletter's name and language; `fields` are those of IssueContent that differ.

        Without a `theme` it has the look that is saved.
        """
        saved = Theme.objects.filter(newsletter=self.pk).first() if theme is None else None
        return IssueContent(
            newsletter_slug=self.slug,
            newsletter_name=self.name,
            language=self.language,
            postal_address=self.postal_address,
            upgrade_url=self.upgrade_url,
            from_name=self.sender_name,
            from_address=_as_sent(self.from_address),
            reply_to=_as_sent(self.reply_to),
            utm=UtmContent(self.utm_source, self.utm_medium, self.utm_campaign, tuple(self.utm_hosts)),
            theme=theme or (saved.content() if saved else ThemeContent()),
            **fields,
        )

    def single_content(self, *, subject: str, body: str) -> IssueContent:
        """The content of one message to one person; `body` is Markdown."""
        return self.content(
            number=None,
            title=subject,
            subject=subject,
            preheader="",
            sections=(SectionContent(heading="", body=body),),
            single=True,
        )


def _as_sent(address: str) -> str:
    """`address` with its domain in the ASCII form that headers need; as it is where it is no address."""
    try:
        return addresses.parse(address).given
    except addresses.AddressError:
        return address


class Theme(models.Model):
    """How one newsletter's mail looks; the defaults are those of `content.ThemeContent`."""

    newsletter = models.OneToOneField(Newsletter, models.CASCADE, related_name="theme")
    accent = models.CharField(max_length=7, default=ThemeContent.accent, validators=[COLOUR])
    background = models.CharField(max_length=7, default=ThemeContent.background, validators=[COLOUR])
    surface = models.CharField(max_length=7, default=ThemeContent.surface, validators=[COLOUR])
    text = models.CharField(max_length=7, default=ThemeContent.text, validators=[COLOUR])
    muted = models.CharField(max_length=7, default=ThemeContent.muted, validators=[COLOUR])
    dark_accent = models.CharField(max_length=7, default=ThemeContent.dark_accent, validators=[COLOUR])
    dark_background = models.CharField(max_length=7, default=ThemeContent.dark_background, validators=[COLOUR])
    dark_surface = models.CharField(max_length=7, default=ThemeContent.dark_surface, validators=[COLOUR])
    dark_text = models.CharField(max_length=7, default=ThemeContent.dark_text, validators=[COLOUR])
    dark_muted = models.CharField(max_length=7, default=ThemeContent.dark_muted, validators=[COLOUR])
    font = models.CharField(max_length=200, default=ThemeContent.font, validators=[FONT])
    logo_url = WebAddressField(blank=True, validators=[URLValidator(["http", "https"])])
    logo_alt = models.CharField(max_length=100, blank=True)
    width = models.PositiveSmallIntegerField(default=ThemeContent.width)
    footer = models.TextField(blank=True, help_text="Markdown, above the postal address.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(width__gte=320, width__lte=900),
                name="theme_width_fits_a_mail",
                violation_error_message="A mail is 320 to 900 pixels wide.",
            )
        ]

    def __str__(self) -> str:
        return f"Theme of {self.newsletter}"

    def content(self) -> ThemeContent:
        """The theme as plain values, to be frozen with an issue."""
        return ThemeContent(**{field.name: getattr(self, field.name) for field in fields(ThemeContent)})


class StandingSection(models.Model):
    """A recurring section: the heading it has in every issue, and other ways its heading is written."""

    newsletter = models.ForeignKey(Newsletter, models.CASCADE, related_name="standing_sections")
    name = models.CharField(max_length=200, validators=[validate_line])
    aliases = models.JSONField(default=list, blank=True, help_text="Other headings that mean this section.")
    position = models.PositiveIntegerField(default=0)

    class Meta:
        ordering: ClassVar = ["position", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["newsletter", "name"], name="one_standing_section_per_name")
        ]

    def __str__(self) -> str:
        return self.name
