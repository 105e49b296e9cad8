"""The demo's database made ready: `python -m newsletter.demo.preparing`, in the demo's environment.

A start that finds everything in place changes nothing. Says as JSON on stdout what there is:
`{"issue": id, "title": …, "status": of its dispatch or null, "readers": how many}`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import django
from django.core.management import call_command
from django.db import transaction

NEWSLETTER = "weekly"
LOGIN = "demo"  # name and password: the demo listens on the loopback only


def prepare() -> dict[str, Any]:
    """Migrate, then make the demo data and the admin's login where they are missing. Needs Django set up."""
    from django.contrib.auth import get_user_model

    from newsletter.models import Dispatch, Issue, Newsletter
    from subscribers.models import Subscription

    call_command("migrate", verbosity=0, interactive=False)
    with transaction.atomic():  # half a demo would be taken for a whole one at the next start
        if not Newsletter.objects.filter(slug=NEWSLETTER).exists():
            call_command("seed_demo", stdout=sys.stderr)
        accounts = get_user_model().objects
        if not accounts.filter(username=LOGIN).exists():
            accounts.create_superuser(LOGIN, password=LOGIN)
    issue = Issue.objects.filter(newsletter__slug=NEWSLETTER).order_by("number").first()
    if issue is None:
        raise SystemExit(
            f"The newsletter {NEWSLETTER} has no issue left to show; delete the demo's folder to begin anew."
        )
    dispatch = Dispatch.objects.filter(issue=issue).exclude(status=Dispatch.Status.CANCELLED).first()
    readers = Subscription.objects.filter(newsletter=issue.newsletter, status="active").count()
    return {
        "issue": issue.pk,
        "title": issue.title,
        "status": dispatch.status if dispatch else None,
        "readers": readers,
    }


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "newsletter.settings")
    django.setup()
    print(json.dumps(prepare()))  # noqa: T201
