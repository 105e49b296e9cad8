"""Puts the two parts of a mail together: the HTML from the partials, the text below each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from markdown_it.token import Token

from newsletter import mjml
from newsletter.content import IssueContent, clean_line, clean_text
from newsletter.markdown import UNTRACKED_CLASS, Block, BlockKind, Document, has_class
from newsletter.rendering import preheader, sizes
from newsletter.rendering.html import Outline, fragment
from newsletter.rendering.page import Page
from newsletter.rendering.reading import Reading, ReadSection
from newsletter.rendering.templates import Partials, RenderingError
from newsletter.rendering.text import WIDTH, Writer
from newsletter.rendering.theme import derived

# Languages written from right to left (CLDR, character order).
_RIGHT_TO_LEFT = frozenset(("ar", "arc", "ckb", "dv", "fa", "he", "ks", "ku", "ps", "sd", "syr", "ug", "ur", "yi"))
_SIDE_PADDING = 28  # of images and texts in the partials, pixels
_RULE = "-" * WIDTH


def direction(language: str) -> str:
    """`rtl` or `ltr`, for a language tag such as `he` or `pt-br`."""
    return "rtl" if language.replace("_", "-").split("-")[0].lower() in _RIGHT_TO_LEFT else "ltr"


@dataclass
class Mail:
    """One mail (or page) under way; runs inside `translation.override` of the newsletter's language."""

    page: Page
    reading: Reading
    title: str
    preheader: str
    in_browser: bool

    @property
    def issue(self) -> IssueContent:
        return self.page.issue

    def html(self, partials: Partials) -> str:
        """The whole HTML document, the marks of `sizes` still in it. Raises RenderingError."""
        towards = direction(self.issue.language)
        common: dict[str, object] = {
            "theme": derived(self.issue.theme),
            "direction": towards,
            "align": "right" if towards == "rtl" else "left",
        }
        inner = _Html(self.page, partials, common)
        context = {
            **common,
            "title": self.title,
            "preheader": self.preheader,
            "filler": preheader.FILLER,
            "style": partials.fill("style", common),
            "header": partials.fill("header", {**common, **self._header()}),
            "sections": mark_safe(  # noqa: S308 - made of partials
                "".join(sizes.mark(i, inner.section(s)) for i, s in enumerate(self.reading.sections))
            ),
            "footer": partials.fill("footer", {**common, **self._footer(inner)}),
        }
        source = partials.fill("layout", context)
        try:
            return mjml.compile_document(
                source, name=partials.names["layout"], language=self.issue.language, direction=towards
            )
        except mjml.TemplateError as error:
            raise RenderingError(str(error)) from error

    def text(self) -> str:
        """The text part, ending in a line feed."""
        writer = Writer(self.page)
        header = self._header()
        top = [f"{self.title}\n{'=' * min(max(len(self.title), 3), WIDTH)}", str(header["meta"])]
        if header["web_url"]:
            top.append(f"{header['view_in_browser']}:\n{header['web_url']}")
        parts = ["\n".join(part for part in top[:2] if part), *top[2:]]
        for section in self.reading.sections:
            parts.append(writer.heading(section.heading, "-"))
            if section.body is None:
                address = self.page.field_address("upgrade_url")
                parts += [_locked_sentence(), f"{_upgrade_label()}:\n{address}" if address else ""]
            else:
                parts.append(writer.write(section.body))
        footer = [writer.write(self.reading.footer), self._reason(), self._address()]
        footer[2:2] = [f"{label}:\n{address}" for label, address in self._links()]
        return "\n\n".join(part for part in [*parts, _RULE, *footer] if part) + "\n"

    def _header(self) -> dict[str, object]:
        issue = self.issue
        number = _("No. %(number)s") % {"number": issue.number} if issue.number is not None else ""
        date = date_format(issue.date) if issue.date else ""
        return {
            "name": clean_line(issue.newsletter_name),
            "title": self.title,
            "meta": " · ".join(part for part in (number, date) if part),
            "web_url": "" if self.in_browser else self.page.field_address("web_url"),
            "view_in_browser": _("View in browser"),
        }

    def _footer(self, inner: _Html) -> dict[str, object]:
        return {
            "html": inner.prose(self.reading.footer, Outline(1)),
            "address": self._address(),
            "reason": self._reason(),
            "links": [{"label": label, "address": address} for label, address in self._links()],
        }

    def _links(self) -> list[tuple[str, str]]:
        found = [
            (_("Unsubscribe"), self.page.field_address("unsubscribe_url")),
            (_("Choose what you get"), self.page.field_address("preferences_url")),
        ]
        return [(label, address) for label, address in found if address]

    def _reason(self) -> str:
        if not self.page.for_reader:
            return ""
        return _("You get this mail because you subscribed to %(name)s.") % {
            "name": clean_line(self.issue.newsletter_name)
        }

    def _address(self) -> str:
        return clean_text(self.issue.postal_address).strip()


