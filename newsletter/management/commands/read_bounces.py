"""`manage.py read_bounces [--once|--watch]`: take what has come into the mailbox that BOUNCE_MAILBOX names."""

from __future__ import annotations

import threading
from typing import Any

from django.core.management.base import CommandError, CommandParser

from newsletter import commands, fetching
from newsletter.commands import Answer
from newsletter.models import BounceMailbox
from newsletter.receiving import Done
from newsletter.settings import ENV


class Command(commands.Command):
    """The worker does this every minute by itself; by hand it is for a first look, or where no worker is."""

    help = "Take bounces, complaints and unsubscribes out of the mailbox that BOUNCE_MAILBOX names."

    def add_arguments(self, parser: CommandParser) -> None:
        """Once, until nothing is left to take, or for ever."""
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--once", action="store_true", help="Take what there is now and end (what it does anyway).")
        way.add_argument("--watch", action="store_true", help="Go on, a look each minute, until Ctrl-C.")

    def run(self, options: commands.Options) -> Answer:
        """Look; refuse in a sentence where the mailbox cannot be read."""
        mailbox = fetching.current()
        if mailbox is None:
            wrong = fetching.problems(ENV.bounce_mailbox.get_secret_value())
            raise CommandError(" ".join(wrong) or "BOUNCE_MAILBOX is not set: it names the mailbox to read.")
        with commands.stopping() as stop:
            total = self._take(mailbox, stop)
            while options["watch"] and not stop.is_set():
                if total.taken or total.trouble:
                    self.stderr.write(total.trouble or _in_words(total))
                if not stop.wait(fetching.EVERY.total_seconds()):
                    total = self._take(mailbox, stop)
        if total.trouble:
            raise CommandError(total.trouble)
        if total.busy:
            return Answer("Another worker is reading it now.", {"busy": True})
        data: dict[str, Any] = {done.value: total.done[done] for done in Done}
        return Answer(_in_words(total), data | {"unreadable": total.unreadable, "waiting": total.waiting})

    def _take(self, mailbox: BounceMailbox, stop: threading.Event) -> fetching.Look:
        """Looks, one after the other, until nothing is left to take."""
        total = fetching.Look()
        with commands.progress_bar() as bar:
            task = bar.add_task("Reading", total=None, said="")
            while not stop.is_set():
                before = total.taken

                def tell(taken: int, waiting: int, before: int = before) -> None:
                    bar.update(task, completed=before + taken, total=before + taken + waiting)

                look = fetching.read(mailbox, stopping=stop.is_set, tell=tell)
                total = fetching.Look(
                    done={done: total.done[done] + look.done[done] for done in Done},
                    unreadable=total.unreadable + look.unreadable,
                    waiting=look.waiting,
                    trouble=look.trouble,
                    busy=look.busy,
                )
                if look.trouble or look.busy or not look.taken or not look.waiting:
                    break
        return total


def _in_words(look: fetching.Look) -> str:
    noted, repeated = look.done[Done.NOTED], look.done[Done.REPEATED]
    left = look.done[Done.LEFT] + look.done[Done.UNKNOWN]
    return (
        f"{noted} noted, {repeated} that had come before; {left} left in the mailbox because nothing follows from them,"
        f" {look.unreadable} because they could not be read."
    )
