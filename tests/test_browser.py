"""The whole way of an issue by mouse and keyboard: a real Chromium, web server, worker and mail server."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from newsletter import roles
from newsletter.demo import services
from tests.conftest import Start
from tests.making import BROWSER, make_newsletter, make_reader
from tests.smtp_sink import SmtpSink
from tests.test_end_to_end import FIXTURES, body, fetch, run
from tests.waiting import until

PASSWORD = "a long one for a test"
PAID_HEADING = "🧵 Yarns That Arrived This Week"
PAID_WORDS = "Nettle Nine"
FREE, PAYING, SLOW = "free@readers.example", "paying@readers.example", "slow-{}@readers.example"
READERS = 12


@contextmanager
def browsing(chromium: str) -> Iterator[Page]:
    """A page in a Chromium of its own. Whatever the browser refuses or complains of fails the test."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(f"{message.text} at {message.location}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        context = browser.new_context(viewport={"width": 1280, "height": 1000}, user_agent=BROWSER)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(f"{page.url} {error.stack}"))
        yield page
        browser.close()
    assert not complaints


@pytest.fixture
def desk(transactional_db: None) -> None:
    """A newsletter with readers, one of whom pays, and an editor."""
    newsletter = make_newsletter(name="Loom Weekly", upgrade_url="https://loom.example/upgrade")
    make_reader(newsletter, FREE)
    make_reader(newsletter, PAYING, tier="paid")
    for number in range(READERS - 2):
        make_reader(newsletter, SLOW.format(number))
    roles.ensure()
    editor = User.objects.create_user("ada", password=PASSWORD, email="ada@desk.example", is_staff=True)
    editor.groups.add(Group.objects.get(name="editor"))


def sign_in(page: Page, site: str) -> None:
    page.goto(f"{site}/admin/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def upload(page: Page, file: Path) -> None:
    """Import `file`, its section PAID_HEADING for paying readers; ends on the page of the draft."""
    page.get_by_role("link", name="Issues").first.click()
    page.get_by_role("link", name="Import a file").first.click()
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Show what is in it").click()
    choice = page.get_by_label(f"Who sees {PAID_HEADING}")
    choice.select_option(label="Paid and above; others see the heading with an upgrade button")
    page.get_by_role("button", name="Save as a draft").click()
    expect(page.get_by_text("is imported.")).to_be_visible()


def headings(page: Page) -> list[str]:
    """The folded sections of an issue's page, in order."""
    titles = page.locator("#sections-group .form-group.original h3 strong").all_inner_texts()
    return [title.split(" · ")[0] for title in titles]


def drag_last_above(page: Page, heading: str) -> None:
    """Drag the last section by its handle to the place of the one called `heading`."""
    rows = page.locator("#sections-group .form-group.original")
    handle, target = rows.last.locator("h3 > span").first, rows.filter(has_text=heading).first.locator("h3")
    handle.scroll_into_view_if_needed()
    handle.drag_to(target, target_position={"x": 40, "y": 4})


def schedule_and_take_back(page: Page) -> None:
    """Schedule the issue for a day far off, see what that means, and take it back."""
    page.get_by_role("link", name="Schedule or send").click()
    day = dt.date(dt.date.today().year + 1, 7, 1)
    page.get_by_label("Day").fill(f"{day}")
    page.get_by_label("Time").fill("08:00")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name=f"It goes out on {day:%a} 1 Jul {day.year}, 08:00 UTC")).to_be_visible()
    page.get_by_role("button", name="Schedule it").click()
    expect(page.get_by_text("unschedule it first")).to_be_visible()
    page.get_by_role("button", name="Unschedule").click()
    expect(page.get_by_text("the issue is a draft again")).to_be_visible()
    page.get_by_role("link", name="to the issue").click()


def send_now_and_watch(page: Page) -> None:
    """Send it, undo it, send it again, and watch until all of it is through."""
    page.get_by_role("link", name="Schedule or send").click()
    page.get_by_role("button", name="Send now").click()
    expect(page.get_by_text(re.compile(r"Starts in \d+ seconds"))).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("nothing was sent")).to_be_visible()
    page.get_by_role("link", name="to the issue").click()
    page.get_by_role("link", name="Schedule or send").click()
    page.get_by_role("button", name="Send now").click()
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible(timeout=30_000)
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(bar).to_have_attribute("aria-valuenow", re.compile(r"[1-9]\d"), timeout=30_000)
    expect(page.get_by_text(re.compile(r"^sent \d"))).to_be_visible(timeout=60_000)
    expect(bar).to_have_attribute("aria-valuenow", "100")
    expect(page.get_by_text("The sums agree")).to_be_visible()


