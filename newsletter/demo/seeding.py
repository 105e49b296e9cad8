"""A newsletter to look at: sections, readers on three tiers and two issues, all brought in the way an author would."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction

from newsletter import creation, importing
from newsletter.models import Newsletter, Section, StandingSection, Theme
from subscribers import consent
from subscribers import importing as importing_readers
from subscribers.models import FREE_LEVEL, Subscriber, Subscription, Tier

SLUG = "weekly"

_FOLDER = Path(__file__).parent
_READERS = _FOLDER / "readers.csv"
_ISSUES = (_FOLDER / "issues" / "1.md", _FOLDER / "issues" / "2.md")
_PAID = ("Papers That Matter",)
_PITCH = "🔑 Would you like the papers too?"  # a section for those who do not have them
_SECTIONS = (
    ("Story of the Week", ["🏆 Story of the Week", "🏆 The Story", "Top Story"]),
    ("Models That Dropped This Week", ["🤖 Models That Dropped This Week", "Models That Dropped", "New Models"]),
    ("Papers That Matter", ["🧠 Papers That Matter", "Papers"]),
    ("Some Good Reads", ["📝 Some Good Reads", "Good Reads"]),
    ("What This Week Was Really About", ["💡 What This Week Was Really About", "What This Week Was About"]),
    ("Quick Hits", ["⚡ Quick Hits", "In Short"]),
)
_PAUSED, _LEFT, _TEXT_ONLY = "lars.aberg@example.com", "rosa.maki@example.net", "erik.lindqvist@example.com"
_SOURCE = "demo"


def seed() -> bool:
    """Make the newsletter `SLUG` with all that belongs to it; False where there is one, which is left as it is."""
    with transaction.atomic():
        if Newsletter.objects.filter(slug=SLUG).exists():
            return False
        newsletter = Newsletter(
            slug=SLUG,
            name="The Lamplighter Weekly",
            description="Small models, good papers and a light left on: every Friday.",
            from_name="The Lamplighter",
            from_address="lamplighter@example.org",
            time_zone="Europe/Lisbon",
            postal_address="The Lamplighter, 12 Quay Street, Harbour Town",
            upgrade_url="https://example.org/lamplighter/upgrade",
            tracking=Newsletter.Tracking.INDIVIDUAL,
        )
        theme = Theme(
            accent="#9a3412",
            background="#f6f1ea",
            surface="#fffdf9",
            text="#2b2118",
            muted="#6b5d4f",
            dark_accent="#fdba74",
            dark_background="#14110d",
            dark_surface="#1f1a14",
            dark_text="#f1e8dc",
            dark_muted="#bcae9c",
            font="Georgia, 'Times New Roman', serif",
            footer="Written in the lamp room on Fridays. Write back: the keeper reads everything.",
        )
        creation.create(newsletter, theme)
        StandingSection.objects.bulk_create(
            StandingSection(newsletter=newsletter, name=name, aliases=aliases, position=position)
            for position, (name, aliases) in enumerate(_SECTIONS)
        )
        importing_readers.import_file(_READERS, newsletter)
        _vary(newsletter)
        for path in _ISSUES:
            importing.import_issue(newsletter, path.read_bytes(), filename=path.name, paid=_PAID, tease=True)
        _pitch(newsletter)
    return True


def _pitch(newsletter: Newsletter) -> None:
    """Who pays already is not asked to."""
    paid = Tier.objects.filter(level__gt=FREE_LEVEL).order_by("level").first()
    sections = Section.objects.filter(issue__newsletter=newsletter, heading=_PITCH)
    sections.update(audience=Section.AudienceChoice.BELOW_TIER, tier=paid)


def _vary(newsletter: Newsletter) -> None:
    """One reader pauses, one has left, one reads text only."""
    subscriptions = Subscription.objects.filter(newsletter=newsletter)
    consent.pause(subscriptions.get(subscriber__address_key=_PAUSED), source=_SOURCE)
    consent.unsubscribe(subscriptions.get(subscriber__address_key=_LEFT), source=_SOURCE)
    Subscriber.objects.filter(address_key=_TEXT_ONLY).update(text_only=True)