@dataclass
class _Html:
    """The MJML of sections and blocks."""

    page: Page
    partials: Partials
    common: dict[str, object]

    def section(self, section: ReadSection) -> SafeString:
        if section.body is None:
            heading = self._safe(section.heading, section.heading.tokens, Outline(1))
            return self._fill(
                "locked",
                html=heading,
                sentence=_locked_sentence(),
                href=self.page.field_address("upgrade_url"),
                label=_upgrade_label(),
            )
        return self._blocks(section, section.body)

    def prose(self, document: Document, outline: Outline) -> SafeString:
        return self._safe(document, document.tokens, outline)

    def _blocks(self, section: ReadSection, body: Document) -> SafeString:
        pieces = []
        if section.name:
            heading = self._safe(section.heading, section.heading.tokens, Outline(1))
            pieces.append(self._fill("heading", html=heading))
        outline = Outline(2 if section.name else 1)
        for index, block in enumerate(body.blocks()):
            pieces.append(self._block(body, block, outline, first=bool(section.name) and index == 0))
        return mark_safe("".join(pieces))  # noqa: S308 - made of partials

    def _block(self, document: Document, block: Block, outline: Outline, *, first: bool) -> SafeString:
        if block.kind == BlockKind.DIVIDER:
            return self._fill("divider")
        if block.kind == BlockKind.IMAGE:
            return self._image(document, block)
        if block.kind == BlockKind.BUTTON:
            return self._button(document, block, outline)
        html = self._safe(document, block.tokens, outline)
        return self._fill(block.kind.value, html=html, first=first) if html else SafeString()

    def _image(self, document: Document, block: Block) -> SafeString:
        token = block.tokens[-1]
        alt = document.with_slots("".join(child.content for child in token.children or []), self.page.slots)
        source = self.page.image_source(str(token.attrs.get("src", "")))
        if not source:
            return self._fill("text", html=format_html("<p>{}</p>", alt)) if alt else SafeString()
        if not alt:
            self.page.missing_alt(source)
        given = str(token.attrs.get("width", ""))
        widest = self.page.issue.theme.width - 2 * _SIDE_PADDING
        width = min(int(given), widest) if given.isdigit() and int(given) > 0 else widest
        href = self._href(document, block.tokens[0]) if len(block.tokens) > 1 else ""
        return self._fill("image", src=source, alt=alt, width=width, href=href)

    def _button(self, document: Document, block: Block, outline: Outline) -> SafeString:
        label = self._safe(document, block.tokens[1:-1], outline)
        href = self._href(document, block.tokens[0])
        if not href:
            return self._fill("text", html=format_html("<p>{}</p>", label))
        return self._fill("button", label=label, href=href)

    def _href(self, document: Document, link: Token) -> str:
        target = document.with_slots(str(link.attrs.get("href", "")), self.page.slots)
        return self.page.href(target, untracked=has_class(link, UNTRACKED_CLASS)) if target else ""

    def _safe(self, document: Document, tokens: Sequence[Token], outline: Outline) -> SafeString:
        return mark_safe(fragment(document, tokens, self.page, outline))  # noqa: S308 - sanitised by nh3

    def _fill(self, partial: str, **values: object) -> SafeString:
        return self.partials.fill(partial, {**self.common, **values})


def _locked_sentence() -> str:
    return _("This part is for readers who support the newsletter.")


def _upgrade_label() -> str:
    return _("Upgrade to read it")
