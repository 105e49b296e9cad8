from __future__ import annotations

from django.core.management.base import CommandError, CommandParser

from newsletter import commands, scheduling
from newsletter.models import Dispatch


class Command(commands.DispatchCommand):
    """`manage.py settle_issue ISSUE --resend | --accept | --retry-failed`: the author's word on what is left open."""

    help = "Settle the deliveries in doubt (resend or accept), or try those again that were refused."

    def add_arguments(self, parser: CommandParser) -> None:
        """ISSUE, and exactly one of the three ways."""
        super().add_arguments(parser)
        parser.add_argument("--sure", action="store_true", help="Retry though that may have been done after a backup.")
        way = parser.add_mutually_exclusive_group(required=True)
        way.add_argument("--resend", action="store_true", help="Send what is in doubt again: some may get it twice.")
        way.add_argument("--accept", action="store_true", help="Take what is in doubt as sent: some may never get it.")
        way.add_argument("--retry-failed", action="store_true", help="Try those again that the relay refused.")

    def change(self, dispatch: Dispatch, options: commands.Options) -> None:
        """Settle. Raises scheduling.NotNow."""
        if options["resend"]:
            number = scheduling.resend_unconfirmed(dispatch)
        elif options["retry_failed"]:
            number = self._retry(dispatch, sure=options["sure"])
        else:
            number = scheduling.accept_unconfirmed(dispatch)
        self.said = f"{number} settled; it is {{status}}"

    def _retry(self, dispatch: Dispatch, *, sure: bool) -> int:
        try:
            return scheduling.retry_failed(dispatch, sure=sure)
        except scheduling.NotSure as error:
            raise CommandError(f"{error} Find out, then try again with --sure.") from error
