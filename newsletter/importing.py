"""A parsed issue becomes a draft; the same file again becomes the same draft, and what readers may get never changes.

An issue is recognised by newsletter and number, without a number by title and date. What a file does not say (the
audience of a section, a preheader, a date) stays as the author set it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import emoji
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from newsletter import authoring, content, scheduling
from newsletter.authoring import ImportRefused, KnownSection, ParsedIssue, ParsedSection, headings
from newsletter.models import Issue, Newsletter, Section, StandingSection
from subscribers.models import FREE_LEVEL, Tier

_COLON = re.compile("[:：]")
_TITLE_LENGTH: int = StandingSection._meta.get_field("name").max_length or 0


@dataclass(frozen=True)
class Stored:
    """The draft, whether this import made it, and sentences for the author about what to look at."""

    issue: Issue
    is_new: bool
    warnings: tuple[str, ...]


def known_sections(newsletter: Newsletter) -> list[KnownSection]:
    """The standing sections of `newsletter`, as reading a file wants them."""
    return [KnownSection(row.name, tuple(row.aliases), row.pk) for row in newsletter.standing_sections.all()]


def import_issue(
    newsletter: Newsletter,
    data: bytes,
    *,
    filename: str = "",
    paid: Sequence[str] | None = None,
    tease: bool = False,
    keep_headings: bool = False,
) -> tuple[Stored, ParsedIssue]:
    """Read the bytes of a file and store them as a draft of `newsletter`.

    `paid` names the headings of the sections for the lowest paid tier and above, all others being for everyone; with
    None the audiences of an earlier import stay. `tease` shows readers below that tier the heading with an upgrade
    button. `keep_headings` makes standing sections of the headings. Raises ImportRefused, or scheduling.NotNow where
    the issue is scheduled, on its way or sent; then nothing is stored.
    """
    parsed = authoring.read(data, filename=filename, known=known_sections(newsletter))
    locked = None if paid is None else authoring.match_headings(paid, parsed.sections)
    return store(newsletter, parsed, paid=locked, tease=tease, keep_headings=keep_headings), parsed


def store(
    newsletter: Newsletter, parsed: ParsedIssue, *, paid: set[int] | None, tease: bool, keep_headings: bool
) -> Stored:
    """Store `parsed` as `import_issue` says, in one transaction; `paid` are indexes into its sections."""
    with transaction.atomic():
        # Two imports of one file take turns, so that both find the same draft.
        newsletter = Newsletter.objects.select_for_update(no_key=True).get(pk=newsletter.pk)
        issue = _draft(newsletter, parsed)
        is_new = issue.pk is None
        warnings = () if is_new else _replaced(issue, parsed)
        issue.title, issue.subject = parsed.title, parsed.subject
        issue.preheader = parsed.preheader or issue.preheader
        issue.date = parsed.date or issue.date
        try:
            issue.full_clean(exclude=["newsletter"])
        except ValidationError as error:
            raise ImportRefused(" ".join(error.messages)) from error
        issue.save()
        sections = [_section(issue, position, section) for position, section in enumerate(parsed.sections)]
        if paid is None:
            _keep_audiences(list(issue.sections.select_related("tier")), sections)
        elif paid:
            _lock([sections[index] for index in sorted(paid)], tease=tease)
        if keep_headings:
            _keep_headings(newsletter, sections)
        issue.sections.all().delete()
        Section.objects.bulk_create(sections)
    return Stored(issue, is_new, warnings)


def _draft(newsletter: Newsletter, parsed: ParsedIssue) -> Issue:
    """The issue that `parsed` is, locked, or a new one. Raises scheduling.NotNow if it can no longer be changed."""
    same = Issue.objects.select_for_update(no_key=True).filter(newsletter=newsletter, number=parsed.number)
    if parsed.number is None:
        same = same.filter(title=parsed.title, date=parsed.date)
    issue = same.order_by("-pk").first()
    if issue is None:
        return Issue(newsletter=newsletter, number=parsed.number)
    scheduling.refuse_unless_editable(issue)
    return issue


def _replaced(issue: Issue, parsed: ParsedIssue) -> tuple[str, ...]:
    """A sentence where `parsed` has the number of the draft `issue` but seems to be another issue."""
    if issue.title == parsed.title and (None in (issue.date, parsed.date) or issue.date == parsed.date):
        return ()
    date = f" of {issue.date.isoformat()}" if issue.date else ""
    return (
        f"It replaced the draft “{issue.title}”{date}, which had the same number: "
        "if that was another issue, give this one its own number and import both again.",
    )


def _section(issue: Issue, position: int, parsed: ParsedSection) -> Section:
    return Section(
        issue=issue,
        position=position,
        heading=parsed.heading,
        body=parsed.body,
        standing_section_id=parsed.standing_section,
    )


def _keep_audiences(old: Sequence[Section], new: Sequence[Section]) -> None:
    """Give each section of `new` the audience of its counterpart in `old`.

    Raises ImportRefused where a section that was not for everyone has no counterpart any more: its text may stand under
    another heading now, and would go to everyone.
    """
    restricted = [section for section in old if section.audience != Section.AudienceChoice.EVERYONE]
    by_name: dict[str, Section] = {}
    for section in [*restricted, *old]:
        for name in _names(section):
            by_name.setdefault(name, section)
    used = set()
    for section in new:
        found = next((by_name[name] for name in _names(section) if name in by_name), None)
        if found is not None:
            section.audience, section.tier, section.when_locked = found.audience, found.tier, found.when_locked
            used.add(found.pk)
    gone = [f"“{section}”" for section in restricted if section.pk not in used]
    if gone:
        raise ImportRefused(
            f"{', '.join(gone)} was not for everyone and is no longer in the file: say with --paid which sections are"
            " for paying readers, or --all-free if none is."
        )


def _names(section: Section) -> tuple[str, ...]:
    return headings.names_of(section.heading) if section.heading else ("",)


def _lock(sections: Iterable[Section], *, tease: bool) -> None:
    tier = Tier.objects.filter(level__gt=FREE_LEVEL).order_by("level").first()
    if tier is None:
        raise ImportRefused("There is no paid tier: make one in the admin, then import the issue.")
    choice = Section.WhenLockedChoice.TEASE if tease else Section.WhenLockedChoice.HIDE
    for section in sections:
        section.audience, section.tier, section.when_locked = Section.AudienceChoice.FROM_TIER, tier, choice


def _keep_headings(newsletter: Newsletter, sections: Iterable[Section]) -> None:
    """Make a standing section of each heading that is none yet; "🏆 Story of the Week: …" is "Story of the Week"."""
    last = newsletter.standing_sections.aggregate(last=Max("position"))["last"]
    position = 0 if last is None else last + 1
    for section in sections:
        written = _COLON.split(section.heading)[0].strip() or section.heading
        name = content.clean_line(emoji.replace_emoji(written, " "))[:_TITLE_LENGTH].strip()
        if section.standing_section_id is not None or not headings.bare_name(name):
            continue
        aliases = [written] if written != name else []
        standing, made = StandingSection.objects.get_or_create(
            newsletter=newsletter, name=name, defaults={"aliases": aliases, "position": position}
        )
        section.standing_section = standing
        position += made
