from __future__ import annotations

from django.core.management.base import CommandError, CommandParser

from newsletter import commands, scheduling
from newsletter.commands import Answer
from newsletter.models import Halt

ENDS = "`manage.py halt_sending --end` ends it"


class Command(commands.Command):
    """`manage.py halt_sending [--reason TEXT | --end]`: the switch that stops all sending of this site."""

    help = "Stop all sending of this site at once, or let it go on with --end."

    def add_arguments(self, parser: CommandParser) -> None:
        """A reason to stop, or the end of it."""
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--reason", help="Why, for whoever finds it halted; another one stands beside it.")
        way.add_argument("--end", action="store_true", help="Let sending go on.")

    def run(self, options: commands.Options) -> Answer:
        """Halt, or end the halt; refuses to end what is not halted."""
        before = Halt.objects.in_words()
        if options["end"]:
            if not scheduling.end_halt():
                raise CommandError("Nothing is halted.")
            return Answer(f"Sending goes on. It was halted: {before}", {"halted": False})
        reason = options["reason"] or ("" if before else "By hand.")
        added = bool(reason) and scheduling.halt(reason[:200])
        if not before:
            text = f"Halted: no chunk is claimed any more; {ENDS}."
        elif added:
            text = f"Sending was halted already: {before} Your reason stands beside that now; {ENDS}, for all reasons."
        else:
            text = f"Sending is halted already: {before} Nothing has changed; {ENDS}."
        reasons = [{"reason": halt.reason, "since": halt.since.isoformat()} for halt in Halt.objects.order_by("pk")]
        return Answer(text, {"halted": True, "reasons": reasons})
