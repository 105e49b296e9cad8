"""A newsletter's theme: checked, and completed by what can be derived from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict

from newsletter.content import ThemeContent
from newsletter.rendering.colours import contrast, mix, readable_on
from newsletter.rendering.highlighting import PALETTE

NARROWEST, WIDEST = 320, 900  # pixels: below, phones leave a margin; above, lines get too long to read

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
# What a font may be made of: it stands in a style sheet, where anything else could end the rule.
_FONT = re.compile(r"[\w ,'-]+")


def problems(theme: ThemeContent) -> Iterator[str]:
    """What cannot be used in `theme`, a sentence each."""
    for name, value in asdict(theme).items():
        if name.removeprefix("dark_") in ("accent", "background", "surface", "text", "muted") and not (
            _COLOUR.fullmatch(value)
        ):
            yield f"The theme's {name.replace('_', ' ')} {value!r} is no colour; write it like #0b57d0."
    if not _FONT.fullmatch(theme.font):
        yield f"The theme's font {theme.font!r} cannot be used; write names with commas between: Georgia, serif."
    if theme.logo_url and not re.match(r"https?://[^\s]+$", theme.logo_url):
        yield f"The logo's address {theme.logo_url!r} cannot be found from a mail; write it whole, with https://."
    if not NARROWEST <= theme.width <= WIDEST:
        yield f"The theme's width of {theme.width} pixels does not suit mail; choose one from {NARROWEST} to {WIDEST}."


def is_dark(background: str) -> bool:
    """Whether light writing is read better than dark writing on `background`."""
    return contrast("#ffffff", background) > contrast("#000000", background)


def derived(theme: ThemeContent) -> dict[str, object]:
    """The theme's values by name, with those the templates need besides: rules and the text on buttons."""
    return {
        **asdict(theme),
        "on_accent": readable_on(theme.accent),
        "on_dark_accent": readable_on(theme.dark_accent),
        "code_colours": _code_colours(theme),
        "rule": mix(theme.surface, theme.text, 0.15),
        "dark_rule": mix(theme.dark_surface, theme.dark_text, 0.2),
    }


def _code_colours(theme: ThemeContent) -> list[tuple[str, str]]:
    """Each colour of highlighted code with the one that replaces it in dark mode."""
    written, in_dark_mode = is_dark(theme.background), is_dark(theme.dark_background)
    return [(pair[written], pair[in_dark_mode]) for pair in PALETTE.values()] if written != in_dark_mode else []
