"""A site with something on every page of the admin, and where those pages are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from newsletter.hooks import occurring
from newsletter.models import Delivery, Dispatch, Event, Halt, Hook, Issue, Newsletter, Section, StandingSection
from subscribers import consent
from subscribers.models import Subscriber, Suppression, Tier
from tests.feeding import put, write
from tests.making import make_dispatch, make_hook, make_issue, make_newsletter, make_reader

# Of whose pages there are two kinds: an issue that went out and a draft, a role of ours and one of the site's own.
TWO_KINDS = {Issue, Group}


def paths() -> Iterator[str]:
    """Every page that can be looked at, for a row of each model or, where there are TWO_KINDS, its first and last."""
    yield reverse("admin:index")
    for model, model_admin in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        found: dict[str, None] = {}
        for page in sorted({pattern.name for pattern in model_admin.urls if pattern.name}):
            if page.startswith(name):
                found |= dict.fromkeys(filter(None, (_path(page), *(_path(page, row) for row in _rows(model)))))
        yield from found


def make_site() -> Newsletter:
    """A newsletter of which one issue went out and came back in part, and one is being written; and all around it."""
    newsletter = make_newsletter()
    dispatch = make_dispatch(newsletter, readers=3, paid="For those who pay.")
    for delivery, verdict in zip(dispatch.deliveries.all(), cycle(["hard", "soft", "block"]), strict=False):
        write(Event.Kind.BOUNCE, put(delivery, status=Delivery.Status.SENT), verdict=verdict, detail="550 no")
    make_issue(newsletter, paid="For those who pay.")
    make_hook()
    User.objects.create_user("ada").groups.add(Group.objects.get(name="author"))
    Group.objects.create(name="proofreaders").permissions.add(Permission.objects.get(codename="view_issue"))
    Halt.objects.create(reason="3 accepts for 2 mails.")
    add_to(newsletter)
    return newsletter


def add_to(newsletter: Newsletter) -> None:
    """One more row of whatever may be many, on the pages of rows that are there already."""
    number = Section.objects.count()
    standing = StandingSection.objects.create(newsletter=newsletter, name=f"Standing {number}")
    for issue in Issue.objects.all():
        Section.objects.create(
            issue=issue,
            position=number,
            heading=f"Section {number}",
            audience=Section.AudienceChoice.FROM_TIER,
            tier=Tier.objects.last(),
            standing_section=standing,
        )
    reader = make_reader(newsletter, tier="paid").subscriber
    consent.choose_tracking(reader, tracking=Subscriber.Tracking.OFF, source="test")
    consent.suppress(reader.fingerprint, reason=Suppression.Reason.MANUAL, source="test")
    for hook in Hook.objects.all():
        occurring.try_out(hook)
    for dispatch in Dispatch.objects.all():
        write(Event.Kind.BOUNCE, dispatch.deliveries.all()[0], verdict="soft")


def _rows(model: type[Model]) -> list[Model]:
    rows = model._default_manager.order_by("pk")
    found = [rows.first(), rows.last()] if model in TWO_KINDS else [rows.first()]
    return [row for row in found if row is not None]


def _path(page: str, row: Model | None = None) -> str:
    try:
        return reverse(f"admin:{page}", args=[row.pk] if row else [])
    except NoReverseMatch:
        return ""
