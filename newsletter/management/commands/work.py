from __future__ import annotations

from newsletter import commands, tasks
from newsletter.commands import Answer


class Command(commands.Command):
    """`manage.py work`: the embedded worker, for a site without Redis."""

    help = "Send what is due from this process, until it is stopped. Needs no broker; safe beside other workers."

    def run(self, options: commands.Options) -> Answer:
        """Work until told to stop; the chunk in hand is finished first."""
        with commands.stopping() as stop:
            if not options["json"]:
                self.stdout.write("Working: looking for what is due; Ctrl-C finishes the chunk in hand and stops.")
            tasks.work(stop)
        return Answer("Stopped.", {"stopped": True})
