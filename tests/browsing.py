"""A real Chromium for tests: pages at the widths and in the schemes that readers have, and what axe finds on them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Container, Iterator
from pathlib import Path

import requests
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from newsletter.demo import services
from tests.conftest import Start
from tests.waiting import until

WIDTHS = {"phone": 375, "desktop": 1280}
SCHEMES = ("light", "dark")
# Nothing is loaded from anywhere but the server under test.
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]


def serve(start: Start, **changes: str) -> str:
    """Start the web server on the test's database; its address without a slash at the end."""
    port = services.free_port()
    address = f"http://127.0.0.1:{port}"
    server = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--blocking-threads", "4")
    granian = (sys.executable, "-m", "granian", "--interface", "wsgi", *server, "newsletter.wsgi:application")
    start(*granian, SITE_URL=address, **changes)
    until(lambda: _answers(address), "the web server answers", seconds=60)
    return address


def _answers(address: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{address}/readyz", timeout=5).status_code == 200
    return False


@contextlib.contextmanager
def chromium_at(path: str) -> Iterator[Browser]:
    """A headless Chromium, started from the program at `path`."""
    # While playwright works, an event loop runs in this thread, and Django takes that for asynchronous code.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
            yield browser
            browser.close()
    finally:
        if before is None:
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        else:
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


class Watched:
    """A page of a fresh browser, what it asked of whom, and everything it complained about."""

    def __init__(self, browser: Browser) -> None:
        # Without motion, so that no colour is looked at on its way to another.
        self.context = browser.new_context(reduced_motion="reduce")
        # What stands elsewhere is not fetched: tests know no network.
        self.context.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.fulfill(status=204))
        self.page: Page = self.context.new_page()
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_console)

    def _note_request(self, request: Request) -> None:
        self.requested.append(request.url)

    def _note_console(self, message: ConsoleMessage) -> None:
        # A page that says 404 is a 404; what it loads besides is what we look for.
        if message.type in ("error", "warning") and message.location.get("url") != self.page.url:
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def answer(self, url: str, status: int, body: bytes) -> None:
        """Answer `url` in place of the server, with an HTML page."""
        self.page.route(url, lambda route: route.fulfill(status=status, content_type="text/html", body=body))

    def show_at(self, *, width: str, scheme: str) -> None:
        """Show the page as it stands at one of WIDTHS and in one of SCHEMES."""
        self.page.set_viewport_size({"width": WIDTHS[width], "height": 800})
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")

    def foreign(self, address: str) -> list[str]:
        """What was asked of other hosts than `address`."""
        return [url for url in self.requested if not url.startswith((f"{address}/", "data:"))]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        wider: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wider

    def violations(self, impacts: Container[str] = ("minor", "moderate", "serious", "critical")) -> list[str]:
        """What axe finds on it, a line each: WCAG to level AA and good practice, as far as its impact is one of
        `impacts`. Frames are pages of their own."""
        found = Axe().run(self.page, options={"resultTypes": ["violations"], "iframes": False}).response["violations"]
        return [
            f"{violation['id']}: {violation['help']} — {node['html'][:200]} {node['failureSummary'][:300]}"
            for violation in found
            if violation["impact"] in impacts
            for node in violation["nodes"]
        ]

    def shoot(self, folder: str, name: str) -> None:
        """Keep a picture of the whole page in `folder`, for people to look at; nothing where it is empty."""
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def close(self) -> None:
        """Forget the page and all it kept."""
        self.context.close()
