"""Every page that readers see, in each of its states, driven through a real Chromium: axe finds nothing, nothing is
wider than a phone, no browser refuses our forms, and nothing is loaded from anywhere else.

SCREENSHOTS may name a folder that pictures of all pages are kept in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db.models import F
from django.http import HttpRequest

from newsletter import sending, tracking
from newsletter.demo import services
from newsletter.models import Batch, Delivery, Dispatch, Newsletter, StandingSection, Theme
from newsletter.settings import ENV
from newsletter.views import errors
from subscribers import consent, one_time, subscribing, tiers
from subscribers.models import ConsentRecord, FormPost, OneTimeLink, Subscriber, Subscription
from tests.browsing import SCHEMES, WIDTHS, Watched, chromium_at, serve
from tests.conftest import Start
from tests.making import issue_of, make_dispatch, make_newsletter, make_reader
from tests.waiting import until

PICTURE = "https://pictures.example/lamp.png"  # of the author's choice; nothing answers there
BODY = """\
A paragraph with a [link](https://example.org/read), **bold**, *italic* and `code`.

> A quote that goes on for a line or two, as they do in letters.

- one
- two

| Model | Size |
|---|---|
| Lamp | 7 B |

```python
def light(lamp: Lamp) -> bool:
    return lamp.lit  # at dusk
```

![A lamp](https://pictures.example/lamp.png)

[A button](https://example.org/button){.button}
"""


@dataclass
class Site:
    """A site with something in every corner, and a browser that looks at it."""

    address: str
    newsletter: Newsletter
    dispatch: Dispatch
    watched: Watched
    seen: list[str]

    def look(self, state: str) -> None:
        """The page as it stands now, on a phone and on a desk, by day and by night: nothing may be wrong with it."""
        self.seen.append(state)
        for width, scheme in product(WIDTHS, SCHEMES):
            name = f"{state}, {width}, {scheme}"
            self.watched.show_at(width=width, scheme=scheme)
            self.watched.shoot(os.environ.get("SCREENSHOTS", ""), name.replace(", ", "-"))
            assert self.watched.violations() == [], name
            assert self.watched.overflow() <= 0, f"{name}: wider than the window"
        assert self.watched.complaints == [], state

    def open(self, path: str, state: str, status: int = 200) -> None:
        response = self.watched.page.goto(self.address + path)
        assert response is not None
        assert response.status == status, path
        self.look(state)

    def press(self, button: str, state: str) -> None:
        self.watched.page.get_by_role("button", name=button).first.click()
        self.watched.page.wait_for_load_state()
        self.look(state)

    def fill(self, label: str, value: str) -> None:
        self.watched.page.get_by_label(label).fill(value)

    def reader(self, **fields: Any) -> tuple[Subscriber, str]:
        """A new reader and their token."""
        subscriber = make_reader(self.newsletter, **fields).subscriber
        return subscriber, tracking.reader_token(subscriber.public_id, self.newsletter.public_id)

    def mailed(self) -> str:
        """The path behind the button of the latest single message."""
        body = Dispatch.objects.filter(kind=Dispatch.Kind.SINGLE).latest("pk").revision.content.sections[0].body
        return urlsplit(body.partition("](")[2].partition(")")[0]).path


@pytest.fixture
def mailbox(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The store of a local mail server that this process sends to."""
    store, port = tmp_path / "mailbox.sqlite3", services.free_port()
    start(sys.executable, "manage.py", "mailbox_server", "--port", str(port), "--store", str(store))
    until(store.exists, "the mail server's store")
    monkeypatch.setitem(ENV.__dict__, "smtp_url", f"smtp://127.0.0.1:{port}")
    monkeypatch.delattr(sending._local, "transport", raising=False)
    yield store
    if hasattr(sending._local, "transport"):
        sending._local.transport.close()
        del sending._local.transport


@pytest.fixture
def site(chromium: str, start: Start, mailbox: Path, settings: Any, transactional_db: None) -> Iterator[Site]:
    settings.SITE_URL = serve(start, MAILBOX_PATH=str(mailbox))
    tiers.ensure_default()
    weekly = make_newsletter(description="What a week of reading brought.\n\nEvery Friday.")
    Theme.objects.create(newsletter=weekly, accent="#9a3412", background="#f6f1ea", dark_accent="#fdba74")
    for name in ("News", "Papers That Matter"):
        StandingSection.objects.create(newsletter=weekly, name=name)
    make_reader(weekly, "ada@readers.example", tier="paid")
    make_reader(weekly, "ben@readers.example")
    dispatch = make_dispatch(weekly, paid=BODY, title="An issue with everything in it", preheader="What it is about")
    with chromium_at(chromium) as browser:
        watched = Watched(browser)
        yield Site(settings.SITE_URL, weekly, dispatch, watched, [])
        assert set(watched.foreign(settings.SITE_URL)) <= {PICTURE}
        watched.close()


def public_pages(site: Site) -> None:
    site.open("/", "home")
    site.open("/weekly/", "newsletter")
    site.open(f"/weekly/{issue_of(site.dispatch).number}/", "public-issue")
    delivery = Delivery.objects.get(dispatch=site.dispatch, subscriber__address_key="ada@readers.example")
    assert delivery.subscriber
    token = tracking.reader_token(delivery.subscriber.public_id, site.newsletter.public_id, delivery.pk)
    site.open(f"/i/{token}", "web-view")


def subscribe(site: Site) -> None:
    site.open("/weekly/subscribe", "subscribe")
    site.fill("Your e-mail address", "ada@")
    site.press("Subscribe", "subscribe-wrong")
    site.fill("Your e-mail address", "jörg@bücher.example")
    site.fill("Your name, if you like", "Jörg")
    site.press("Subscribe", "subscribe-sent")
    path = site.mailed()
    make_newsletter(slug="tides", name="The Tides")
    other = Newsletter.objects.get(slug="tides")
    asked = ConsentRecord.objects.get(source=subscribing.FORM)
    assert asked.subscriber
    consent.request(asked.subscriber, other, source=subscribing.FORM_WITHOUT_MAIL, evidence=consent.Evidence())
    site.open(path, "confirm")
    site.watched.page.get_by_label("The Tides").check()
    site.press("Confirm", "confirmed")
    active = Subscription.objects.filter(subscriber=asked.subscriber, status=Subscription.Status.ACTIVE)
    assert active.count() == 2
    ConsentRecord.objects.update(at=F("at") - timedelta(days=15))
    site.open(path, "confirm-over", 410)


def leave(site: Site) -> None:
    _, token = site.reader()
    site.open(f"/u/{token}", "unsubscribe")
    site.press("Unsubscribe", "left")
    site.press("Undo", "undone")
    site.open(f"/u/{token}", "unsubscribe-again")
    site.press("Unsubscribe", "left-again")
    site.watched.page.evaluate("document.querySelector('[name=undo]').value = 'too late'")
    site.press("Undo", "undo-over")


def choose(site: Site) -> None:
    subscriber, token = site.reader()
    other = Newsletter.objects.exclude(pk=site.newsletter.pk).first() or make_newsletter(slug="tides")
    Subscription.objects.create(subscriber=subscriber, newsletter=other, status=Subscription.Status.ACTIVE)
    site.open(f"/p/{token}", "preferences")
    site.watched.page.get_by_label("News", exact=True).uncheck()
    site.press("Save", "preferences-saved")
    assert Subscription.objects.get(subscriber=subscriber, newsletter=site.newsletter).muted_sections
    site.watched.page.get_by_label("For how long?").select_option("For a month")
    site.press("Pause", "preferences-paused")
    site.press("Resume", "preferences-resumed")
    site.watched.page.evaluate("document.querySelector('[value=pause]').value = 'nonsense'")
    site.press("Pause", "preferences-refused")
    site.open(f"/p/{token}", "preferences-again")
    site.press("Send me a link", "preferences-link")
    site.press("Leave The Weekly", "preferences-left")
    consent.erase(subscriber, source="test")
    site.open(f"/p/{token}", "nothing-kept")


def act_on_data(site: Site) -> None:
    site.open("/account", "account")
    site.press("Send me a link", "account-wrong")
    site.fill("Your e-mail address", "ben@readers.example")
    site.press("Send me a link", "account-sent")
    site.open(site.mailed(), "link-open")
    site.press("Show my data", "data")
    pages = urlsplit(site.watched.page.url).path
    with site.watched.page.expect_download() as download:
        site.watched.page.get_by_role("button", name="Download as JSON").click()
    assert "ben@readers.example" in Path(download.value.path()).read_text(encoding="utf-8")
    site.fill("New e-mail address", "ben@")
    site.press("Send a link to the new address", "data-wrong")
    site.fill("New e-mail address", "ben@elsewhere.example")
    site.press("Send a link to the new address", "address-asked")
    new = site.mailed()
    site.open(f"{pages}/erase", "erase")
    site.open(new, "link-address")
    site.press("Use this address", "address-taken")
    assert Subscriber.objects.filter(address_key="ben@elsewhere.example").exists()
    site.open(new, "link-over", 410)
    ben = Subscriber.objects.get(address_key="ben@elsewhere.example")
    site.open(f"/a/{one_time.issue(ben, OneTimeLink.Purpose.VISIT)}/erase", "erase-again")
    site.press("Erase everything", "erased")
    assert not Subscriber.objects.filter(pk=ben.pk).exists()
    theirs, _ = site.reader()
    ada = Subscriber.objects.get(address_key="ada@readers.example")
    site.open(f"/a/{one_time.issue(ada, OneTimeLink.Purpose.ADDRESS, target=theirs)}", "link-address-again")
    site.press("Use this address", "address-refused")


def what_goes_wrong(site: Site) -> None:
    site.open("/u/forged", "404", 404)
    _, token = site.reader()
    site.open(f"/i/{token}", "issue-gone", 404)
    site.watched.page.goto("about:blank")
    site.watched.page.set_content(
        f"<form method=post action='{site.address}/account'><input name=address><button>Go</button></form>"
    )
    site.press("Go", "403")
    assert "from another site" in site.watched.page.content()
    FormPost.objects.bulk_create([FormPost(form="account", network="127.0.0.0/24") for _ in range(60)])
    site.open("/account", "account-before")
    site.press("Send me a link", "429")
    assert "Too many" in site.watched.page.content()
    ours = {400: errors.bad_request(HttpRequest(), ValueError()), 500: errors.broken(HttpRequest())}
    for status, response in ours.items():
        site.watched.answer(f"{site.address}/{status}", status, response.content)
        site.open(f"/{status}", str(status), status)


def read_the_mail(site: Site) -> None:
    site.open("/mailbox/", "mailbox-empty")
    for batch in Batch.objects.filter(dispatch=site.dispatch):
        sending.send_batch(batch)
    assert ENV.smtp_url
    site.open("/mailbox/", "mailbox")
    site.watched.page.get_by_label("Search").fill("ada@readers")
    site.press("Search", "mailbox-found")
    site.watched.page.get_by_role("link", name="ada@readers.example").last.click()
    site.watched.page.wait_for_load_state()
    site.look("mailbox-html")
    for form in ("Text", "Headers", "Source"):
        site.watched.page.get_by_role("link", name=form, exact=True).click()
        site.watched.page.wait_for_load_state()
        site.look(f"mailbox-{form.lower()}")
    site.open("/mailbox/?q=nothing+like+that", "mailbox-nothing-found")
    site.open("/mailbox/", "mailbox-before-emptying")
    site.watched.page.get_by_text("Empty the mailbox…").click()
    site.look("mailbox-emptying")
    site.press("Delete all mail", "mailbox-emptied")
    assert "No mail yet" in site.watched.page.content()


WALKS = [public_pages, subscribe, leave, choose, act_on_data, what_goes_wrong, read_the_mail]


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.__name__)
def test_nothing_stands_in_a_readers_way(site: Site, walk: Callable[[Site], None]) -> None:
    walk(site)
    assert len(site.seen) == len(set(site.seen)) >= 4
