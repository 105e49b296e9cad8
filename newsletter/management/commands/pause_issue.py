from __future__ import annotations

from newsletter import commands, scheduling
from newsletter.models import Dispatch


class Command(commands.DispatchCommand):
    """`manage.py pause_issue ISSUE`."""

    help = "Stop handing over more of an issue; what is in hand is finished."
    said = "paused"

    def change(self, dispatch: Dispatch, options: commands.Options) -> None:
        """Stop handing over more of an issue; what is in hand is finished. Raises scheduling.NotNow."""
        scheduling.pause(dispatch, "Paused by hand.")
