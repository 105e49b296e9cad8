from __future__ import annotations

from newsletter import commands, scheduling
from newsletter.models import Dispatch


class Command(commands.DispatchCommand):
    """`manage.py unschedule_issue ISSUE`."""

    help = "Undo the scheduling of an issue that has not started."
    said = "a draft again"

    def change(self, dispatch: Dispatch, options: commands.Options) -> None:
        """Undo the scheduling of an issue that has not started. Raises scheduling.NotNow."""
        scheduling.unschedule(dispatch)
