"""A view of an issue to a mail: HTML, text, subject and preheader, with slots where readers differ. Writes nothing.

`render` is the one way from author text to bytes: mail, web view, preview and test mail all come through here, after
the gate. What it gives is the same for every reader of the same profile; `message` fills the slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from html import escape
from typing import Any

from django.utils import translation

from newsletter import fields, gate, utm
from newsletter.content import IssueContent, TrackingMode, clean_line
from newsletter.rendering import preheader, sizes, templates
from newsletter.rendering.mail import Mail
from newsletter.rendering.page import DELIVERY_TOKEN, Page
from newsletter.rendering.reading import Reading, doubtful_marks, everything, read, without_upgrade
from newsletter.rendering.templates import RenderingError
from newsletter.rendering.text import passages

__all__ = ["Medium", "Rendered", "RenderingError", "problems", "render"]


class Medium(StrEnum):
    """Where a rendering is read."""

    MAIL = "mail"
    WEB = "web"


@dataclass(frozen=True)
class Rendered:
    """One rendered form of an issue.

    `subject`, `preheader`, `html` and `text` hold markers of `slots` (see `newsletter.fields`); `html` is empty where
    only text was asked for. `links` are the addresses that were given to `link`, each once, in order. `html_bytes` and
    `section_bytes` (heading and bytes, in order) are measured as `newsletter.rendering.sizes` says. `warnings` are
    sentences for the author.
    """

    subject: str
    preheader: str
    html: str
    text: str
    slots: tuple[fields.Slot, ...]
    links: tuple[str, ...]
    html_bytes: int
    section_bytes: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` gives an equal value back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Rendered:
        """The value that `as_json` wrote."""
        return cls(
            subject=data["subject"],
            preheader=data["preheader"],
            html=data["html"],
            text=data["text"],
            slots=tuple(fields.Slot(**slot) for slot in data["slots"]),
            links=tuple(data["links"]),
            html_bytes=data["html_bytes"],
            section_bytes=tuple((heading, size) for heading, size in data["section_bytes"]),
            warnings=tuple(data["warnings"]),
        )


def render(
    view: gate.View,
    *,
    tracking: TrackingMode,
    text_only: bool = False,
    link: Callable[[str], str] | None = None,
    pixel_url: str = "",
    medium: Medium = Medium.MAIL,
    for_reader: bool = True,
) -> Rendered:
    """Renders what the gate lets one kind of reader see.

    `link` turns a web address into a tracked one: complete under ANONYMOUS tracking, under INDIVIDUAL the part before
    the delivery's token; likewise `pixel_url`. A ValueError of `link` leaves that address untracked, with a warning.
    Without `link`, with tracking OFF, and on the web, links are not tracked; on the web they say nothing of the issue
    either. `for_reader` is False for a page that is
    nobody's own: it has no links to leave or to choose. Raises RenderingError where a merge field, the theme or a
    template is wrong.
    """
    reading = read(view)
    if reading.errors:
        raise RenderingError(reading.errors[0])
    issue = view.issue
    on_web = medium == Medium.WEB
    page = Page(issue, tracking, None if on_web else link, for_reader, str if on_web else utm.tagger(issue))
    for sentence in doubtful_marks(reading):
        page.warn(sentence)
    with translation.override(issue.language):
        subject = page.slots.shield(clean_line(issue.subject or issue.title))
        title = page.slots.shield(clean_line(issue.title or issue.subject or issue.newsletter_name))
        line = page.slots.shield(clean_line(issue.preheader)) or _derived_preheader(reading, page) or title
        mail = Mail(page, reading, title, line, in_browser=on_web)
        marked = "" if text_only else mail.html(templates.load(issue.newsletter_slug))
        text = mail.text()
    if marked and pixel_url and not on_web:
        marked = marked.replace("</body>", f"{_pixel(pixel_url, page)}</body>")
    html = sizes.unmarked(marked)
    measured = sizes.of_sections(marked, page.slots)
    section_bytes = tuple((section.name, measured[i]) for i, section in enumerate(reading.sections) if i in measured)
    html_bytes = sizes.measure(html, page.slots)
    too_big = sizes.warning(html_bytes, section_bytes)
    return Rendered(
        subject=subject,
        preheader=line,
        html=html,
        text=text,
        slots=tuple(page.slots.slots),
        links=tuple(page.links),
        html_bytes=html_bytes,
        section_bytes=section_bytes,
        warnings=(*page.warnings, *([too_big] if too_big else [])),
    )


def problems(issue: IssueContent) -> list[str]:
    """Everything that would keep `issue` from being rendered for some reader, a sentence each; empty when fine."""
    reading = read(everything(issue))
    found = [*(reading.errors or without_upgrade(reading, issue)), *templates.problems(issue.newsletter_slug)]
    if not found:
        try:
            render(everything(issue), tracking=TrackingMode.OFF)
        except RenderingError as error:
            found.append(str(error))
    return found


def _derived_preheader(reading: Reading, page: Page) -> str:
    bodies = (section.body for section in reading.sections if section.body)
    return preheader.shorten(passage for body in bodies for passage in passages(body, page))


def _pixel(pixel_url: str, page: Page) -> str:
    if page.tracking == TrackingMode.OFF:
        return ""
    token = page.slots.marker(DELIVERY_TOKEN) if page.tracking == TrackingMode.INDIVIDUAL else ""
    return f'<img src="{escape(pixel_url)}{token}" width="1" height="1" alt="" style="display:block">'
