"""Arithmetic on `#rrggbb` colours."""

from __future__ import annotations


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2.2, contrast ratio)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mix(base: str, added: str, share: float) -> str:
    """`base` with a share (0 to 1) of `added` in it."""
    pairs = zip(_channels(base), _channels(added), strict=True)
    return "#" + "".join(f"{round(b + (a - b) * share):02x}" for b, a in pairs)


def readable_on(background: str) -> str:
    """White or near-black, whichever is read better on `background`."""
    return max("#ffffff", "#111418", key=lambda colour: contrast(colour, background))


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def _luminance(colour: str) -> float:
    shares = [channel / 255 for channel in _channels(colour)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
