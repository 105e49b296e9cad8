from __future__ import annotations

from django.core.management.base import CommandError, CommandParser

from newsletter import commands, scheduling
from newsletter.commands import Answer


class Command(commands.Command):
    """`manage.py halt_sending [--reason TEXT | --end]`: the switch that stops all sending of this site."""

    help = "Stop all sending of this site at once, or let it go on with --end."

    def add_arguments(self, parser: CommandParser) -> None:
        """A reason to stop, or the end of it."""
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--reason", default="By hand.", help="Why, for whoever finds it halted.")
        way.add_argument("--end", action="store_true", help="Let sending go on.")

    def run(self, options: commands.Options) -> Answer:
        """Halt, or end the halt; refuses to end what is not halted."""
        if not options["end"]:
            scheduling.halt(options["reason"][:200])
            return Answer(
                "Halted: no chunk is claimed any more; `manage.py halt_sending --end` ends it.", {"halted": True}
            )
        if not scheduling.end_halt():
            raise CommandError("Nothing is halted.")
        return Answer("Sending goes on.", {"halted": False})
