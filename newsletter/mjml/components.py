"""What MJML 4 allows: each component's parents, attributes and kind of content.

The compiler accepts anything and says nothing, so this table is what tells a slip in a template from a feature.
Source: the component reference of the MJML documentation, https://documentation.mjml.io/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Content(Enum):
    """What may stand between a component's tags."""

    COMPONENTS = "components"
    HTML = "HTML"
    RAW = "text as it is"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Component:
    """One MJML component: where it may stand, the kind of value of each attribute, and what it contains."""

    parents: frozenset[str]
    attributes: dict[str, str]
    content: Content


_NUMBER = r"-?\d+(?:\.\d+)?"
_UNIT = rf"(?:0|{_NUMBER}(?:px|%|em))"
# The kinds of values that can be told right from wrong; every other kind takes any text.
VALUES = {
    "colour": re.compile(
        r"#[0-9a-f]{3}|#[0-9a-f]{6}|rgba?\([\d.,%\s]+\)|hsla?\([\d.,%\s]+\)|(?!none$)[a-z]{3,24}", re.IGNORECASE
    ),
    "unit": re.compile(rf"{_UNIT}|auto", re.IGNORECASE),
    "units": re.compile(rf"{_UNIT}(?:\s+{_UNIT}){{0,3}}", re.IGNORECASE),
    "number": re.compile(rf"{_NUMBER}(?:px|%|em)?|normal", re.IGNORECASE),
    "align": re.compile(r"left|center|right|justify"),
    "vertical": re.compile(r"top|middle|bottom|baseline"),
    "direction": re.compile(r"ltr|rtl"),
}

_PADDING = {
    "padding": "units", "padding-top": "unit", "padding-right": "unit", "padding-bottom": "unit",
    "padding-left": "unit",
}  # fmt: skip
_INNER_PADDING = {name.replace("padding", "inner-padding"): kind for name, kind in _PADDING.items()}
_BORDER = {
    "border": "text", "border-top": "text", "border-right": "text", "border-bottom": "text", "border-left": "text",
    "border-radius": "units",
}  # fmt: skip
_FONT = {
    "color": "colour", "font-family": "text", "font-size": "unit", "font-style": "text", "font-weight": "text",
    "letter-spacing": "text", "line-height": "number", "text-decoration": "text", "text-transform": "text",
}  # fmt: skip
_BACKGROUND = {
    "background-color": "colour", "background-url": "text", "background-repeat": "text", "background-size": "text",
    "background-position": "text", "background-position-x": "text", "background-position-y": "text",
}  # fmt: skip
_LINK = {"href": "text", "rel": "text", "target": "text", "title": "text", "name": "text"}
_COLUMN_CHILD = {"container-background-color": "colour", **_PADDING}
_EVERYWHERE = {"css-class": "text", "mj-class": "text"}

IN_COLUMN = frozenset({"mj-column", "mj-hero"})
IN_BODY = frozenset({"mj-body", "mj-wrapper"})


def _component(parents: str | frozenset[str], content: Content, **groups: dict[str, str]) -> Component:
    above = frozenset(parents.split()) if isinstance(parents, str) else parents
    attributes: dict[str, str] = {}
    for group in groups.values():
        attributes |= group
    return Component(above, attributes, content)


def _visible(parents: str | frozenset[str], content: Content, **groups: dict[str, str]) -> Component:
    return _component(parents, content, everywhere=_EVERYWHERE, **groups)


