from __future__ import annotations

from pathlib import Path

from django.core.management.base import CommandError, CommandParser

from newsletter import authoring, commands, importing, preflight, rendering, scheduling, variants, wording
from newsletter.commands import Answer
from newsletter.content import Profile, TrackingMode
from newsletter.models import Issue, Section
from subscribers.models import FREE_LEVEL, Tier


class Command(commands.Command):
    """`manage.py import_issue FILE --newsletter SLUG [--paid HEADING …]`: a file becomes a draft."""

    help = "Import an issue from Markdown or plain text; the same file again updates the same draft."
    refusals = (authoring.ImportRefused, scheduling.NotNow)

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE is Markdown with or without headers, or text pasted from a web editor."""
        parser.add_argument("file", type=Path, help="Markdown or plain text, in UTF-8.")
        parser.add_argument("--newsletter", required=True, metavar="SLUG", help="The newsletter it is an issue of.")
        parser.add_argument(
            "--paid",
            nargs="+",
            action="extend",
            metavar="HEADING",
            help="Sections for paid readers, with or without their emoji; all others are for everyone.",
        )
        parser.add_argument("--all-free", action="store_true", help="Every section is for everyone.")
        parser.add_argument("--tease", action="store_true", help="Show others the heading with an upgrade button.")
        parser.add_argument("--keep-headings", action="store_true", help="Keep the headings as standing sections.")

    def run(self, options: commands.Options) -> Answer:
        """Store the draft and measure it; refuses what cannot be read and an issue that is no longer a draft."""
        if options["tease"] and not options["paid"]:
            raise CommandError("--tease says what others see of a paid section: name one with --paid.")
        if options["all_free"] and options["paid"]:
            raise CommandError("--paid and --all-free contradict each other: give one of them.")
        newsletter = commands.find_newsletter(options["newsletter"])
        path: Path = options["file"]
        stored, parsed = importing.import_issue(
            newsletter,
            _bytes(path),
            filename=path.name,
            paid=[] if options["all_free"] else options["paid"],
            tease=options["tease"],
            keep_headings=options["keep_headings"],
        )
        issue = stored.issue
        html_bytes, warnings = _measure(issue)
        sections = [
            (section.heading, _audience(section), wording.count(section.body))
            for section in issue.sections.select_related("tier")
        ]
        warnings = [*stored.warnings, *warnings]
        data = {
            "issue": issue.pk,
            "number": issue.number,
            "subject": issue.subject,
            "html_bytes": html_bytes,
            "sections": [dict(zip(("heading", "audience", "words"), row, strict=True)) for row in sections],
            "warnings": warnings,
            "notes": list(parsed.notes),
        }
        done = "Imported" if stored.is_new else "Updated"
        number = "" if issue.number is None else f" {issue.number}"
        size = "" if html_bytes is None else f"{html_bytes:,} bytes of HTML."
        rows = [(heading or "(lead)", audience, words) for heading, audience, words in sections]
        lines = [
            f"{done} “{issue.title}” as a draft of {newsletter.name}{number};"
            f" `manage.py send_issue {issue.pk}` sends it.",
            "",
            commands.table(["section", "audience", "words"], rows),
            "",
            *filter(None, [size, *(f"Warning: {warning}" for warning in warnings), *parsed.notes]),
        ]
        return Answer("\n".join(lines), data)


def _bytes(path: Path) -> bytes:
    """The content of a file. Raises CommandError for what is no file, or too big to be an issue."""
    try:
        if path.is_dir():
            raise CommandError(f"{path} is a folder: name a file in it.")
        if path.exists() and not path.is_file():
            raise CommandError(f"{path} is no regular file: save the issue as a file and name that.")
        size = path.stat().st_size
        if size > authoring.MAX_BYTES:
            limit = f"{authoring.MAX_BYTES // 1024**2} MB"
            raise CommandError(f"{path.name} has {size / 1024**2:,.1f} MB; an issue may have at most {limit} of text.")
        with path.open("rb") as file:
            return file.read(authoring.MAX_BYTES + 1)  # it may have grown since; reading it then refuses it
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error


def _measure(issue: Issue) -> tuple[int | None, list[str]]:
    """Bytes of HTML that the reader of the highest tier gets, and warnings; None where it cannot be rendered yet."""
    content = issue.content()
    problems = preflight.problems(content)
    if problems:
        return None, problems
    highest = Tier.objects.order_by("-level").values_list("level", flat=True).first() or FREE_LEVEL
    profile = Profile(tier_level=highest, tracking=TrackingMode(issue.newsletter.tracking))
    try:
        rendered = variants.render(content, profile, dispatch_id=issue.pk)
    except rendering.RenderingError as error:
        return None, [str(error)]
    return rendered.html_bytes, list(rendered.warnings)


def _audience(section: Section) -> str:
    """Who a section is for, in a word: everyone, a tier's slug for it and above, below and its slug, or nobody."""
    if section.audience == Section.AudienceChoice.EVERYONE:
        return "everyone"
    if section.audience == Section.AudienceChoice.FROM_TIER:
        return section.tier.slug if section.tier else "nobody"
    return f"below {section.tier.slug}" if section.tier else "everyone"
