"""A newsletter begins: its row, its theme, and the site's first tiers."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction

from newsletter.models import Newsletter, Theme
from newsletter.slugs import validate_newsletter_slug
from subscribers import tiers


def create(newsletter: Newsletter, theme: Theme | None = None) -> None:
    """Save `newsletter` with `theme` (the default look without one), and the default tiers where there are none.

    Raises ValidationError for a field that cannot be used, a slug that is taken, or one that another page needs.
    """
    theme = theme or Theme()
    if Newsletter.objects.filter(slug=newsletter.slug).exists():
        raise ValidationError(f"There is a newsletter “{newsletter.slug}” already; choose another slug.")
    try:
        validate_newsletter_slug(newsletter.slug)
    except ValidationError as error:
        raise ValidationError({"slug": error.messages}) from error
    newsletter.full_clean()
    theme.full_clean(exclude=["newsletter"])
    with transaction.atomic():
        tiers.ensure_default()
        newsletter.save()
        theme.newsletter = newsletter
        theme.save()
