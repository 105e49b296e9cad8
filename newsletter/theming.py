"""A newsletter's theme as a stylesheet for pages: colours as custom properties, kept readable whatever was chosen."""

from __future__ import annotations

import re

from newsletter.content import ThemeContent
from newsletter.rendering.colours import contrast, readable_on

READABLE = 4.5  # contrast of text, WCAG 2.2, success criterion 1.4.3
BLACK, WHITE = "#000000", "#ffffff"

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_FONT = re.compile(r"[A-Za-z0-9 ,'_-]+")
_SCHEME = ("accent", "background", "surface", "text", "muted")


def stylesheet(theme: ThemeContent) -> str:
    """CSS that gives `:root` the colours of `theme`, light and dark, and its font."""
    font = theme.font if _FONT.fullmatch(theme.font) else ThemeContent.font
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in _colours(theme, prefix).items()) for prefix in ("", "dark_")
    )
    return f":root{{{light}--font:{font}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _colours(theme: ThemeContent, prefix: str) -> dict[str, str]:
    """The custom properties of one colour scheme; a value that is no colour gives way to the default."""
    chosen = {}
    for name in _SCHEME:
        value = getattr(theme, prefix + name)
        chosen[name] = value if _COLOUR.fullmatch(value) else getattr(ThemeContent, prefix + name)
    grounds = chosen["background"], chosen["surface"]
    return {
        "accent": chosen["accent"],
        "on-accent": _readable(readable_on(chosen["accent"]), chosen["accent"]),
        "background": chosen["background"],
        "surface": chosen["surface"],
        "text": _readable(chosen["text"], *grounds),
        "muted": _readable(chosen["muted"], *grounds),
        "link": _readable(chosen["accent"], *grounds),
    }


def _readable(colour: str, *grounds: str) -> str:
    """`colour` where it can be read on all `grounds`, else black or white."""
    if all(contrast(colour, ground) >= READABLE for ground in grounds):
        return colour
    return max(BLACK, WHITE, key=lambda candidate: min(contrast(candidate, ground) for ground in grounds))