def open_and_leave(page: Page, html: str) -> None:
    """Open a mail, click unsubscribe in it, undo that, and leave after all."""
    page.set_content(html)
    leave = page.get_by_role("link", name="Unsubscribe").get_attribute("href")
    assert leave is not None
    for last in (False, True):
        page.goto(leave)
        page.get_by_role("button", name="Unsubscribe").click()
        expect(page.get_by_role("heading", name="You have left")).to_be_visible()
        if not last:
            page.get_by_role("button", name="Undo").click()
            expect(page.get_by_role("heading", name="You are still here")).to_be_visible()


def number_on(page: Page, report: str, name: str) -> str:
    """What a report says now under `name`, without the share that stands beside."""
    page.goto(report)
    return page.locator("dl div", has=page.get_by_text(name, exact=True)).locator("dd").inner_text().split()[0]


def is_up(site: str) -> bool:
    """Whether the web server answers."""
    try:
        return fetch(f"{site}/healthz")[0] == 200
    except OSError:
        return False


@pytest.mark.django_db(transaction=True)
def test_an_issue_goes_its_whole_way_by_hand(
    environment: dict[str, str], desk: None, chromium: str, start: Start
) -> None:
    port = services.free_port()
    site = f"http://127.0.0.1:{port}"
    with SmtpSink(delay=0.3) as sink:
        environment |= {"SMTP_URL": sink.url, "SITE_URL": site, "CHUNK_SIZE": "1", "REDIS_URL": ""}
        start(
            sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "newsletter.wsgi:application"
        )
        start(sys.executable, "manage.py", "work")
        until(lambda: is_up(site), "the web server answers")
        with browsing(chromium) as page:
            sign_in(page, site)
            upload(page, FIXTURES / "loom-weekly-11.txt")

            before = headings(page)
            assert PAID_HEADING in before
            drag_last_above(page, before[1])
            counted = page.locator("#sections-group .form-group.original input[name$='-position']")
            expect(counted.first).to_have_value("1")
            expect(counted.last).to_have_value(f"{len(before)}")
            page.get_by_role("button", name="Save", exact=True).click()
            expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
            moved = [before[0], before[-1], *before[1:-1]]
            assert headings(page) == moved

            frame = page.frame_locator("iframe[name=preview-frame]")
            page.locator("#preview").scroll_into_view_if_needed()
            expect(frame.get_by_text("Upgrade to read it")).to_be_visible()
            expect(frame.get_by_text(PAID_WORDS)).to_have_count(0)
            page.get_by_label("Reader", exact=True).select_option(label="Paid")
            expect(frame.get_by_text(PAID_WORDS).first).to_be_visible()
            page.get_by_text("Phone", exact=True).click()
            box = page.locator("iframe[name=preview-frame]").bounding_box()
            assert box is not None
            assert box["width"] <= 377

            schedule_and_take_back(page)
            send_now_and_watch(page)
            assert sink.count() == READERS
            free, paying = (sink.messages(address)[0].parsed() for address in (FREE, PAYING))
            for kind in ("plain", "html"):
                assert PAID_WORDS not in body(free, kind)
                assert PAID_WORDS in body(paying, kind)
            places = [body(free, "plain").index(heading) for heading in moved if heading != "Lead"]
            assert places == sorted(places)

            report = page.url
            open_and_leave(page, body(free, "html"))
            for name in ("Opened", "Left by this mail"):
                until(lambda name=name: number_on(page, report, name) == "1", name)  # type: ignore[misc]

        second = run(environment, "import_issue", str(FIXTURES / "loom-weekly-4.txt"), "--newsletter", "weekly")
        done = run(environment, "send_issue", str(second["issue"]))
        assert (done["sent"], done["excluded"]) == (READERS - 1, {"unsubscribed": 1})
        assert (sink.count(FREE), sink.count(PAYING)) == (1, 2)
