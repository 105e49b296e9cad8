from __future__ import annotations

from newsletter import commands, scheduling
from newsletter.models import Dispatch


class Command(commands.DispatchCommand):
    """`manage.py cancel_issue ISSUE`."""

    help = "End an issue that is scheduled or being sent; what is left is skipped."
    said = "cancelled"

    def change(self, dispatch: Dispatch, options: commands.Options) -> None:
        """End an issue that is scheduled or being sent; what is left is skipped. Raises scheduling.NotNow."""
        scheduling.cancel(dispatch)
