from __future__ import annotations

import datetime as dt

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from newsletter import commands, scheduling
from newsletter.commands import Answer
from newsletter.models import Dispatch


class Command(commands.Command):
    """`manage.py distrust --since ISO`: after restoring a backup, before any worker starts."""

    help = "After restoring a backup: take what may have been sent since it was made as in doubt, and pause."

    def add_arguments(self, parser: CommandParser) -> None:
        """When the backup was made."""
        parser.add_argument("--since", required=True, help="ISO date and time of the backup, in UTC without an offset.")

    def run(self, options: commands.Options) -> Answer:
        """Doubt, pause, and name what waits for whom; --json has the ids of the dispatches."""
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
        done = scheduling.distrust(since)
        text = [f"{done.unconfirmed} deliveries are in doubt."]
        if done.paused:
            text.append(f"Paused in mid-send, to be settled and resumed: {_named(done.paused)}.")
        if done.waiting:
            text.append(
                f"Not begun in the backup, waiting for somebody to resume or cancel them: {_named(done.waiting)}."
            )
        if done.cancelled:
            text.append(f"Single messages cancelled, since whoever misses one asks again: {done.cancelled}.")
        text.append("Drafts, and what was refused, are asked about when somebody sends them.")
        data = {
            "unconfirmed": done.unconfirmed,
            "cancelled": done.cancelled,
            "paused": _ids(done.paused),
            "waiting": _ids(done.waiting),
        }
        return Answer("\n".join(text), data)


def _named(dispatches: list[Dispatch]) -> str:
    return ", ".join(f"“{dispatch.issue}”" for dispatch in dispatches)


def _ids(dispatches: list[Dispatch]) -> list[int]:
    return [dispatch.pk for dispatch in dispatches]
