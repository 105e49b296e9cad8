"""A view's author text, read: each text once, with what is wrong in it."""

from __future__ import annotations

from dataclasses import dataclass

from newsletter import fields, gate, markdown
from newsletter.content import IssueContent, SectionContent
from newsletter.gate import LockedSection
from newsletter.rendering import theme


@dataclass(frozen=True)
class ReadSection:
    """One section. Where it is locked, `body` is None and its heading links to nothing."""

    name: str
    heading: markdown.Document
    body: markdown.Document | None


@dataclass(frozen=True)
class Reading:
    """The author's text of one view, and a sentence for each merge field and theme value that cannot be used."""

    sections: tuple[ReadSection, ...]
    footer: markdown.Document
    errors: tuple[str, ...]


def read(view: gate.View) -> Reading:
    """Reads everything of `view` that is Markdown or holds merge fields."""
    issue = view.issue
    sections = tuple(_section(section) for section in view.sections)
    footer = markdown.parse(issue.theme.footer)
    errors = [
        f"{where}: {error}"
        for where, text in (
            ("The subject", issue.subject),
            ("The title", issue.title),
            ("The preheader", issue.preheader),
        )
        for error in fields.errors(text)
    ]
    errors += theme.problems(issue.theme)
    for section in sections:
        where = _place(section)
        found = [*section.heading.errors, *(section.body.errors if section.body else ())]
        errors += [f"{where}: {error}" for error in found]
    errors += [f"The footer: {error}" for error in footer.errors]
    return Reading(sections, footer, tuple(dict.fromkeys(errors)))


def without_upgrade(reading: Reading, issue: IssueContent) -> list[str]:
    """A sentence for each place that leads to a higher tier though the newsletter has no way to one.

    `reading` has no errors. A mail can be rendered all the same; the link is then only its label.
    """
    if issue.upgrade_url:
        return []
    lines = (("The subject", issue.subject), ("The title", issue.title), ("The preheader", issue.preheader))
    documents = [(where, markdown.parse_line(line)) for where, line in lines]
    for section in reading.sections:
        documents += [(_place(section), part) for part in (section.heading, section.body) if part]
    documents.append(("The footer", reading.footer))
    return [
        f"{place}: {{{{ upgrade_url }}}} leads nowhere, since the newsletter has no upgrade address; "
        "give it one, or take the merge field out."
        for place in dict.fromkeys(where for where, part in documents if "upgrade_url" in part.field_names())
    ]


def doubtful_marks(reading: Reading) -> list[str]:
    """A sentence for each mark behind a link that means nothing here, with its place."""
    documents = [(_place(section), part) for section in reading.sections for part in (section.heading, section.body)]
    documents.append(("The footer", reading.footer))
    return [f"{place}: {said}" for place, part in documents if part for said in part.doubtful_marks()]


def everything(issue: IssueContent) -> gate.View:
    """All sections of an issue, seen and locked: what some reader or other gets. For checks, never for a reader."""
    locked = tuple(LockedSection(section.heading) for section in issue.sections)
    return gate.View(issue, (*issue.sections, *locked))


def _place(section: ReadSection) -> str:
    return f"Section “{section.name}”" if section.name else "The lead"


def _section(section: SectionContent | LockedSection) -> ReadSection:
    heading = markdown.parse_line(section.heading)
    if isinstance(section, LockedSection):
        return ReadSection(heading.plain(), heading.without_links(), None)
    return ReadSection(heading.plain(), heading, markdown.parse(section.body))
