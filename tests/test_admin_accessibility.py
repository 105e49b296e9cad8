"""Every page of the admin in a real Chromium: axe finds nothing grave, and nothing comes from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import NoReverseMatch, reverse

from newsletter.models import Delivery, Event
from subscribers import consent
from subscribers.models import Suppression
from tests.browsing import SCHEMES, Watched, chromium_at, serve
from tests.conftest import Start
from tests.feeding import put, write
from tests.making import make_dispatch, make_newsletter, make_reader

GRAVE = {"serious", "critical"}
# What Django's own widgets write, where none of our templates reaches: the box that finds a row by typing, the two
# columns of permissions, and the link below a password.
OF_DJANGO = {
    "aria-input-field-name": "select2-",
    "aria-prohibited-attr": 'class="help-tooltip ',
    "link-in-text-block": 'href="../password/"',
}


def paths() -> Iterator[str]:
    """Every page that can be looked at without doing anything."""
    yield reverse("admin:index")
    for model, model_admin in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.order_by("pk").first()
        for page in sorted({pattern.name for pattern in model_admin.urls if pattern.name}):
            if not page.startswith(name):
                continue
            for args in ([], [row.pk] if row else None):
                if args is not None:
                    try:
                        yield reverse(f"admin:{page}", args=args)
                    except NoReverseMatch:
                        continue


@pytest.mark.django_db(transaction=True)
def test_axe_finds_nothing_grave_on_any_page_of_the_admin(start: Start, chromium: str) -> None:
    weekly = make_newsletter()
    make_dispatch(weekly, readers=3, paid="For those who pay.")
    mails = [put(delivery, status=Delivery.Status.SENT) for delivery in Delivery.objects.all()]
    for delivery, verdict in zip(mails, ["hard", "soft", "block"], strict=True):
        write(Event.Kind.BOUNCE, delivery, verdict=verdict, detail="550 no")
    consent.suppress(make_reader(weekly).subscriber.fingerprint, reason=Suppression.Reason.MANUAL, source="test")
    staff = Client()
    staff.force_login(User.objects.create_superuser("desk"))
    looked_at = [path for path in paths() if _is_a_page(staff, path)]
    address = serve(start)
    found: set[str] = set()
    with chromium_at(chromium) as browser:
        watched = Watched(browser)
        watched.context.add_cookies([{"name": "sessionid", "value": staff.cookies["sessionid"].value, "url": address}])
        for path in looked_at:
            watched.page.goto(f"{address}{path}", wait_until="load")
            for scheme in SCHEMES:
                watched.show_at(width="desktop", scheme=scheme)
                found |= {f"{path} {scheme} {line}" for line in watched.violations(GRAVE) if not of_django(line)}
        assert watched.foreign(address) == []
    assert found == set()


def of_django(line: str) -> bool:
    """Whether a violation is one of OF_DJANGO."""
    rule = line.partition(":")[0]
    return rule in OF_DJANGO and OF_DJANGO[rule] in line


def _is_a_page(staff: Client, path: str) -> bool:
    """Whether there is one, and not a piece that a page puts into itself."""
    response = staff.get(path)
    return response.status_code == 200 and "<title>" in response.content.decode(errors="replace")
