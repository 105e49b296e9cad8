"""The demo's database made ready: `python -m newsletter.demo.preparing`, in the demo's environment.

A start that finds everything in place changes nothing. Says as JSON on stdout what there is:
`{"newsletter": slug, "issue": id, "title": …, "status": of its dispatch or null, "readers": who may be written to}`.
"""

from __future__ import annotations

import json
import os
from typing import Any

import django
from django.core.management import call_command

LOGIN = "demo"  # name and password: the demo listens on the loopback only


def prepare() -> dict[str, Any]:
    """Migrate, then make the demo data and the admin's login where they are missing. Needs Django set up."""
    from django.contrib.auth import get_user_model

    from newsletter.demo import seeding
    from newsletter.models import Dispatch, Issue
    from subscribers.models import Subscription

    call_command("migrate", verbosity=0, interactive=False)
    seeding.seed()
    accounts = get_user_model().objects
    if not accounts.filter(username=LOGIN).exists():
        accounts.create_superuser(LOGIN, password=LOGIN)
    issue = Issue.objects.filter(newsletter__slug=seeding.SLUG).order_by("number").first()
    if issue is None:
        raise SystemExit(f"The newsletter {seeding.SLUG} has no issue left; delete the demo's folder to begin anew.")
    dispatch = Dispatch.objects.filter(issue=issue).exclude(status=Dispatch.Status.CANCELLED).first()
    return {
        "newsletter": seeding.SLUG,
        "issue": issue.pk,
        "title": issue.title,
        "status": dispatch.status if dispatch else None,
        "readers": Subscription.objects.filter(newsletter=issue.newsletter).mailable().count(),
    }


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "newsletter.settings")
    django.setup()
    print(json.dumps(prepare()))  # noqa: T201
