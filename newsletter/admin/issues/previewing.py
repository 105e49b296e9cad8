"""What each reader will see of an issue: a frame with any variant of it, and who gets which.

Everything here comes through the gate and the renderer, from what is saved: what the frame shows is what is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from django.http import HttpResponse, QueryDict

from newsletter import gate, outlook, preflight, rendering
from newsletter.admin import previews
from newsletter.content import FREE_LEVEL, Audience, AudienceKind, IssueContent, Profile, SectionContent, TrackingMode
from newsletter.models import Issue, StandingSection
from newsletter.rendering import sizes
from subscribers.models import Tier

SHOWN = 12  # distinct forms listed; more than that is every reader's own choice of sections


@dataclass(frozen=True)
class Choice:
    """Which variant to look at, and in which light."""

    tier_level: int = FREE_LEVEL
    text_only: bool = False
    dark: bool = False
    muted: frozenset[int] = frozenset()

    @classmethod
    def of(cls, query: QueryDict) -> Choice:
        """What a query string asks for; anything that cannot be read is left at the free reader's view."""
        muted = (part for part in query.get("muted", "").split(",") if part.isascii() and part.isdigit())
        level = query.get("tier", "")
        return cls(
            tier_level=int(level) if level.isascii() and level.isdigit() and len(level) < 6 else FREE_LEVEL,
            text_only=query.get("part") == "text",
            dark=query.get("scheme") == "dark",
            muted=frozenset(int(part) for part in muted if len(part) < 19),
        )

    def query(self) -> str:
        """The query string that `of` reads."""
        asked = {
            "tier": str(self.tier_level),
            "part": "text" if self.text_only else "html",
            "scheme": "dark" if self.dark else "light",
            "muted": ",".join(map(str, sorted(self.muted))),
        }
        return urlencode({name: value for name, value in asked.items() if value})

    def profile(self) -> Profile:
        """The reader this stands for. A look is never tracked."""
        return Profile(tier_level=self.tier_level, muted=self.muted, text_only=self.text_only)


@dataclass(frozen=True)
class Form:
    """One form of the issue that readers get: who they are, how many, and how big it is."""

    name: str
    readers: int
    share: int  # in per cent of all readers
    query: str
    html_bytes: int
    section_names: tuple[str, ...]


@dataclass(frozen=True)
class Checks:
    """What the author should know before the issue goes out: `problems` stop it, `warnings` do not."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    html_bytes: int

    @property
    def size(self) -> str:
        """The size of the largest mail, against what Gmail shows whole."""
        return f"{self.html_bytes / 1000:,.0f} of {sizes.GMAIL_CLIPS_AT // 1000} kB"


def frame(issue: Issue, choice: Choice) -> HttpResponse:
    """The form of `issue` that `choice` names, as a page for a frame."""
    return previews.mail(issue.content(), choice.profile(), dark=choice.dark, text=choice.text_only)


def checks(content: IssueContent) -> Checks:
    """What keeps `content` from going out, and what is worth a look first."""
    found = preflight.problems(content)
    warnings = [
        f"Section “{section.heading or 'Lead'}” is for a tier that no longer exists: nobody sees it. Choose another."
        for section in content.sections
        if section.audience.kind == AudienceKind.FROM_TIER and section.audience.tier_level is None
    ]
    if found:
        return Checks(tuple(found), tuple(warnings), 0)
    rendered = rendering.render(unlocked(content), tracking=TrackingMode.OFF)
    return Checks((), (*warnings, *rendered.warnings), rendered.html_bytes)


def unlocked(content: IssueContent) -> gate.View:
    """All sections of `content` as if they were for everyone: for the author's eyes and for measuring."""
    open_to_all = tuple(replace(section, audience=Audience()) for section in content.sections)
    return gate.view(replace(content, sections=open_to_all), Profile())


def forms(issue: Issue, content: IssueContent, seen: outlook.Outlook) -> list[Form]:
    """The distinct forms of `issue` that its readers would get now, the most frequent first.

    Profiles with the same outcome share one, as in a dispatch.
    """
    groups: dict[tuple[gate.View, bool], list[outlook.Group]] = {}
    for group in seen.groups:
        groups.setdefault((gate.view(content, group.profile), group.profile.text_only), []).append(group)
    tiers = {tier.level: tier.name for tier in Tier.objects.all()}
    recurring = {row.pk: row.name for row in StandingSection.objects.filter(newsletter=issue.newsletter)}
    counted = max(sum(group.readers for group in seen.groups), 1)
    found = []
    for (view, text_only), members in groups.items():
        readers = sum(member.readers for member in members)
        first = members[0].profile
        choice = Choice(first.tier_level or FREE_LEVEL, text_only, muted=first.muted)
        try:
            size = rendering.render(view, tracking=TrackingMode.OFF, text_only=text_only).html_bytes
        except rendering.RenderingError:
            size = 0
        names = _named(members, tiers, recurring)
        headings = tuple(_said(section) for section in view.sections)
        found.append(Form(names, readers, round(100 * readers / counted), choice.query(), size, headings))
    return sorted(found, key=lambda form: -form.readers)


def _said(section: SectionContent | gate.LockedSection) -> str:
    name = section.heading or "Lead"
    return f"{name} (only the heading)" if isinstance(section, gate.LockedSection) else name


def _named(members: list[outlook.Group], tiers: dict[int, str], recurring: dict[int, str]) -> str:
    """Who gets one form: "Free and Paid", "Free, text only", "Paid, without Papers"."""
    levels = sorted({member.profile.tier_level or FREE_LEVEL for member in members})
    who = " and ".join(tiers.get(level, "Free" if level == FREE_LEVEL else f"tier {level}") for level in levels)
    muted = frozenset.intersection(*(member.profile.muted for member in members))
    without = [f"without {recurring[pk]}" for pk in sorted(muted) if pk in recurring]
    text_only = ["text only"] if members[0].profile.text_only else []
    return ", ".join([who, *text_only, *without])


def tier_choices() -> list[tuple[int, str]]:
    """The tiers to look as, lowest first; free is always among them."""
    tiers = list(Tier.objects.values_list("level", "name"))
    return tiers if any(level == FREE_LEVEL for level, _ in tiers) else [(FREE_LEVEL, "Free"), *tiers]
