"""Newsletters: what they are called, how they look, and their recurring sections."""

from __future__ import annotations

from django.contrib import admin

from newsletter.admin import base
from newsletter.models import Newsletter


@admin.register(Newsletter)
class NewsletterAdmin(base.ModelAdmin[Newsletter]):
    """The pages of newsletters."""

    list_display = ("name", "slug", "language", "time_zone", "tracking")
    search_fields = ("name", "slug")
