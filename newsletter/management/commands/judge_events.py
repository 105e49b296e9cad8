from __future__ import annotations

import datetime as dt

from django.core.management.base import CommandError, CommandParser
from django.db.models import Count
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from newsletter import commands, events
from newsletter.commands import Answer
from newsletter.models import Dispatch, Event


class Command(commands.Command):
    """`manage.py judge_events [--issue ISSUE] [--since TIME]`: judge stored hits anew by the present rules."""

    help = "Judge stored opens and clicks anew, people or machines, by the present rules; counts follow."

    def add_arguments(self, parser: CommandParser) -> None:
        """All hits where nothing is named."""
        parser.add_argument("--issue", help="Only of this issue: its id (12), or newsletter and number (weekly/3).")
        parser.add_argument("--since", help="Only of mails with an open or click since then: 2026-11-27T08:00.")

    def run(self, options: commands.Options) -> Answer:
        """How many hits were looked at and how many are judged otherwise now, and what all are judged to be."""
        since = _time(options["since"]) if options["since"] else None
        dispatches = Dispatch.objects.order_by("pk")
        if options["issue"]:
            dispatches = dispatches.filter(issue=commands.find_issue(options["issue"]))
        hits = Event.objects.filter(dispatch__in=dispatches, kind__in=(Event.Kind.OPEN, Event.Kind.CLICK))
        looked_at = changed = 0
        with commands.progress_bar() as progress:
            task = progress.add_task("Judging", total=hits.count(), said="")

            def said(number: int) -> None:
                nonlocal looked_at
                looked_at += number
                progress.update(task, advance=number)

            for pk in dispatches.values_list("pk", flat=True):
                changed += events.judge_stored(pk, since=since, said=said)
        judged = dict(hits.values_list("judged").annotate(number=Count("pk")).order_by("judged"))
        text = f"{looked_at:,} opens and clicks judged, {changed:,} of them otherwise than before."
        if judged:
            text += "\n\n" + commands.table(["judged", "opens and clicks"], list(judged.items()))
        return Answer(text, {"looked_at": looked_at, "changed": changed, "judged": judged})


def _time(text: str) -> dt.datetime:
    try:
        found = parse_datetime(text) or parse_datetime(f"{text}T00:00")
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"“{text}” is no time; write it like 2026-11-27T08:00 or 2026-11-27.")
    return found if timezone.is_aware(found) else timezone.make_aware(found)
