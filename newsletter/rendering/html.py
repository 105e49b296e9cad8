"""Markdown tokens to the HTML inside the partials: sanitised, no layout, links and images made fit for mail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape, unescape

import nh3
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from newsletter.markdown import OPTIONS, UNTRACKED_CLASS, Document
from newsletter.rendering.highlighting import highlight
from newsletter.rendering.page import Page
from newsletter.rendering.theme import is_dark

# h1 is the issue's title, and only that.
_TAGS = {
    *("a", "abbr", "b", "blockquote", "br", "cite", "code", "dd", "del", "details", "div", "dl", "dt", "em"),
    *("figcaption", "figure", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p"),
    *("pre", "q", "s", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th"),
    *("thead", "tr", "u", "ul"),
}
_ATTRIBUTES = {
    "a": {"href", "title"},
    "abbr": {"title"},
    "img": {"src", "alt", "title", "width"},
    "li": {"style"},
    "ol": {"start"},
    "span": {"style"},
    "td": {"style", "colspan", "rowspan"},
    "th": {"style", "scope", "colspan", "rowspan"},
}
_STYLES = {"color", "text-align", "list-style"}
_SCHEMES = {"http", "https", "mailto", "tel", "sms"}

# nh3 writes attributes as name="value", so these find them reliably in what it gives back.
_BETWEEN = r'(?:\s[\w-]+="[^"]*")*?'
_LINK = re.compile(rf"<a({_BETWEEN})>")
_DEAD_LINK = re.compile(r"<a>(.*?)</a>", re.DOTALL)
_IMAGE = re.compile(rf"<img({_BETWEEN})\s*/?>")
_ATTRIBUTE = re.compile(r'\s([\w-]+)="([^"]*)"')
_CHECKBOX = 'class="task-list-item-checkbox"'


@dataclass
class Outline:
    """The levels of headings inside a section, so that none is skipped whatever the author's `#` signs say.

    `top` is the level the section itself has: 2 under its own heading, 1 for the lead.
    """

    top: int
    above: list[int] = field(default_factory=list)

    def level(self, written: int) -> int:
        """The level, 2 to 6, to give a heading written with that many `#` signs."""
        while self.above and self.above[-1] >= written:
            self.above.pop()
        self.above.append(written)
        return min(self.top + len(self.above), 6)


class _Renderer(RendererHTML):
    """Token types as markdown-it names them; what is not here is rendered as markdown-it does."""

    def text(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return escape(tokens[index].content, quote=False)

    def code_inline(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return f"<code>{escape(env['document'].as_written(tokens[index].content), quote=False)}</code>"

    def code_block(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        code = env["document"].as_written(tokens[index].content)
        language = (tokens[index].info.split() or [""])[0]
        return f"<pre>{highlight(code.rstrip(), language, on_dark=env['on_dark'])}</pre>\n"

    def fence(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return self.code_block(tokens, index, options, env)

    def heading_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        env["level"] = env["outline"].level(int(tokens[index].tag[1:]))
        return f"<h{env['level']}>"

    def heading_close(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return f"</h{env['level']}>\n"

    def list_item_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        is_task = "task-list-item" in str(tokens[index].attrs.get("class", ""))
        return '<li style="list-style:none">' if is_task else "<li>"

    def html_inline(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        content = tokens[index].content
        return checkbox(content) if _CHECKBOX in content else content

    def image(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        # Sanitising takes away the address of an image that no mail shows, and with it what to warn of.
        if env["page"].image_source(str(tokens[index].attrs.get("src", ""))):
            return super().image(tokens, index, options, env)
        return escape(self.renderInlineAsText(tokens[index].children, options, env), quote=False)

    def th_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        style = tokens[index].attrs.get("style")
        return f'<th scope="col" style="{style}">' if style else '<th scope="col">'

    def footnote_ref(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return f"<sup>[{tokens[index].meta['id'] + 1}]</sup>"

    def footnote_anchor(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return ""

    def footnote_block_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return "<hr>\n<ol>\n"

    def footnote_block_close(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return "</ol>\n"

    def footnote_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return "<li>"

    def footnote_close(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return "</li>\n"


_RENDERER = _Renderer()


def checkbox(tag: str) -> str:
    """The character for a task list's check box, which mail programs do not show."""
    return "☑" if "checked" in tag else "☐"


def sanitised(html: str) -> str:
    """`html` with only what may stand in a mail, every tag closed."""
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        allowed_classes={"a": {UNTRACKED_CLASS}},
        filter_style_properties=_STYLES,
        url_schemes=_SCHEMES,
        link_rel=None,
    )


def fragment(document: Document, tokens: Sequence[Token], page: Page, outline: Outline) -> str:
    """The HTML of some tokens of `document`: sanitised, with slot markers, tracked links, images a mail can show."""
    env = {"document": document, "page": page, "outline": outline, "on_dark": is_dark(page.issue.theme.background)}
    html = sanitised(_RENDERER.render(tokens, OPTIONS, env))
    html = document.with_slots(html, page.slots)
    html = _LINK.sub(lambda match: _link(match, page), html)
    html = _DEAD_LINK.sub(r"\1", html)
    return _IMAGE.sub(lambda match: _image(match, page), html).strip()


def _link(match: re.Match[str], page: Page) -> str:
    given = {name: unescape(value) for name, value in _ATTRIBUTE.findall(match[1])}
    href = page.href(given.get("href", ""), untracked="class" in given) if "href" in given else ""
    if not href:
        return "<a>"
    title = f' title="{escape(given["title"])}"' if "title" in given else ""
    return f'<a href="{escape(href)}"{title}>'


def _image(match: re.Match[str], page: Page) -> str:
    given = {name: unescape(value) for name, value in _ATTRIBUTE.findall(match[1])}
    source = page.image_source(given.get("src", ""))
    alt = given.get("alt", "")
    if not source:
        return escape(alt)
    if not alt:
        page.missing_alt(source)
    attributes = {"src": source, "alt": alt}
    if "title" in given:
        attributes["title"] = given["title"]
    if given.get("width", "").isdigit():
        attributes["width"] = str(min(int(given["width"]), page.issue.theme.width))
    return "<img" + "".join(f' {name}="{escape(value)}"' for name, value in attributes.items()) + ">"
