"""Every page of the admin in a real Chromium, by day and by night, on a phone and on a desktop: axe finds nothing
grave, nothing is wider than the window, and nothing comes from anywhere else."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.admin_pages import make_site, paths
from tests.browsing import SCHEMES, WIDTHS, Watched, chromium_at, serve
from tests.conftest import Start

GRAVE = {"serious", "critical"}
# What Django's own widgets write, where none of our templates reaches: the box that finds a row by typing, and the
# link below a password.
OF_DJANGO = {
    "aria-input-field-name": "select2-",
    "link-in-text-block": 'href="../password/"',
}


@pytest.mark.looks
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.django_db(transaction=True)
def test_axe_finds_nothing_grave_on_any_page_of_the_admin(start: Start, chromium: str, scheme: str) -> None:
    make_site()
    staff = Client()
    staff.force_login(User.objects.create_superuser("desk"))
    looked_at = [path for path in paths() if _is_a_page(staff, path)]
    address = serve(start)
    found: set[str] = set()
    with chromium_at(chromium) as browser:
        watched = Watched(browser)
        watched.context.add_cookies([{"name": "sessionid", "value": staff.cookies["sessionid"].value, "url": address}])
        for path in looked_at:
            watched.show_at(width="desktop", scheme=scheme)  # before it loads: the theme asks for it once
            watched.page.goto(f"{address}{path}", wait_until="load")
            is_themed = watched.page.locator("html[x-data]").count() > 0  # a mail in its frame is not
            assert watched.page.locator("html.dark").count() == (is_themed and scheme == "dark"), path
            assert " object at 0x" not in watched.page.content(), path
            for width in WIDTHS if scheme == "light" else ("desktop",):  # by night only the colours are others
                watched.show_at(width=width, scheme=scheme)
                found |= {f"{path} {width} {line}" for line in watched.violations(GRAVE) if not of_django(line)}
                if watched.overflow() > 0:
                    found.add(f"{path} {width} is wider than the window")
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
