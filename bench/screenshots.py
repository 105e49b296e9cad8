"""The pictures of the documentation: `make screenshots` starts the demo in a folder of its own, walks through it in a
real Chromium and writes docs/images/*.png.

PICTURES lists them: a name, how wide the window is, and what to do before the picture is taken.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from newsletter.demo import services

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
DESK, PHONE = (1280, 800), (390, 844)
LARGEST = 200_000  # bytes of one picture: the repository is cloned more often than they are looked at
READ = 25  # mails of the demo that are opened
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"
READY, SECONDS = "Ctrl-C stops everything.", 180

Walk = Callable[[Page, str], None]


@dataclass(frozen=True)
class Picture:
    """One file: `walk` is given the page, logged in to the admin where `admin` is, and the site's address."""

    name: str
    size: tuple[int, int]
    walk: Walk
    admin: bool = False
    dark: bool = False


def latest_mail(page: Page, site: str) -> None:
    """The mail of an issue, as the mailbox keeps it."""
    page.goto(f"{site}/mailbox/")
    page.locator(".mails a").last.click()


def mail_on_a_phone(page: Page, site: str) -> None:
    """The mail alone, as a phone shows it."""
    latest_mail(page, site)
    source = page.locator("iframe").get_attribute("src")
    page.goto(f"{site}{source}")


def mailbox(page: Page, site: str) -> None:
    """All mail, by reader."""
    page.goto(f"{site}/mailbox/")


def preferences(page: Page, site: str) -> None:
    """What a reader may choose; the link stands in the latest mail's text."""
    latest_mail(page, site)
    page.get_by_role("link", name="Text", exact=True).click()
    found = re.search(r"https?://\S+/p/\S+", page.locator("pre").inner_text())
    if found is None:
        raise SystemExit("The latest mail has no link to the preferences; look at it in the demo's mailbox.")
    page.goto(found[0])


def public_page(page: Page, site: str) -> None:
    """The newsletter's own page, with the form to subscribe."""
    page.goto(f"{site}/weekly/")


def issue_in_the_admin(page: Page, site: str) -> None:
    """An issue that is being written: its sections and who reads them."""
    page.goto(f"{site}/admin/newsletter/issue/")
    page.locator("#result_list a[href*='/change/']").first.click()


def dispatch_in_the_admin(page: Page, site: str) -> None:
    """How far a dispatch is, and where everybody stands."""
    page.goto(f"{site}/admin/newsletter/dispatch/")
    page.locator("#result_list a[href*='/change/']").first.click()


def report_in_the_admin(page: Page, site: str) -> None:
    """Who opened and clicked, once that is counted."""
    read_mails(page, site)
    deadline = time.monotonic() + SECONDS
    opened = page.locator("dt", has_text="Opened").locator("+ dd")
    while not page.url.startswith(f"{site}/admin/") or opened.inner_text().startswith("0"):
        if time.monotonic() > deadline:
            raise SystemExit("Nothing that readers did was counted; look at the demo's log.")
        dispatch_in_the_admin(page, site)
    page.locator("#results-title").evaluate("title => title.closest('section').scrollIntoView()")


def read_mails(page: Page, site: str) -> None:
    """Do what readers do: most mails of the issue are opened, in some of them a link is followed."""
    page.goto(f"{site}/mailbox/")
    mails = page.locator(".mails a").evaluate_all("links => links.map(link => link.href)")
    for number, mail in enumerate(mails[:READ]):
        page.goto(mail)
        frame = page.locator("iframe")
        if not frame.count():
            continue  # a mail that is text alone
        source = frame.get_attribute("src")
        body = page.request.get(f"{site}{source}").text()
        urls = [url for url in map(unescape, re.findall(r'(?:src|href)="([^"]+)"', body)) if url.startswith(site)]
        pixel = [url for url in urls if "/o/" in url][:1]
        link = [url for url in urls if "/c/" in url][number % 3 : number % 3 + 1] if number % 3 else []
        for url in (*pixel, *link):
            page.request.get(url, headers={"User-Agent": BROWSER}, max_redirects=0)


PICTURES = (
    Picture("admin-issue", DESK, issue_in_the_admin, admin=True),
    Picture("admin-issue-dark", DESK, issue_in_the_admin, admin=True, dark=True),
    Picture("admin-dispatch", DESK, dispatch_in_the_admin, admin=True),
    Picture("admin-report", DESK, report_in_the_admin, admin=True),
    Picture("mailbox", DESK, mailbox),
    Picture("mail-phone", PHONE, mail_on_a_phone),
    Picture("preferences", PHONE, preferences),
    Picture("subscribe", PHONE, public_page),
)


@contextlib.contextmanager
def demo() -> Iterator[str]:
    """A demo on a free port, with its data in a folder that goes with it; its address."""
    folder = Path(tempfile.mkdtemp(prefix="masthead-screenshots-"))
    port = services.free_port()
    environment = {**os.environ, "DATA_DIR": str(folder), "DEMO_PORT": str(port)}
    log = folder / "said"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*services.leash(), sys.executable, str(ROOT / "manage.py"), "demo"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while READY not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The demo did not start:\n{log.read_text()}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def log_in(page: Page, site: str) -> None:
    """Into the admin, with the name and password of the demo."""
    page.goto(f"{site}/admin/")
    page.fill("[name=username]", "demo")
    page.fill("[name=password]", "demo")
    page.press("[name=password]", "Enter")
    page.wait_for_url(lambda url: "/login/" not in url)


def take(browser: Browser, picture: Picture, site: str) -> Path:
    """Take one picture; the file. Raises SystemExit where it is too large to be kept."""
    width, height = picture.size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if picture.dark else "light"
    )
    page = context.new_page()
    if picture.admin:
        log_in(page, site)
    picture.walk(page, site)
    page.wait_for_load_state("networkidle")
    path = IMAGES / f"{picture.name}.png"
    page.screenshot(path=path)
    context.close()
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}: show less, or smaller.")
    return path


def main() -> None:
    """Take the pictures named as arguments, or all."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("No Chromium found: install it (on Debian: apt-get install chromium).")
    wanted = [picture for picture in PICTURES if picture.name in sys.argv[1:] or not sys.argv[1:]]
    IMAGES.mkdir(exist_ok=True)
    with demo() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for picture in wanted:
            path = take(browser, picture, site)
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
