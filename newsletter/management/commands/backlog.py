from __future__ import annotations

from dataclasses import asdict

from django.core.management.base import CommandError, CommandParser

from newsletter import commands, intake
from newsletter.commands import Answer
from newsletter.intake import Channel


class Command(commands.Command):
    """`manage.py backlog [--again]`: what came back and is not written down yet."""

    help = "What came back and waits to be written down, and what was set aside because it could not be."

    def add_arguments(self, parser: CommandParser) -> None:
        """What was set aside may be tried again."""
        parser.add_argument("--again", action="store_true", help="Let what was set aside be written down once more.")

    def run(self, options: commands.Options) -> Answer:
        """A line for each place."""
        moved = 0
        if options["again"]:
            try:
                moved = sum(intake.again(channel) for channel in Channel)
            except intake.Away as error:
                raise CommandError(f"Redis does not answer, so nothing was changed there: {error}") from error
        found = intake.look()
        rows = [
            (one.channel.value, one.place, one.waiting, f"{one.oldest:.0f} s" if one.waiting else "–", one.aside)
            for one in found
        ]
        text = commands.table(["what", "where", "waiting (files: bytes)", "oldest", "set aside"], rows)
        silent = intake.silent(found)
        said = [f"{place} does not answer: what waits in it is not known." for place in silent]
        text = "\n\n".join([text, *said, *intake.complaints(found), *([f"{moved} are tried again."] if moved else [])])
        return Answer(text, {"again": moved, "places": [asdict(one) for one in found], "silent": silent})
