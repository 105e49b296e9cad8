from __future__ import annotations

from django.core.management.base import CommandParser

from newsletter import commands, events
from newsletter.commands import Answer


class Command(commands.Command):
    """`manage.py reconcile [ISSUE]`: what happens every night, now."""

    help = "Count opens and clicks anew from the rows, and put right what was off; safe while hits come."

    def add_arguments(self, parser: CommandParser) -> None:
        """Without an issue all that were sent within two weeks and had hits within two days."""
        parser.add_argument(
            "issue", nargs="?", help="Only this one, of whatever age, where none of its events were deleted."
        )

    def run(self, options: commands.Options) -> Answer:
        """How many were counted, and how many numbers were off."""
        if options["issue"]:
            issue = commands.find_issue(options["issue"])
            dispatches = list(issue.dispatches.order_by("pk").values_list("pk", flat=True))
        else:
            dispatches = events.to_recount()
        found = [events.recount(pk) for pk in dispatches]
        tallies, deliveries = sum(one.tallies for one in found), sum(one.deliveries for one in found)
        return Answer(
            f"{len(found)} dispatches counted anew: {tallies} tallies were off, and the first times of {deliveries}"
            " deliveries.",
            {"dispatches": len(found), "tallies": tallies, "deliveries": deliveries},
        )
