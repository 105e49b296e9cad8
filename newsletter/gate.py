"""Who sees which section: the only place that knows.

A pure function of an issue's content and a reader's profile. It fails closed: an audience or a tier it does not know
gives the free reader's view. Mail, web view, preview, RSS and API all render what comes out of here, so text that a
reader may not see never reaches a renderer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from newsletter.content import FREE_LEVEL, Audience, AudienceKind, IssueContent, Profile, SectionContent, WhenLocked


@dataclass(frozen=True)
class LockedSection:
    """What is left of a section that this reader may not see: its heading, over an upgrade button."""

    heading: str


@dataclass(frozen=True)
class View:
    """An issue as one reader may see it. `issue.sections` is empty: `sections` is all there is to render."""

    issue: IssueContent
    sections: tuple[SectionContent | LockedSection, ...]


def may_see(audience: Audience, tier_level: int | None) -> bool:
    """Whether a reader of `tier_level` (None: unknown, taken as free) is in the `audience` of a section."""
    level = FREE_LEVEL if tier_level is None else tier_level
    if audience.kind == AudienceKind.EVERYONE:
        return True
    if audience.kind == AudienceKind.FROM_TIER:
        return audience.tier_level is not None and level >= audience.tier_level
    if audience.kind == AudienceKind.BELOW_TIER:
        return audience.tier_level is None or level < audience.tier_level
    return False


def visible_sections(issue: IssueContent, profile: Profile) -> tuple[SectionContent | LockedSection, ...]:
    """The sections of `issue` in order, as a reader of `profile` sees them; muted sections are left out."""
    shown: list[SectionContent | LockedSection] = []
    for section in issue.sections:
        if section.standing_section is not None and section.standing_section in profile.muted:
            continue
        if may_see(section.audience, profile.tier_level):
            shown.append(replace(section, audience=Audience()))
        elif section.when_locked == WhenLocked.TEASE and section.audience.kind == AudienceKind.FROM_TIER:
            shown.append(LockedSection(section.heading))
    return tuple(shown)


def view(issue: IssueContent, profile: Profile) -> View:
    """`issue` as a reader of `profile` sees it, and nothing more: what every renderer is given."""
    return View(issue=replace(issue, sections=()), sections=visible_sections(issue, profile))
