from __future__ import annotations

from newsletter import commands, scheduling
from newsletter.models import Dispatch


class Command(commands.DispatchCommand):
    """`manage.py resume_issue ISSUE`."""

    help = "Go on with an issue that is paused."
    said = "goes on, and is {status}"

    def change(self, dispatch: Dispatch, options: commands.Options) -> None:
        """Go on with an issue that is paused. Raises scheduling.NotNow."""
        scheduling.resume(dispatch, by="manage.py resume_issue")
