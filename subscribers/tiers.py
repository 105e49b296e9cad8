"""The tiers a site starts with."""

from __future__ import annotations

from subscribers.models import FREE_LEVEL, Tier

DEFAULT = (("free", "Free", FREE_LEVEL), ("paid", "Paid", 1), ("founding", "Founding", 2))


def ensure_default() -> None:
    """Make the tiers free, paid and founding where the site has none; tiers that somebody made are left alone."""
    if not Tier.objects.exists():
        rows = [Tier(slug=slug, name=name, level=level) for slug, name, level in DEFAULT]
        Tier.objects.bulk_create(rows, ignore_conflicts=True)
