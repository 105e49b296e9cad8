from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from django.core.management.base import CommandParser

from newsletter import commands
from newsletter.commands import Answer
from subscribers import importing

_LISTED = 20


class Command(commands.Command):
    """`manage.py import_subscribers FILE --newsletter SLUG`; `subscribers.importing` has the rules."""

    help = "Subscribe the readers of a CSV file with the columns email, name and tier to a newsletter."
    refusals = (importing.ImportRefused,)

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE is a CSV file on this machine."""
        parser.add_argument("file", type=Path, help="CSV file; comma, semicolon or tab between the columns.")
        parser.add_argument("--newsletter", required=True, metavar="SLUG", help="The newsletter they will get.")

    def run(self, options: commands.Options) -> Answer:
        """Import the file and count; the first rejected rows are listed, in JSON all of them."""
        newsletter = commands.find_newsletter(options["newsletter"])
        with commands.progress_bar() as bar:
            task = bar.add_task("Importing", total=None, said="")
            report = importing.import_file(
                options["file"],
                newsletter,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        return Answer(text=_text(report, newsletter.slug), data={"newsletter": newsletter.slug, **asdict(report)})


def _text(report: importing.Report, slug: str) -> str:
    counts = [
        (report.added, f"subscribed to {slug}"),
        (report.already, "subscribed already"),
        (report.updated, "subscribed already, name or tier brought up to date"),
        (report.kept, "left, paused or unconfirmed: kept so"),
        (report.suppressed, "suppressed: not subscribed"),
        (report.duplicates, "duplicate rows"),
        (len(report.rejected), "rejected rows"),
    ]
    lines = [f"{report.rows} rows."]
    lines += [f"{count:>8} {what}" for count, what in counts if count]
    lines.append("Tiers: " + ", ".join(f"{tier} {count}" for tier, count in report.tiers.items()) + ".")
    lines += [f"Line {rejected.line}: {rejected.reason}." for rejected in report.rejected[:_LISTED]]
    if len(report.rejected) > _LISTED:
        lines.append(f"… and {len(report.rejected) - _LISTED} more; `--json` lists them all.")
    return "\n".join(lines + report.notes)
