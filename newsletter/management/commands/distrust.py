from __future__ import annotations

import datetime as dt

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from newsletter import commands, scheduling
from newsletter.commands import Answer


class Command(commands.Command):
    """`manage.py distrust --since ISO`: after restoring a backup, before any worker starts."""

    help = "After restoring a backup: take what may have been sent since it was made as in doubt, and pause."

    def add_arguments(self, parser: CommandParser) -> None:
        """When the backup was made."""
        parser.add_argument("--since", required=True, help="ISO date and time of the backup, in UTC without an offset.")

    def run(self, options: commands.Options) -> Answer:
        """Doubt, pause, and say how many."""
        try:
            since = parse_datetime(options["since"])
        except ValueError as error:
            raise CommandError(f"“{options['since']}” is no such moment: {error}.") from error
        if since is None:
            raise CommandError(f"“{options['since']}” is no date and time; write it like 2026-12-24T03:00.")
        if since.tzinfo is None:
            since = since.replace(tzinfo=dt.UTC)
        if since > timezone.now():
            raise CommandError(f"{options['since']} is yet to come: give the time at which the backup was made.")
        moved = scheduling.distrust(since)
        text = "{unconfirmed} deliveries are in doubt, {paused} dispatches are paused, {missed} were due since: missed."
        return Answer(text.format(**moved), moved)
