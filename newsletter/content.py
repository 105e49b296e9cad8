"""An issue's content, frozen: plain values that the gate, the renderer and the stored revision share.

Nothing here knows the database. A `Dispatch` pins one `IssueContent` (as JSON, in a `Revision`), so what is sent is
what was scheduled, whatever the author edits afterwards.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

FREE_LEVEL = 0

# C0 and C1 controls but tab and line feed, line and paragraph separators, bidirectional overrides and isolates,
# private-use characters (the renderer marks its slots with them), noncharacters and lone surrogates.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]"
)
_LINE_END = re.compile("\r\n?|[\u2028\u2029]")

# The renderer's marks as Markdown would decode them from an entity, or leave them in an address.
_ENCODED_MARKS = re.compile(r"%EE%80%8[0-3]|&#x0*E00[0-3];?|&#0*5734[4-7];?", re.IGNORECASE)


def clean_text(text: str) -> str:
    """Text as authors and readers may give it: LF line ends, no control, bidi-override or private-use characters."""
    text = _UNWANTED.sub("", _LINE_END.sub("\n", text))
    while _ENCODED_MARKS.search(text):
        text = _ENCODED_MARKS.sub("", text)
    return text


def clean_line(text: str) -> str:
    """`text` as a single line fit for a header or a heading: cleaned, runs of white space folded into one space."""
    return " ".join(clean_text(text).split())


class AudienceKind(StrEnum):
    EVERYONE = "everyone"
    FROM_TIER = "from_tier"
    BELOW_TIER = "below_tier"


class WhenLocked(StrEnum):
    """What a reader sees of a section that is not for them."""

    HIDE = "hide"
    TEASE = "tease"  # its heading with an upgrade button


class TrackingMode(StrEnum):
    OFF = "off"
    ANONYMOUS = "anonymous"
    INDIVIDUAL = "individual"


@dataclass(frozen=True)
class Audience:
    """Who a section is for. `tier_level` is None when the tier it named no longer exists."""

    kind: AudienceKind = AudienceKind.EVERYONE
    tier_level: int | None = None


@dataclass(frozen=True)
class SectionContent:
    """A block of an issue: `heading` is one line (empty for the lead), `body` is Markdown without that heading."""

    heading: str
    body: str
    audience: Audience = Audience()
    when_locked: WhenLocked = WhenLocked.HIDE
    standing_section: int | None = None


@dataclass(frozen=True)
class ThemeContent:
    """How a newsletter's mail looks. Colours are `#rrggbb`; `logo_url` is absolute or empty; `width` in pixels."""

    accent: str = "#0b57d0"
    background: str = "#f3f4f6"
    surface: str = "#ffffff"
    text: str = "#1f2328"
    muted: str = "#57606a"
    dark_accent: str = "#8ab4f8"
    dark_background: str = "#111418"
    dark_surface: str = "#1b1f24"
    dark_text: str = "#e6e8eb"
    dark_muted: str = "#a2abb6"
    font: str = "-apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
    logo_url: str = ""
    logo_alt: str = ""
    width: int = 600
    footer: str = ""  # Markdown shown above the postal address


@dataclass(frozen=True)
class UtmContent:
    """What links tell the author's web statistics (see `newsletter.utm`): nothing where all of it is empty."""

    source: str = ""
    medium: str = ""
    campaign: str = ""
    hosts: tuple[str, ...] = ()  # where it is added; empty: to every link


@dataclass(frozen=True)
class IssueContent:
    """Everything that decides an issue's bytes except the reader."""

    newsletter_slug: str
    newsletter_name: str
    number: int | None
    title: str
    subject: str
    preheader: str
    sections: tuple[SectionContent, ...]
    language: str = "en"
    date: dt.date | None = None
    postal_address: str = ""
    upgrade_url: str = ""
    from_name: str = ""
    from_address: str = ""
    reply_to: str = ""
    single: bool = False  # one message to one person, not an issue: no links to leave, choose or view it
    theme: ThemeContent = field(default_factory=ThemeContent)
    utm: UtmContent = field(default_factory=UtmContent)

    @property
    def sender_domain(self) -> str:
        """The domain that its mail comes from."""
        return self.from_address.rpartition("@")[2].lower()

    def as_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` gives an equal value back."""
        data = asdict(self)
        data["date"] = self.date.isoformat() if self.date else None
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> IssueContent:
        """The value that `as_json` wrote."""
        sections = tuple(
            SectionContent(
                heading=section["heading"],
                body=section["body"],
                audience=Audience(AudienceKind(section["audience"]["kind"]), section["audience"]["tier_level"]),
                when_locked=WhenLocked(section["when_locked"]),
                standing_section=section["standing_section"],
            )
            for section in data["sections"]
        )
        date = dt.date.fromisoformat(data["date"]) if data["date"] else None
        theme = ThemeContent(**data["theme"])
        # Revisions that were pinned before links could be tagged say nothing of it.
        utm = data.get("utm", {})
        utm = UtmContent(**{**utm, "hosts": tuple(utm.get("hosts", ()))})
        return cls(**{**data, "sections": sections, "date": date, "theme": theme, "utm": utm})


@dataclass(frozen=True)
class Profile:
    """Everything about a reader that decides what they see.

    `tier_level` is None where it could not be told; the gate takes that as free. `muted` are ids of standing sections
    the reader does not want.
    """

    tier_level: int | None = FREE_LEVEL
    muted: frozenset[int] = frozenset()
    text_only: bool = False
    tracking: TrackingMode = TrackingMode.OFF
