"""Runs the MJML compiler, mending before and after what it does wrong.

mjml-python (mrml 6) prints attribute values in Rust's debug form, wants HTML inside components to be well formed its
own way, leaves `alt` away and does not inline `mj-style inline`. So whatever it need not understand is taken out of
the source before it runs, and put back into its output: HTML and text between tags, and addresses and texts in
attributes. What stays in the source is made of printable characters without quotes or backslashes.
"""

from __future__ import annotations

import re

import css_inline
from mjml import mjml2html

from newsletter.mjml.components import COMPONENTS, Content
from newsletter.mjml.linting import TemplateError
from newsletter.mjml.scanning import Attribute, Tag, tags

# Attributes that come out as they went in: their values never need to pass the compiler.
_PASSED_ON = frozenset({"href", "src", "srcset", "alt", "title", "rel", "sizes", "thumbnails-src", "base-url"})

_NO_LANGUAGE = ' lang="und" dir="auto"'


class _Kept:
    """Texts taken out of a source, and the tokens that stand for them while the compiler runs."""

    def __init__(self, source: str) -> None:
        self.prefix = "kept-"
        while self.prefix in source:
            self.prefix = f"x{self.prefix}"
        self.texts: list[str] = []

    def token(self, text: str) -> str:
        self.texts.append(text)
        return f"{self.prefix}{len(self.texts) - 1}-"

    def restore(self, html: str) -> str:
        return re.sub(rf"{self.prefix}(\d+)-", lambda match: self.texts[int(match[1])], html)


def compile_document(source: str, *, name: str, language: str, direction: str) -> str:
    """The HTML of a whole MJML document.

    `name` is its file, for the error. `language` (a tag such as `de`) and `direction` (`ltr` or `rtl`) are set where
    the document does not say otherwise, on the root and on the body's first element: programs drop the root. Raises
    TemplateError where the compiler refuses it.
    """
    kept = _Kept(source)
    prepared, inline_styles = _prepare(source, kept)
    try:
        html = mjml2html(prepared, fonts={})
    except ValueError as error:
        reason = f"The compiler cannot read it ({error}). Check that every tag is closed."
        raise TemplateError(f"{name}: {reason}") from error
    html = kept.restore(html.replace(_NO_LANGUAGE, f' lang="{language}" dir="{direction}"'))
    if inline_styles:
        html = css_inline.inline(
            html,
            extra_css="\n".join(inline_styles),
            inline_style_tags=False,
            keep_style_tags=True,
            load_remote_stylesheets=False,
            minify_css=True,
        )
    return html


def _prepare(source: str, kept: _Kept) -> tuple[str, list[str]]:
    """`source` fit for the compiler, and the rules of its `mj-style inline`; `kept` gets what was taken out."""
    pieces: list[str] = []
    inline_styles: list[str] = []
    position = 0
    around: Tag | None = None
    for tag in tags(source):
        if around is not None:
            if tag.closing and tag.name == around.name:
                content = source[around.end : tag.start].strip()
                if _is_inline_style(around):
                    inline_styles.append(content)
                else:
                    pieces.append(_opening(around, kept) + kept.token(content) + f"</{tag.name}>")
                position, around = tag.end, None
            continue
        pieces.append(source[position : tag.start])
        position = tag.end
        component = COMPONENTS.get(tag.name)
        if component is None:
            pieces.append(source[tag.start : tag.end])
        elif tag.closing:
            pieces.append(f"</{tag.name}>")
        elif component.content in (Content.HTML, Content.RAW) and not tag.empty:
            around = tag
        else:
            pieces.append(_opening(tag, kept))
    pieces.append(source[position:])
    return "".join(pieces), inline_styles


def _is_inline_style(tag: Tag) -> bool:
    return tag.name == "mj-style" and any(a.name == "inline" for a in tag.attributes)


def _opening(tag: Tag, kept: _Kept) -> str:
    attributes = [_attribute(attribute, kept) for attribute in tag.attributes]
    if tag.name == "mj-image" and all(attribute.name != "alt" for attribute in tag.attributes):
        attributes.append('alt=""')
    return f"<{' '.join([tag.name, *attributes])}{' /' if tag.empty else ''}>"


def _attribute(attribute: Attribute, kept: _Kept) -> str:
    value = re.sub(r"\s+", " ", attribute.value or "").replace('"', "&quot;")
    if attribute.name in _PASSED_ON and value:
        return f'{attribute.name}="{kept.token(value)}"'
    value = value.replace("\\", "&#92;")
    value = "".join(c if c.isprintable() else f"&#x{ord(c):x};" for c in value)
    return f'{attribute.name}="{value}"'