COMPONENTS: dict[str, Component] = {
    "mjml": _component("", Content.COMPONENTS, own={"lang": "text", "dir": "text", "owa": "text"}),
    "mj-head": _component("mjml", Content.COMPONENTS),
    "mj-body": _visible(
        "mjml", Content.COMPONENTS, own={"background-color": "colour", "width": "unit", "id": "text"}
    ),
    "mj-attributes": _component("mj-head", Content.COMPONENTS),
    "mj-all": _component("mj-attributes", Content.NOTHING),
    "mj-class": _component("mj-attributes", Content.NOTHING),
    "mj-breakpoint": _component("mj-head", Content.NOTHING, own={"width": "unit"}),
    "mj-font": _component("mj-head", Content.NOTHING, own={"name": "text", "href": "text"}),
    "mj-preview": _component("mj-head", Content.RAW),
    "mj-title": _component("mj-head", Content.RAW),
    "mj-style": _component("mj-head", Content.RAW, own={"inline": "text"}),
    "mj-raw": _component(
        frozenset({"mj-head", "mj-body", "mj-wrapper", "mj-section", "mj-column", "mj-group", "mj-hero", "mj-accordion",
                   "mj-accordion-element", "mj-carousel", "mj-navbar", "mj-social"}),
        Content.HTML,
        own={"position": "text"},
    ),
    "mj-wrapper": _visible(
        "mj-body", Content.COMPONENTS, padding=_PADDING, border=_BORDER, background=_BACKGROUND,
        own={"direction": "direction", "full-width": "text", "text-align": "align", "gap": "unit"},
    ),
    "mj-section": _visible(
        IN_BODY, Content.COMPONENTS, padding=_PADDING, border=_BORDER, background=_BACKGROUND,
        own={"direction": "direction", "full-width": "text", "text-align": "align", "vertical-align": "vertical"},
    ),
    "mj-group": _visible(
        "mj-section", Content.COMPONENTS,
        own={"width": "unit", "vertical-align": "vertical", "background-color": "colour", "direction": "direction"},
    ),
    "mj-column": _visible(
        "mj-section mj-group", Content.COMPONENTS, padding=_PADDING, border=_BORDER,
        inner={name.replace("border", "inner-border"): kind for name, kind in _BORDER.items()},
        own={"background-color": "colour", "inner-background-color": "colour", "vertical-align": "vertical",
             "width": "unit", "direction": "direction"},
    ),
    "mj-hero": _visible(
        IN_BODY, Content.COMPONENTS, padding=_PADDING, background=_BACKGROUND, inner=_INNER_PADDING,
        own={"align": "align", "background-height": "unit", "background-width": "unit", "border-radius": "units",
             "container-background-color": "colour", "height": "unit", "inner-background-color": "colour",
             "mode": "text", "vertical-align": "vertical", "width": "unit"},
    ),
    "mj-text": _visible(
        IN_COLUMN, Content.HTML, base=_COLUMN_CHILD, font=_FONT,
        own={"align": "align", "background-color": "colour", "height": "unit", "vertical-align": "vertical"},
    ),
    "mj-button": _visible(
        IN_COLUMN, Content.HTML, base=_COLUMN_CHILD, font=_FONT, border=_BORDER, link=_LINK,
        own={"align": "align", "background-color": "colour", "height": "unit", "inner-padding": "units",
             "text-align": "align", "vertical-align": "vertical", "width": "unit"},
    ),
    "mj-image": _visible(
        IN_COLUMN, Content.NOTHING, base=_COLUMN_CHILD, border=_BORDER, link=_LINK,
        own={"align": "align", "alt": "text", "fluid-on-mobile": "text", "font-size": "unit", "height": "unit",
             "max-height": "unit", "sizes": "text", "src": "text", "srcset": "text", "usemap": "text",
             "width": "unit"},
    ),
    "mj-divider": _visible(
        IN_COLUMN, Content.NOTHING, base=_COLUMN_CHILD,
        own={"align": "align", "border-color": "colour", "border-style": "text", "border-width": "unit",
             "width": "unit"},
    ),
    "mj-spacer": _visible(IN_COLUMN, Content.NOTHING, base=_COLUMN_CHILD, own={"height": "unit"}),
    "mj-table": _visible(
        IN_COLUMN, Content.HTML, base=_COLUMN_CHILD, font=_FONT,
        own={"align": "align", "border": "text", "cellpadding": "text", "cellspacing": "text", "role": "text",
             "table-layout": "text", "vertical-align": "vertical", "width": "unit"},
    ),
    "mj-social": _visible(
        IN_COLUMN, Content.COMPONENTS, base=_COLUMN_CHILD, font=_FONT,
        own={"align": "align", "border-radius": "units", "icon-height": "unit", "icon-padding": "units",
             "icon-size": "unit", "inner-padding": "units", "mode": "text", "table-layout": "text",
             "text-padding": "units", "vertical-align": "vertical"},
    ),
    "mj-social-element": _visible(
        "mj-social", Content.HTML, padding=_PADDING, font=_FONT, link=_LINK,
        own={"align": "align", "alt": "text", "background-color": "colour", "border-radius": "units",
             "icon-height": "unit", "icon-padding": "units", "icon-position": "text", "icon-size": "unit",
             "sizes": "text", "src": "text", "srcset": "text", "text-padding": "units", "vertical-align": "vertical"},
    ),
    "mj-navbar": _visible(
        IN_COLUMN, Content.COMPONENTS, padding=_PADDING,
        own={"align": "align", "base-url": "text", "hamburger": "text", "ico-align": "align", "ico-close": "text",
             "ico-color": "colour", "ico-font-family": "text", "ico-font-size": "unit", "ico-line-height": "number",
             "ico-open": "text", "ico-padding": "units", "ico-padding-bottom": "unit", "ico-padding-left": "unit",
             "ico-padding-right": "unit", "ico-padding-top": "unit", "ico-text-decoration": "text",
             "ico-text-transform": "text"},
    ),
    "mj-navbar-link": _visible("mj-navbar", Content.HTML, padding=_PADDING, font=_FONT, link=_LINK),
    "mj-accordion": _visible(
        IN_COLUMN, Content.COMPONENTS, base=_COLUMN_CHILD,
        own={"border": "text", "font-family": "text", "icon-align": "vertical", "icon-height": "unit",
             "icon-position": "text", "icon-unwrapped-alt": "text", "icon-unwrapped-url": "text", "icon-width": "unit",
             "icon-wrapped-alt": "text", "icon-wrapped-url": "text"},
    ),
    "mj-accordion-element": _visible(
        "mj-accordion", Content.COMPONENTS,
        own={"background-color": "colour", "border": "text", "font-family": "text", "icon-align": "vertical",
             "icon-height": "unit", "icon-position": "text", "icon-unwrapped-alt": "text",
             "icon-unwrapped-url": "text", "icon-width": "unit", "icon-wrapped-alt": "text",
             "icon-wrapped-url": "text"},
    ),
    "mj-accordion-title": _visible(
        "mj-accordion-element", Content.HTML, padding=_PADDING, font=_FONT, own={"background-color": "colour"}
    ),
    "mj-accordion-text": _visible(
        "mj-accordion-element", Content.HTML, padding=_PADDING, font=_FONT, own={"background-color": "colour"}
    ),
    "mj-carousel": _visible(
        IN_COLUMN, Content.COMPONENTS, base=_COLUMN_CHILD,
        own={"align": "align", "border-radius": "units", "icon-width": "unit", "left-icon": "text",
             "right-icon": "text", "tb-border": "text", "tb-border-radius": "units", "tb-hover-border-color": "colour",
             "tb-selected-border-color": "colour", "tb-width": "unit", "thumbnails": "text"},
    ),
    "mj-carousel-image": _visible(
        "mj-carousel", Content.NOTHING, link=_LINK,
        own={"alt": "text", "src": "text", "thumbnails-src": "text", "border-radius": "units", "tb-border": "text",
             "tb-border-radius": "units"},
    ),
}  # fmt: skip

# What MJML has and this compiler has not, with what to write instead.
UNSUPPORTED = {
    "mj-include": 'Write {% include "mjml/name.mjml" %} instead',
    "mj-html-attributes": "Write the attributes on the element itself, in mj-raw or mj-text",
    "mj-selector": "Write the attributes on the element itself, in mj-raw or mj-text",
}

VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")
)
