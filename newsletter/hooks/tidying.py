"""What was told is kept for KEPT_FOR, and then forgotten."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models.functions import Now

from newsletter.models import Call, Occurrence

KEPT_FOR = dt.timedelta(days=30)
CHUNK = 1000


def tidy() -> None:
    """Delete what happened before KEPT_FOR, and its calls, accepted or not; a chunk at a time, so that nobody waits."""
    old = Occurrence.objects.filter(at__lt=Now() - KEPT_FOR)
    while pks := list(old.values_list("pk", flat=True)[:CHUNK]):
        with transaction.atomic():
            Call.objects.filter(occurrence__in=pks).delete()
            Occurrence.objects.filter(pk__in=pks).delete()
